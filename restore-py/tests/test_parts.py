"""Checks, stores, hooks and maintenance modes written in Python, by their kinds in the configuration."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Optional

import pytest
import restore
from conftest import BACKUP, REPOSITORY, Small

sys.path.insert(0, str(REPOSITORY / "examples" / "python"))
from own_check import FreshFile  # noqa: E402
from own_hook import Diary  # noqa: E402
from own_maintenance import Flag  # noqa: E402
from own_store import ByYear  # noqa: E402


def checking(small: Small, check: type[restore.Check], **options: Any) -> restore.Site:
    config = {**small.config(), "checks": {"own": {"kind": check.kind, **options}}}
    return restore.Site(config, base=small.root, checks=[check])


def test_a_check(small: Small) -> None:
    site = checking(small, FreshFile, file="ready")
    (outcome,) = site.check()
    assert outcome.name == "own" and not outcome
    assert outcome.detail.startswith("FileNotFoundError: ")
    (small.root / "ready").touch()
    (outcome,) = asyncio.run(site.check_async())
    assert outcome and "ready was written at" in outcome.detail


def test_a_check_of_the_file_of_a_site(small: Small) -> None:
    file = small.root / "restore.toml"
    file.write_text(
        "[site]\nname = 'file'\nstate = 'state'\n"
        "[stores.main]\nkind = 'directory'\npath = 'backups'\n"
        f"[components.crontab]\nkind = 'crontab'\nfile = '{small.crontab}'\n"
        "[checks.ready]\nkind = 'fresh-file'\nfile = 'ready'\n"
    )
    (outcome,) = restore.Site.open(file, checks=[FreshFile]).check()
    assert str(small.root / "ready") in outcome.detail
    known = restore.Site.check_config(file, checks=[FreshFile]).findings
    unknown = restore.Site.check_config(file).findings
    assert not any("fresh-file" in finding.message for finding in known), known
    assert any("fresh-file" in finding.message for finding in unknown), unknown
    with pytest.raises(restore.ConfigError) as caught:
        restore.Site.open(file)
    assert caught.value.code == "config.unknown_kind"


def test_a_check_turns_a_run_back(small: Small) -> None:
    moments: list[Optional[datetime]] = []
    threads: set[Optional[str]] = set()

    class Damaged(restore.Check):
        kind = "damaged"

        def run(self, since: Optional[datetime]) -> restore.CheckOutcome:
            moments.append(since)
            threads.add(threading.current_thread().name)
            content = (small.volume / "data.txt").read_text()
            return self.outcome(content == "damaged", f"it is {content}")

    site = checking(small, Damaged, timeout="300ms")
    assert site.check()[0] and moments == [None]
    with pytest.raises(restore.FailedError) as caught:
        site.plan("latest").run()
    report = caught.value.report
    assert report is not None and report.outcome == "undone"
    assert "it is good; tried for 300ms" in str(caught.value)
    assert small.live() == Small.DAMAGED
    # Again and again, with when it was that the services were started.
    started = [it for it in moments if it is not None]
    assert len(started) > 1 and all(it.tzinfo is not None for it in started)
    assert threading.main_thread().name not in threads


def test_a_check_holds_no_event_loop_up(small: Small) -> None:
    asked, answered = threading.Event(), threading.Event()

    class Waiting(restore.Check):
        kind = "waiting"

        def run(self, since: Optional[datetime]) -> restore.CheckOutcome:
            asked.set()
            return self.outcome(answered.wait(20), "answered by the loop")

    async def both() -> None:
        made = asyncio.ensure_future(checking(small, Waiting).check_async())
        while not asked.is_set():
            await asyncio.sleep(0.01)
        answered.set()
        assert (await made)[0]

    asyncio.run(both())


def test_a_check_that_answers_nothing_fails(small: Small) -> None:
    class Odd(restore.Check):
        kind = "odd"

        def run(self, since: Optional[datetime]) -> restore.CheckOutcome:
            return True  # type: ignore[return-value]

    (outcome,) = checking(small, Odd).check()
    assert not outcome and outcome.detail == "run() returned True, not a CheckOutcome"


def test_keys_of_a_check(small: Small) -> None:
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"when": "never"}, "config.bad_value", "`when`"),
        ({"timeout": 3}, "config.bad_value", "`timeout`"),
        ({"fiel": "x"}, "config.unknown_key", "`fiel`"),
    ]
    for options, code, word in wrong:
        with pytest.raises(restore.ConfigError) as caught:
            checking(small, FreshFile, file="ready", **options)
        assert caught.value.code == code, caught.value
        assert "[checks.own]" in str(caught.value) and word in str(caught.value)


class Local(ByYear):
    """On this host, so that nothing need be fetched."""

    kind = "by-year-here"

    def local_path(self, id: str, path: str) -> Optional[Path]:
        return self.root / id[:4] / id / path


def stored(small: Small, store: type[restore.Store]) -> restore.Site:
    """The site whose one backup is in a store of that class."""
    year = small.root / "years" / BACKUP[:4]
    if not year.exists():
        year.mkdir(parents=True)
        shutil.move(small.folder, year)
        (small.root / "years" / "lost+found").mkdir()
    config = small.config()
    config["stores"]["years"] = {"kind": store.kind, "root": "years"}
    return restore.Site(config, base=small.root, stores=[store])


def test_a_store(small: Small) -> None:
    site = stored(small, ByYear)
    assert site.stores["years"] == "by-year years"
    assert list(site.backups()) == [BACKUP]
    backup = site.backup("latest")
    assert backup.store == "by-year years"
    assert backup.verify().verdict == "verified"
    with pytest.raises(restore.PreflightError) as caught:
        site.plan(backup)
    assert caught.value.code == "backup.not_local"
    brought = site.bring("latest")
    assert site.plan(brought).run().outcome == "restored"
    assert small.live() == Small.GOOD


def test_a_store_of_this_host(small: Small) -> None:
    site = stored(small, Local)
    site.plan(site.backup(BACKUP)).run()
    assert small.live() == Small.GOOD
    assert [it.name for it in (small.root / "backups").iterdir() if it.name == BACKUP] == []


def test_what_a_store_changes_is_never_restored(small: Small) -> None:
    class Changing(ByYear):
        kind = "changing"

        def read(self, id: str, path: str, offset: int) -> BinaryIO:
            content = super().read(id, path, 0).read()
            if path.startswith("volumes/"):
                content = content[:-1] + b"?"
            return io.BytesIO(content[offset:])

    with pytest.raises(restore.VerificationError):
        stored(small, Changing).bring("latest")
    assert small.live() == Small.DAMAGED


def test_exceptions_of_a_store_are_errors(small: Small) -> None:
    class Down(ByYear):
        kind = "down"

        def ids(self) -> Iterable[str]:
            raise restore.FailedError("asleep", code="years.asleep", hint="wake it", retryable=True)

    site = stored(small, Down)
    with pytest.raises(restore.FailedError) as caught:
        site.backups()
    error = caught.value
    assert (error.code, error.hint, error.retryable) == ("years.asleep", "wake it", True)
    assert str(error).endswith("asleep") and isinstance(error.__cause__, restore.FailedError)

    class Broken(ByYear):
        kind = "broken"

        def files(self, id: str) -> Iterable[restore.BackupFile]:
            raise ZeroDivisionError("in files")

    with pytest.raises(restore.RestoreError) as raised:
        stored(small, Broken).backup(BACKUP)
    assert raised.value.code == "python.exception"
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_backup_that_a_store_has_not(small: Small) -> None:
    stored(small, ByYear)
    store = ByYear("years", {"root": "years"}, small.root)
    with pytest.raises(restore.NotFoundError) as caught:
        store._restore_files("20200101-000000")
    assert caught.value.code == "store.no_such_backup"
    assert isinstance(caught.value.__cause__, FileNotFoundError)


class Writable(ByYear):
    kind = "writable"

    def create(self, id: str) -> None:
        (self.root / id[:4]).mkdir(exist_ok=True)
        (self.root / id[:4] / id).mkdir(mode=0o700)

    def write(self, id: str, path: str, private: bool) -> BinaryIO:
        file = self.root / id[:4] / id / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("xb")

    def publish(self, id: str, manifest: str) -> None:
        (self.root / id[:4] / id / "MANIFEST.txt").write_text(manifest)

    def remove(self, id: str) -> None:
        (self.root / id[:4] / id / "MANIFEST.txt").unlink()
        shutil.rmtree(self.root / id[:4] / id)


def test_backups_are_made_in_a_store(small: Small) -> None:
    site = stored(small, Writable)
    made = site.back_up(to="years")
    assert made.store == "years" and made.kind == "full"
    assert site.backup("latest").id == made.id
    assert site.backup(made.id).verify().verdict == "verified"
    folder = small.root / "years" / made.id[:4] / made.id
    assert (folder / "MANIFEST.txt").exists()
    # The older one goes, and the newest stays.
    site.plan_prune(keep=1, store="years").run()
    assert list(site.backups()) == [made.id]
    store = Writable("years", {"root": "years"}, small.root)
    with pytest.raises(restore.PreflightError) as caught:
        store._restore_create(made.id)
    assert caught.value.code == "backup.exists"


def test_a_store_that_only_reads(small: Small) -> None:
    with pytest.raises(restore.PreflightError) as caught:
        stored(small, ByYear).back_up(to="years")
    assert caught.value.code == "store.read_only" and "by-year years" in str(caught.value)


def test_a_store_that_cannot_be_written_to_any_more(small: Small) -> None:
    class Full(Writable):
        kind = "full"

        def write(self, id: str, path: str, private: bool) -> BinaryIO:
            class Nowhere(io.BytesIO):
                def write(self, content: Any) -> int:
                    raise restore.FailedError("the disk is full", code="years.full")

            return Nowhere()

    with pytest.raises(restore.FailedError) as caught:
        stored(small, Full).back_up(to="years")
    assert caught.value.code == "years.full", caught.value
    # What there is of it is no backup: the older one is the latest still.
    assert len(list((small.root / "years").rglob("MANIFEST.txt"))) == 1
    assert stored(small, Full).backup("latest").id == BACKUP


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("ids", "abc"),
        ("ids", [3]),
        ("files", [3]),
        ("files", None),
        ("files", [restore.BackupFile("../../etc/passwd", 1)]),
        ("read", 3),
        ("read", io.StringIO),
    ],
)
def test_what_a_store_may_not_answer(small: Small, method: str, answer: object) -> None:
    class Odd(ByYear):
        kind = "odd"

    # A stream is closed by whoever reads it: each call gives its own.
    made = answer if callable(answer) else lambda: answer
    setattr(Odd, method, lambda self, *given: made())
    site = stored(small, Odd)
    with pytest.raises(restore.RestoreError) as caught:
        site.backups()
        site.backup(BACKUP).verify().raise_if_failed()
    told = str(caught.value)
    assert f"{method}()" in told or "not a path inside a backup's folder" in told


def test_hooks_hear_of_a_run_and_of_a_backup(small: Small) -> None:
    moments = ["before-stop", "on-success"]
    hook: dict[str, Any] = {"kind": "diary", "file": "diary", "when": moments}
    config = {**small.config(), "hooks": {"diary": hook}}
    site = restore.Site(config, base=small.root, hooks=[Diary])
    site.back_up()
    site.plan(BACKUP).run()
    lines = (small.root / "diary").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["on-success", "backup"],
        ["before-stop", "run"],
        ["on-success", "run"],
    ]
    assert BACKUP in lines[1]
    changes: list[dict[str, Any]] = [{"when": []}, {"for": ["backup"]}, {"timeout": "soon"}]
    for change in changes:
        with pytest.raises(restore.ConfigError, match=r"\[hooks.diary\]"):
            wrong = {**config, "hooks": {"diary": {**hook, **change}}}
            restore.Site(wrong, base=small.root, hooks=[Diary])


def test_what_a_hook_is_told(small: Small) -> None:
    told: list[restore.HookNotice] = []

    class Listening(restore.Hook):
        kind = "listening"

        def call(self, notice: restore.HookNotice) -> None:
            told.append(notice)

    hook = {"kind": "listening", "when": ["after-swap", "on-success", "on-failure"]}
    config = {**small.config(), "hooks": {"it": hook}}
    site = restore.Site(config, base=small.root, hooks=[Listening])
    made = site.back_up()
    report = site.plan(BACKUP).run()
    site.confirm()
    archive = small.folder / "volumes" / f"data-{BACKUP}.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-8])
    with pytest.raises(restore.VerificationError):
        site.drill(BACKUP)
    backed_up, swapped, ended, failed = told
    assert {notice.site for notice in told} == {"small"} and backed_up.hook == "it"
    assert (backed_up.subject, backed_up.when) == ("backup", "on-success")
    assert backed_up.backup is not None and backed_up.backup.id == made.id
    assert backed_up.report is None and swapped.when == "after-swap"
    for notice in (swapped, ended):
        assert notice.subject == "run" and notice.report is not None
        assert notice.report.run == report.run and notice.error is None
        assert notice.document["report"]["run"] == report.run
    assert (failed.subject, failed.when) == ("drill", "on-failure")


@pytest.mark.parametrize("when", ["before-stop", "after-swap", "on-success"])
def test_an_exception_of_a_hook(small: Small, when: str) -> None:
    class Failing(restore.Hook):
        kind = "failing"

        def call(self, notice: restore.HookNotice) -> None:
            raise ZeroDivisionError("in a hook")

    config = {**small.config(), "hooks": {"it": {"kind": "failing", "when": [when]}}}
    site = restore.Site(config, base=small.root, hooks=[Failing])
    if when == "on-success":
        report = site.plan("latest").run()
        assert any("in a hook" in str(finding) for finding in report.findings)
        assert small.live() == Small.GOOD
        return
    with pytest.raises(restore.RestoreError) as caught:
        site.plan("latest").run()
    assert "ZeroDivisionError: in a hook" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert small.live() == Small.DAMAGED


def with_page(small: Small, mode: type[restore.Maintenance]) -> restore.Site:
    """The site with a service, a file that is there while it runs, and a page."""
    up = small.root / "up"
    up.touch()
    config = small.config()
    config["services"] = {
        "app": {
            "start": ["touch", str(up)],
            "stop": ["rm", "-f", str(up)],
            "status": ["test", "-e", str(up)],
        }
    }
    config["components"]["data"]["stops"] = ["app"]
    config["maintenance"] = {"kind": mode.kind, "file": "page.html"}
    return restore.Site(config, base=small.root, maintenance=[mode])


def test_a_maintenance_mode(small: Small) -> None:
    page = small.root / "page.html"
    shown: list[bool] = []

    class Seen(Flag):
        def on(self, run: str, since: datetime) -> None:
            assert since.tzinfo is not None
            super().on(run, since)
            shown.append(page.exists() and (small.root / "up").exists())

    site = with_page(small, Seen)
    site.plan("latest").run()
    assert shown == [True] and not page.exists() and small.live() == Small.GOOD
    site.page(True)
    assert "Back soon" in page.read_text()
    site.page(False)
    assert not page.exists()


def test_a_page_that_fails(small: Small) -> None:
    class Failing(Flag):
        kind = "failing"

        def inspect(self) -> Iterable[restore.Finding]:
            yield restore.Finding("info", "page.odd", "page", "it is only a file")

        def on(self, run: str, since: datetime) -> None:
            raise ZeroDivisionError("in on")

    site = with_page(small, Failing)
    plan = site.plan("latest")
    assert "page.odd" in [finding.code for finding in plan.findings]
    with pytest.raises(restore.RestoreError) as caught:
        plan.run()
    assert "ZeroDivisionError: in on" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (small.root / "up").exists() and small.live() == Small.DAMAGED


def test_classes_that_cannot_be_meant_are_refused(small: Small) -> None:
    class Http(FreshFile):
        kind = "http"

    class Directory(ByYear):
        kind = "directory"

    class Webhook(Diary):
        kind = "webhook"

    class Nginx(Flag):
        kind = "nginx"

    odd: list[tuple[str, Any]] = [
        ("checks", [Http]),
        ("checks", [FreshFile, FreshFile]),
        ("checks", [ByYear]),
        ("checks", FreshFile),
        ("stores", [Directory]),
        ("hooks", [Webhook]),
        ("maintenance", [Nginx]),
    ]
    for part, classes in odd:
        with pytest.raises(restore.ConfigError) as caught:
            restore.Site(small.config(), base=small.root, **{part: classes})
        assert caught.value.code == f"config.{part}"


@pytest.mark.parametrize("name", ["own_check", "own_store", "own_hook", "own_maintenance"])
def test_the_examples_are_short(name: str) -> None:
    example = REPOSITORY / "examples" / "python" / f"{name}.py"
    assert len(example.read_text().splitlines()) <= 40
