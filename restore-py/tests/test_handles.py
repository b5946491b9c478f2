"""Handles of runs in other processes and threads, signals, arguments that make no sense."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
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
            print(repr(run), flush=True)
            del run
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(run.wait().outcome)
        """,
        toml(small),
    )
    assert ran.returncode == 0, ran.stderr
    shown = "<restore.Run: python.forked>"
    assert ran.stdout.splitlines() == ["python.forked"] * 3 + [shown, "restored"]


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
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
        lambda: site.plan("latest", only=5),  # type: ignore[arg-type]
        lambda: site.plan("latest", only=[1]),  # type: ignore[list-item]
        lambda: site.plan("latest", paths=[b"x"]),  # type: ignore[list-item]
        lambda: site.plan("latest", create="no"),  # type: ignore[arg-type]
        lambda: site.plan("latest", as_=5),  # type: ignore[arg-type]
        lambda: site.plan("latest", over=5),  # type: ignore[arg-type]
        lambda: site.plan("latest", secrets={"db": 5}),  # type: ignore[dict-item]
        lambda: site.plan("latest", nodes={"old": 5}),  # type: ignore[dict-item]
        lambda: site.plan("latest", nodes="old"),  # type: ignore[arg-type]
        lambda: site.backup(5),  # type: ignore[arg-type]
        lambda: site.bring(5),  # type: ignore[arg-type]
        lambda: site.fetch(None),  # type: ignore[arg-type]
        lambda: site.recoverable(None),  # type: ignore[arg-type]
        lambda: site.members("latest", 5),  # type: ignore[arg-type]
        lambda: site.difference("latest", most=-1),
        lambda: site.difference("latest", most=2**70),
        lambda: site.get("latest", None, "out"),  # type: ignore[arg-type]
        lambda: site.get("latest", "x", 5),  # type: ignore[arg-type]
        lambda: site.rollback(backup),  # type: ignore[arg-type]
        lambda: site.report(5),  # type: ignore[arg-type]
        lambda: site.page(1),  # type: ignore[arg-type]
        lambda: site.plan_prune(keep_daily=-1),
        lambda: backup.find(5),  # type: ignore[arg-type]
        lambda: backup.local_path(5),  # type: ignore[arg-type]
        lambda: restore.Run.attach("restore.toml"),  # type: ignore[arg-type]
        lambda: restore.Plan.from_dict("x", {}),  # type: ignore[arg-type]
        lambda: restore.Site.open(5),  # type: ignore[arg-type]
    ]
    for call in wrong:
        with pytest.raises(restore.ConfigError) as caught:
            call()
        assert caught.value.code == "python.argument", caught.value
    # Nothing is begun for whoever cannot hear of it.
    plan = site.plan("latest")
    with pytest.raises(restore.ConfigError) as deaf:
        plan.run(on_event=5)  # type: ignore[arg-type]
    with pytest.raises(restore.ConfigError):
        asyncio.run(plan.run_async(on_event=5))  # type: ignore[arg-type]
    assert deaf.value.code == "python.argument" and "on_event" in str(deaf.value)
    assert site.history() == []
    config = small.config()
    config["components"]["data"]["stops"] = [2**70]
    with pytest.raises(ValueError, match="too large"):
        restore.Site(config, base=small.root)


def test_whoever_has_what_an_id_names_may_give_that(small: Small) -> None:
    site = small.site()
    made = site.back_up()
    (listed,) = [it for it in site.backups().listed if it.id == made.id]
    assert site.backup(made).id == site.backup(listed).id == site.bring(made, wait=1).id == made.id
    plan = site.plan(listed)
    assert plan == restore.Plan.from_dict(site, plan.to_dict()) and plan.backup == made.id
    report = plan.run()
    assert site.report(report) == report
    assert site.preview_rollback(report).run == report.run
    back = site.rollback(report)
    assert back.outcome == "rolled_back"
    assert site.confirm(back).confirmed
    assert restore.Run.attach(site, report).wait().run == report.run


