"""Handles of runs in other processes and threads, signals, arguments that make no sense."""

from __future__ import annotations

import asyncio
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import restore
from conftest import Platform, Small
from test_processes import Program, python


def toml(small: Small) -> Path:
    path = small.root / "restore.toml"
    path.write_text(
        "[site]\nname = 'file'\nstate = 'state'\n"
        "[stores.main]\nkind = 'directory'\npath = 'backups'\n"
        f"[components.crontab]\nkind = 'crontab'\nfile = '{small.crontab}'\n"
    )
    return path


def test_a_forked_child_does_not_hang_on_a_run(small: Small) -> None:
    ran = python(
        """
        import os, sys, restore
        run = restore.Site.open(sys.argv[1]).plan("latest").start()
        next(run)
        child = os.fork()
        if child == 0:
            for call in (lambda: next(run), run.cancel, run.wait):
                try:
                    call()
                except restore.RestoreError as error:
                    print(error.code, flush=True)
            del run
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(run.wait().outcome)
        """,
        toml(small),
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["python.forked"] * 3 + ["restored"]


def test_two_threads_may_follow_one_run(small: Small) -> None:
    for _ in range(20):
        run = small.site().plan("latest", over_unconfirmed=True).start()
        raised: list[BaseException] = []

        def follow() -> None:
            try:
                for _ in run:
                    pass
                assert run.report.outcome == "restored"
            except BaseException as error:
                raised.append(error)

        threads = [threading.Thread(target=follow) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert raised == []


def test_two_tasks_may_follow_one_run(small: Small) -> None:
    async def both() -> None:
        run = small.site().plan("latest").start()

        async def follow() -> str:
            async for _ in run:
                pass
            return run.report.outcome

        ended = await asyncio.wait_for(asyncio.gather(follow(), follow()), 30)
        assert set(ended) == {"restored"}

    asyncio.run(both())


def test_every_run_ends_with_its_event(small: Small) -> None:
    site = small.site()
    site.plan("latest").run()
    seen: list[restore.Event] = []
    site.confirm(on_event=seen.append)
    last = seen[-1]
    assert isinstance(last, restore.RunFinished) and last.outcome == "confirmed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_manager_s_signal_undoes_the_run(platform: Platform, number: int) -> None:
    text = "with restore.stop_on_signals():\n    plan.run(on_event=tell)\n"
    program = Program(platform, text)
    program.send_at("cut-over:redis", number)
    errors = program.end()
    assert program.process.returncode == 128 + number, errors
    platform.is_as_before()
    assert platform.site().report().outcome == "undone"


def test_the_signal_of_a_service_that_waits_on_a_loop_or_in_a_thread(platform: Platform) -> None:
    waiting = """
import asyncio
with restore.stop_on_signals():
    asyncio.run(plan.run_async(on_event=tell))
"""
    threaded = """
import threading
with restore.stop_on_signals():
    thread = threading.Thread(target=lambda: plan.run(on_event=tell))
    thread.start()
    thread.join()
"""
    for text in (waiting, threaded):
        program = Program(platform, text)
        program.send_at("cut-over:redis", signal.SIGTERM)
        errors = program.end()
        assert program.process.returncode == 128 + signal.SIGTERM, errors
        platform.is_as_before()
        assert platform.site().report().outcome == "undone"


def test_handlers_are_as_before_afterwards(small: Small) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with restore.stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    raised: list[restore.ConfigError] = []

    def elsewhere() -> None:
        try:
            with restore.stop_on_signals():
                pass
        except restore.ConfigError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert raised[0].code == "python.not_main_thread"


def test_what_makes_no_sense_is_an_error_of_the_module(small: Small) -> None:
    site = small.site()
    backup = site.backup("latest")
    wrong: list[Any] = [
        lambda: site.plan(None),  # type: ignore[arg-type]
        lambda: site.drill(5),  # type: ignore[arg-type]
        lambda: site.plan_prune(keep=-1),
        lambda: site.plan_prune(keep=2**70),
        lambda: site.plan_prune(older_than=5),  # type: ignore[arg-type]
        lambda: site.plan_prune(older_than=timedelta(-1)),
        lambda: site.back_up(level=1000),
        lambda: backup.verify(jobs=-1),
        lambda: site.plan("latest", to=restore.RecoveryTarget(xid=1, timeline=-1)),
        lambda: site.plan("latest", to=7),  # type: ignore[arg-type]
    ]
    for call in wrong:
        with pytest.raises(restore.ConfigError) as caught:
            call()
        assert caught.value.code == "python.argument", caught.value
    config = small.config()
    config["components"]["data"]["stops"] = [2**70]
    with pytest.raises(ValueError, match="too large"):
        restore.Site(config, base=small.root)


def test_hints_are_in_the_module_s_words(small: Small) -> None:
    (small.folder / "MANIFEST.txt").write_text(
        "Backup ID: 20240215-020000\nCreated: now\nType: cron\nTotal Size: 1M\nTotal Files: 2\n"
    )
    site = small.site()
    with pytest.raises(restore.RestoreError) as caught:
        site.plan("latest").run()
    assert "allow_unverified=True" in str(caught.value.hint), caught.value.hint
    with pytest.raises(restore.NotFoundError) as none:
        site.resume()
    assert "`site.history()`" in str(none.value.hint)


def test_a_missing_component_may_be_left_as_it_is(small: Small) -> None:
    (small.folder / "configs" / "crontab-20240215-020000.txt").unlink()
    small.write_manifest()
    site = small.site()
    refused = site.plan("20240215-020000").refusal
    assert refused is not None
    report = site.plan("20240215-020000", allow_missing=["crontab"]).run()
    assert report.outcome == "restored"
    assert small.live() == ("good", Small.DAMAGED[1])


