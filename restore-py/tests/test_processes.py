"""What happens to whole processes: signals, kills, forks, threads, the end of the program."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import restore
from conftest import Platform, Small

# Prints each step as it begins, and how it ended.
PROGRAM = """
import sys, restore
def tell(event):
    if isinstance(event, restore.StepStarted):
        print(event.step, flush=True)
plan = restore.Site.open(sys.argv[1]).plan("latest", only=sys.argv[2].split(","))
"""
SYNC = """
plan.run(on_event=tell)
"""
ASYNC = """
import asyncio
asyncio.run(plan.run_async(on_event=tell))
"""
ITERATED = """
with plan.start() as run:
    for event in run:
        tell(event)
"""
BARE = """
for event in plan.start():
    tell(event)
"""


class Program:
    def __init__(self, platform: Platform, text: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + text, platform.config, ",".join(platform.ONLY)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def send_at(self, step: str, number: int) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == step:
                self.process.send_signal(number)
                return
        raise AssertionError(f"no {step}: {self.end()}")

    def end(self) -> str:
        _, errors = self.process.communicate(timeout=60)
        return errors


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (SYNC, "backup:safety"),
        (SYNC, "stage:postgres"),
        (SYNC, "cut-over:redis"),
        (ASYNC, "stop:app"),
        (ITERATED, "start:app"),
        (BARE, "check:inside"),
    ],
)
def test_ctrl_c_undoes_the_run(platform: Platform, text: str, step: str) -> None:
    program = Program(platform, text)
    program.send_at(step, signal.SIGINT)
    errors = program.end()
    assert program.process.returncode == -signal.SIGINT, errors
    assert "KeyboardInterrupt" in errors
    # A bare iteration does not hear of what is raised between two events: its run undoes itself
    # as nobody holds it any more.
    if text in (SYNC, ITERATED) and sys.version_info >= (3, 11):
        assert "the platform is as it was" in errors
    platform.is_as_before()
    assert platform.site().report().outcome == "undone"


def test_what_a_signal_handler_raises_undoes_the_run(platform: Platform) -> None:
    leave = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
    program = Program(platform, leave + SYNC)
    program.send_at("stop:app", signal.SIGTERM)
    errors = program.end()
    assert program.process.returncode == 75, errors
    platform.is_as_before()


def test_a_program_that_ends_waits_for_the_undo(platform: Platform) -> None:
    program = Program(platform, "run = plan.start()\nfor event in run:\n  tell(event)\n  "
                      "if getattr(event, 'step', '') == 'stop:app': sys.exit(3)\n")
    errors = program.end()
    assert program.process.returncode == 3, errors
    platform.is_as_before()


def test_a_killed_run_is_resumed_or_rolled_back(platform: Platform) -> None:
    for step, finish in [("cut-over:redis", "resume"), ("cut-over:crontab", "rollback")]:
        program = Program(platform, SYNC)
        program.send_at(step, signal.SIGKILL)
        program.end()
        site = platform.site()
        left = site.report()
        assert left.outcome == "unfinished"
        assert isinstance(left.error, restore.StuckError)
        report = getattr(site, finish)()
        assert report.run == left.run
        if finish == "resume":
            assert report.outcome == "restored"
            site.rollback()
        else:
            assert report.outcome == "rolled_back"
        platform.is_as_before()


def python(text: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def toml(small: Small) -> Path:
    path = small.root / "restore.toml"
    path.write_text(
        "[site]\nname = 'file'\nstate = 'state'\n"
        "[stores.main]\nkind = 'directory'\npath = 'backups'\n"
        f"[components.crontab]\nkind = 'crontab'\nfile = '{small.crontab}'\n"
    )
    return path


def test_a_fork_is_told_what_to_do_instead(toml: Path) -> None:
    ran = python(
        """
        import os, sys, restore
        site = restore.Site.open(sys.argv[1])
        site.backups()
        child = os.fork()
        if child == 0:
            for call in (site.backups, lambda: restore.Site.open(sys.argv[1]).backups()):
                try:
                    call()
                except restore.RestoreError as error:
                    print(error.code, "|", error, "|", error.hint, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        assert len(site.backups()) == 1
        """,
        toml,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 2, ran.stdout
    for line in lines:
        assert line.startswith("python.forked | ") and "was forked from" in line
        assert "spawn" in line


def test_a_fork_before_the_first_use_is_well(toml: Path) -> None:
    ran = python(
        """
        import os, sys, restore
        site = restore.Site.open(sys.argv[1])
        child = os.fork()
        if child == 0:
            site.backups()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        site.backups()
        """,
        toml,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_program_may_end_right_after(toml: Path) -> None:
    """The library's threads have left the interpreter when it ends, however soon that is."""
    for _ in range(25):
        ran = python(
            """
            import asyncio, sys, restore
            asyncio.run(restore.Site.open(sys.argv[1]).check_async())
            """,
            toml,
        )
        assert (ran.returncode, ran.stderr) == (0, "")


def test_many_threads_work(toml: Path) -> None:
    ran = python(
        """
        import sys, restore
        def ids(path):
            return list(restore.Site.open(path).backups())
        restore.Site.open(sys.argv[1]).backups()
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool:
            assert all(len(found) == 1 for found in pool.map(ids, [sys.argv[1]] * 8))
        """,
        toml,
    )
    assert ran.returncode == 0, ran.stderr


def test_other_threads_run_meanwhile(platform: Platform) -> None:
    backup = platform.site().backup("latest")
    done = threading.Event()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            time.sleep(0.001)
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    backup.verify(deep=True)
    took = time.monotonic() - began
    done.set()
    thread.join()
    assert ticks > took * 50


def test_runs_work_from_any_thread(small: Small) -> None:
    reports: list[restore.Report] = []
    thread = threading.Thread(target=lambda: reports.append(small.site().plan("latest").run()))
    thread.start()
    thread.join()
    assert reports[0].outcome == "restored" and small.live() == Small.GOOD


def test_a_run_that_nobody_holds_undoes_itself(small: Small) -> None:
    run = small.site().plan("latest").start()
    next(run)
    del run
    deadline = time.monotonic() + 20
    while (report := small.site().report()).outcome == "unfinished":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # It may have come to its end first; there is nothing in between.
    assert (report.outcome, small.live()) in [
        ("undone", Small.DAMAGED),
        ("restored", Small.GOOD),
    ]