def test_secrets_are_named_by_their_files(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.root)
    site = small.site()
    plan = site.plan("latest", secrets={"db_password": "vault/db"})
    # In full: a later process may be called elsewhere.
    named = {"db_password": str(small.root / "vault" / "db")}
    assert plan.to_dict()["request"]["secrets"] == {"named": named}
    plan = site.plan("latest", secrets=small.root / "vault")
    assert plan.to_dict()["request"]["secrets"] == {"directory": str(small.root / "vault")}
    assert "secrets" not in site.plan("latest").to_dict()["request"]


def test_nodes_take_the_place_of_others(small: Small) -> None:
    site = small.site()
    plan = site.plan("latest", nodes={"old": "new"})
    assert plan.to_dict()["request"]["nodes"] == {"old": "new"}
    # Here there are none.
    assert "plan.no_nodes" in [it.code for it in plan.findings]
    assert "nodes" not in site.plan("latest").to_dict()["request"]


def test_the_run_to_abandon_is_told_beforehand(small: Small) -> None:
    site = small.site()
    with pytest.raises(restore.NotFoundError) as none:
        site.preview_abandon()
    assert none.value.code == "run.none_to_abandon"
    report = site.plan("latest").run()
    with pytest.raises(restore.PreflightError) as over:
        site.preview_abandon(report)
    assert over.value.code == "run.finished"


def test_a_drill_that_finds_no_backup_is_told(small: Small) -> None:
    """Nobody looks at what a timer starts."""
    called = small.root / "called"
    command = f'echo "$RESTORE_WHEN $RESTORE_SUBJECT" >>{called}'
    hook = {"kind": "command", "when": ["on-failure"], "command": ["/bin/sh", "-c", command]}
    site = restore.Site({**small.config(), "hooks": {"tell": hook}}, base=small.root)
    assert site.drill("latest").outcome == "drilled" and not called.exists()
    shutil.rmtree(small.folder)
    with pytest.raises(restore.NotFoundError):
        site.drill("latest")
    assert called.read_text() == "on-failure drill\n"


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
    with pytest.raises(restore.ConfigError) as rules:
        site.plan_prune()
    assert "keep=N" in str(rules.value.hint) and "--" not in str(rules.value.hint)


def test_only_databases_are_restored_beside_what_is_live(small: Small) -> None:
    site = small.site()
    with pytest.raises(restore.ConfigError) as name:
        site.plan("latest", as_="monday")
    with pytest.raises(restore.ConfigError) as tables:
        site.plan("latest", tables="public.orders")
    with pytest.raises(restore.ConfigError) as nothing:
        site.plan("latest", tables=[])
    assert name.value.code == tables.value.code == "plan.not_beside"
    assert nothing.value.code == "plan.nothing_selected"


def test_a_missing_component_may_be_left_as_it_is(small: Small) -> None:
    (small.folder / "configs" / "crontab-20240215-020000.txt").unlink()
    small.write_manifest()
    site = small.site()
    refused = site.plan("20240215-020000").refusal
    assert refused is not None
    report = site.plan("20240215-020000", allow_missing=["crontab"]).run()
    assert report.outcome == "restored"
    assert small.live() == ("good", Small.DAMAGED[1])




def test_the_wished_for_line(small: Small) -> None:
    class Bar:
        seen: list[float] = []

        def update(self, fraction: float) -> None:
            self.seen.append(fraction)

    bar = Bar()
    with small.site().plan("latest").start() as run:
        for p in run.progress():
            bar.update(p.fraction)
    assert run.report.outcome == "restored" and run.state == "done"
    assert bar.seen == sorted(bar.seen) and bar.seen[-1] == 1.0
    now = run.progress_now()
    assert now.left_seconds == 0 and str(now).startswith("100%")


def test_several_follow_one_run_from_its_first_event(small: Small) -> None:
    run = small.site().plan("latest").start()
    first = list(run)
    again = list(run.events())
    assert first == again and len(first) > 10
    assert run.id == run.report.run and repr(run) == f"<restore.Run {run.id}: done>"
    assert isinstance(first[0], restore.RunStarted) and first[0].action == "run"
    assert all(event.run == run.id and event.at.tzinfo is not None for event in first)
    phases = {event.phase for event in first}
    assert {"stage", "cut_over"} <= phases, phases

    async def late() -> list[restore.Event]:
        return [event async for event in run.events()]

    assert asyncio.run(late()) == first

    async def progress() -> list[float]:
        return [p.fraction async for p in run.progress()]

    assert asyncio.run(progress())[-1] == 1.0


def test_whoever_only_follows_stops_nothing(small: Small) -> None:
    async def both() -> None:
        run = small.site().plan("latest").start()

        async def follow() -> None:
            async for _ in run.events():
                await asyncio.sleep(3600)

        follower = asyncio.create_task(follow())
        await asyncio.sleep(0)
        follower.cancel()
        report = await run.wait_async()
        assert report.outcome == "restored"

    asyncio.run(both())


def test_what_came_of_it_is_for_all_who_ask(small: Small) -> None:
    site = small.site()
    run = site.plan("latest").start()
    first = run.wait()
    assert run.wait() == first == run.report == run._task.result() == run._task.result()
    opened = site._backup("latest")
    assert [opened.wait().id for _ in range(2)] == ["20240215-020000"] * 2
    failed = site.start_resume()
    for _ in range(2):
        with pytest.raises(restore.NotFoundError):
            failed.wait()
        with pytest.raises(restore.NotFoundError):
            failed._task.result()


def damage(small: Small) -> None:
    """Another byte in an archive, which is found once it is read."""
    archive = next(small.folder.glob("volumes/*"))
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)


def test_a_run_that_failed_is_not_done(small: Small) -> None:
    site = small.site()
    plan = site.plan("latest")
    damage(small)
    run = plan.start()
    seen: list[float] = []
    with pytest.raises(restore.RestoreError) as caught:
        for now in run.progress():
            seen.append(now.fraction)
    report = caught.value.report
    assert report is not None and report.outcome == "undone" and report.error is not None
    assert run.state == "failed" and repr(run) == f"<restore.Run {report.run}: failed>"
    assert seen and max(seen) < 1 and run.progress_now().fraction < 1
    for _ in range(2):
        with pytest.raises(restore.RestoreError) as again:
            run.wait()
        assert again.value.report == report

    async def waiting() -> restore.Run[restore.Report]:
        run = plan.start()
        fractions = []
        with pytest.raises(restore.RestoreError):
            async for now in run.progress():
                fractions.append(now.fraction)
        with pytest.raises(restore.RestoreError) as caught:
            await run.wait_async()
        assert caught.value.report is not None and caught.value.report.outcome == "undone"
        assert fractions and max(fractions) < 1
        return run

    assert asyncio.run(waiting()).state == "failed"


def test_who_follows_a_run_that_failed_gets_its_exception(small: Small) -> None:
    site = small.site()
    plan = site.plan("latest")
    damage(small)
    with pytest.raises(restore.RestoreError) as caught:
        plan.run()
    failed = caught.value.report
    assert failed is not None
    run = site.attach(failed.run)
    seen: list[restore.Event] = []
    with pytest.raises(restore.RestoreError) as followed:
        for event in run:
            seen.append(event)
    assert isinstance(seen[-1], restore.RunFinished) and seen[-1].outcome == "undone"
    assert run.state == "failed" and run.progress_now().fraction < 1
    assert (followed.value.code, followed.value.component) == (caught.value.code, "data")
    assert followed.value.report == failed
    with pytest.raises(restore.RestoreError) as watched:
        site.watch(failed)
    assert watched.value.code == caught.value.code and watched.value.report == failed
    # To look is no failure.
    assert site.report(failed).outcome == "undone" == site.history()[-1].outcome


class Stopped:
    """What the native half gives of a run that is stuck once it was stopped: who waits is woken in order."""

    id = "20240215-093000-7f3a"

    def __init__(self, *, last_first: bool) -> None:
        self.state = "under_way"
        self.waiting: list[Callable[[], None]] = []
        self.last_first = last_first

    def follow(self) -> Stopped:
        return self

    def ready(self) -> tuple[tuple[()], bool]:
        return (), self.state == "failed"

    def wake(self, wake: Callable[[], None]) -> None:
        self.waiting.append(wake)

    def cancel(self) -> None:
        asyncio.get_running_loop().call_later(0.01, self.end)

    def end(self) -> None:
        self.state = "failed"
        for wake in self.waiting[::-1] if self.last_first else self.waiting:
            wake()

    def result(self) -> None:
        if self.state != "failed":
            raise RuntimeError("it has not ended")
        raise restore.StuckError("the platform is neither", code="run.stuck")


@pytest.mark.parametrize("last_first", [False, True])
def test_whoever_stops_a_run_hears_of_its_end_whoever_follows_it(last_first: bool) -> None:
    async def both() -> None:
        run: restore.Run[Any] = restore.Run(Stopped(last_first=last_first))  # type: ignore[arg-type]

        async def follow() -> None:
            async for _ in run.events():
                pass

        owner = asyncio.create_task(run.wait_async())
        follower = asyncio.create_task(follow())
        await asyncio.sleep(0)
        owner.cancel()
        ended = await asyncio.gather(owner, follower, return_exceptions=True)
        assert [type(it) for it in ended] == [restore.StuckError] * 2
        with pytest.raises(restore.StuckError):
            run.report

    asyncio.run(both())


def test_only_whoever_is_cancelled_is(small: Small) -> None:
    async def both() -> None:
        run = small.site().plan("latest").start()

        async def follow() -> None:
            async for _ in run.events():
                pass

        owner = asyncio.create_task(run.wait_async())
        follower = asyncio.create_task(follow())
        await asyncio.sleep(0)
        owner.cancel()
        ended = await asyncio.gather(owner, follower, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError)
        # It may have been as good as over.
        assert ended[1] is None or isinstance(ended[1], restore.StoppedError), ended

    asyncio.run(both())


def test_every_long_call_has_a_handle(small: Small) -> None:
    site = small.site()
    made = site.start_back_up().wait()
    verified = site.backup(made.id).start_verify(deep=True)
    assert [p.fraction for p in verified.progress()][-1] == 1.0 and verified.report
    assert site.start_fetch(made.id).wait().already_there
    assert site.start_drill(made.id).wait().outcome == "drilled"
    report = site.start_plan("latest").wait().run()
    rolled_back = site.start_rollback(report.run)
    assert rolled_back.wait().outcome == "rolled_back"
    assert site.start_confirm(report.run).wait().confirmed
    failed = site.start_resume()
    with pytest.raises(restore.NotFoundError):
        for _ in failed:
            pass
    assert failed.state == "failed"


def test_a_run_of_another_process_is_followed(small: Small) -> None:
    site = small.site()
    report = site.plan("latest").run()
    run = restore.Run.attach(site, report.run)
    assert [type(event).__name__ for event in run][-1] == "RunFinished"
    assert run.report.run == report.run == site.attach().wait().run
    with pytest.raises(restore.NotFoundError):
        site.attach("20200101-000000-aaaa").wait()


def test_who_waits_gets_the_lock(small: Small) -> None:
    site = small.site()
    (small.root / "state").mkdir(mode=0o700, exist_ok=True)
    program = """
        import fcntl, sys, time
        with open(sys.argv[1], "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            print("held", flush=True)
            time.sleep(1.5)
        """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), small.root / "state" / "lock"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    plan = site.plan("latest")
    with pytest.raises(restore.LockedError):
        plan.run()
    seen: list[restore.Event] = []
    assert plan.run(wait=60, on_event=seen.append).outcome == "restored"
    assert isinstance(seen[0], restore.Noticed) and seen[0].finding.code == "site.locked"
    holder.wait()
    with pytest.raises(restore.ConfigError):
        plan.run(wait=-1)
