"""Components written in Python take part in a run with the same guarantees."""

from __future__ import annotations

import gzip
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
import restore
from conftest import BACKUP, REPOSITORY, Small

sys.path.insert(0, str(REPOSITORY / "examples" / "python"))
from search_index import SearchIndex  # noqa: E402


def index(path: Path, documents: int) -> bytes:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE documents (text)")
    db.executemany("INSERT INTO documents VALUES (?)", [("word",)] * documents)
    db.commit()
    db.close()
    return path.read_bytes()


class Searching(Small):
    """The small site with a search index before its other components."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        good = index(root / "good", 7)
        (self.folder / "search").mkdir()
        artifact = self.folder / "search" / f"search-{BACKUP}.sqlite.gz"
        artifact.write_bytes(gzip.compress(good))
        self.write_manifest()
        self.index = root / "app" / "search.sqlite"
        self.index.parent.mkdir()
        index(self.index, 1)

    def site(self, kind: type[restore.Component] = SearchIndex) -> restore.Site:
        return restore.Site(self.searching(), base=self.root, components=[kind])

    def searching(self) -> dict[str, Any]:
        config = self.config()
        others = config["components"]
        # First of the cut-overs, so that a failure of the others has to undo it.
        config["components"] = {
            "search": {"kind": SearchIndex.kind, "file": "app/search.sqlite"},
            **others,
        }
        return config

    def documents(self) -> Optional[int]:
        return SearchIndex._documents(self.index) if self.index.exists() else None

    def beside(self) -> list[str]:
        return sorted(it.name for it in self.index.parent.iterdir() if it != self.index)


@pytest.fixture
def searching(tmp_path: Path) -> Searching:
    return Searching(tmp_path)


def test_there_and_back(searching: Searching) -> None:
    site = searching.site()
    plan = site.plan("latest")
    part = plan.components[0]
    assert part.artifacts == (f"search/search-{BACKUP}.sqlite.gz",)
    assert part.summary == f"the search index {searching.index}"
    assert part.needed_bytes == part.read_bytes * 5
    report = plan.run()
    assert searching.documents() == 7
    told = report.components[0]
    assert told.facts == {"documents": 7} and told.bytes > 0
    assert told.kept_at is not None and Path(told.kept_at).exists()
    assert any(check.name == "search/documents" for check in report.checks_after)
    site.rollback()
    assert searching.documents() == 1 and searching.live() == Small.DAMAGED
    site.confirm()
    assert searching.beside() == []
    site.plan("latest").run()
    site.confirm()
    assert searching.documents() == 7 and searching.beside() == []


def test_where_there_was_none_there_is_none_again(searching: Searching) -> None:
    searching.index.unlink()
    site = searching.site()
    site.plan("latest").run()
    assert searching.documents() == 7
    site.rollback()
    assert searching.documents() is None


@pytest.mark.parametrize("method", ["inspect", "stage", "cut_over", "check"])
def test_an_exception_undoes_the_run_and_is_the_cause(searching: Searching, method: str) -> None:
    class Failing(SearchIndex):
        pass

    def fail(self: SearchIndex, cx: restore.RunContext) -> None:
        raise ZeroDivisionError("in " + method)

    setattr(Failing, method, fail)
    site = searching.site(Failing)
    with pytest.raises(restore.RestoreError) as caught:
        site.plan("latest").run()
    error = caught.value
    assert f"ZeroDivisionError: in {method}" in str(error)
    if method != "inspect":
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert error.report is not None and error.report.outcome == "undone"
        failure = error.report.failure
        assert failure is not None and failure.code == "python.exception"
        assert failure.hint is not None and "test_component.py" in failure.hint
        if any(it.kept_at for it in error.report.components):
            # Nothing was down during the swap: what was live in between is kept until confirmed.
            site.confirm()
    assert searching.documents() == 1 and searching.beside() == []
    assert searching.live() == Small.DAMAGED


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("artifacts", "abc"),
        ("artifacts", ["search/none.gz"]),
        ("inspect", None),
        ("stage", 7),
        ("check", None),
        ("check", ["fine"]),
    ],
)
def test_what_a_method_may_not_return_is_named(
    searching: Searching, method: str, answer: object
) -> None:
    class Odd(SearchIndex):
        pass

    setattr(Odd, method, lambda self, cx: answer)
    site = searching.site(Odd)
    with pytest.raises(restore.RestoreError) as caught:
        site.plan("latest").run()
    assert f"{method}()" in str(caught.value), caught.value
    assert searching.documents() == 1
    if caught.value.report is not None and caught.value.report.components[0].kept_at:
        site.confirm()
    assert searching.beside() == []


def test_classes_that_cannot_be_meant_are_refused(searching: Searching) -> None:
    class Nameless(SearchIndex):
        kind = ""

    class Twin(SearchIndex):
        pass

    class Ours(SearchIndex):
        kind = "redis"

    instance = SearchIndex("a", {"file": "x"}, searching.root)
    odd: list[Any] = [[SearchIndex, Twin], [Nameless], [Ours], [3], SearchIndex, [instance]]
    for components in odd:
        with pytest.raises(restore.ConfigError) as caught:
            restore.Site(searching.searching(), base=searching.root, components=components)
        assert caught.value.code == "config.components"
    with pytest.raises(restore.ConfigError, match="Site.open|dict"):
        restore.Site("restore.toml")  # type: ignore[arg-type]


def test_a_hint_is_in_the_traceback_too() -> None:
    error = restore.ConfigError("no", hint="say yes")
    if sys.version_info >= (3, 11):
        assert "hint: say yes" in "".join(traceback.format_exception(error))


def test_errors_keep_their_code_and_hint(searching: Searching) -> None:
    class Failing(SearchIndex):
        def stage(self, cx: restore.RunContext) -> restore.Staged:
            raise restore.VerificationError("no words", code="search.none", hint="index again")

    with pytest.raises(restore.VerificationError) as caught:
        searching.site(Failing).plan("latest").run()
    report = caught.value.report
    assert report is not None and report.failure is not None
    assert report.failure.code == "search.none" and report.failure.hint == "index again"
    assert report.failure.message == "search: no words"


def test_an_undo_that_fails_is_stuck_until_mended(searching: Searching) -> None:
    class Stuck(SearchIndex):
        broken = True

        def check(self, cx: restore.RunContext) -> Iterable[restore.CheckOutcome]:
            return [restore.CheckOutcome("search/no", False, "never")]

        def undo(self, cx: restore.RunContext) -> None:
            if self.broken:
                raise OSError("the disk is gone")
            super().undo(cx)

    site = searching.site(Stuck)
    with pytest.raises(restore.StuckError) as caught:
        site.plan("latest").run()
    report = caught.value.report
    assert report is not None and report.stuck is not None
    assert "the disk is gone" in report.stuck.message
    Stuck.broken = False
    assert site.rollback().is_as_before
    assert searching.documents() == 1


def test_staging_is_stopped_and_undone(searching: Searching) -> None:
    begun = threading.Event()

    class Slow(SearchIndex):
        def stage(self, cx: restore.RunContext) -> restore.Staged:
            staged = super().stage(cx)
            progress = cx.progress("index", 1000)
            begun.set()
            while True:
                progress.add(1)
                cx.check_cancelled()
                time.sleep(0.001)

    run = searching.site(Slow).plan("latest").start()
    with pytest.raises(restore.StoppedError):
        for event in run:
            if isinstance(event, restore.Progress) and event.action == "index":
                assert begun.is_set()
                run.cancel()
    assert searching.documents() == 1 and searching.beside() == []


def test_facts_and_findings_reach_the_journal(searching: Searching) -> None:
    seen: list[object] = []

    class Telling(SearchIndex):
        def stage(self, cx: restore.RunContext) -> restore.Staged:
            assert (cx.component, cx.paths, cx.maintenance) == ("search", [], False)
            assert cx.backup.id == BACKUP and not cx.cancelled
            cx.record("first", {"a": [1, 2.5, None, True, "x"]})
            cx.record("first", "too late")
            cx.notice(restore.Finding("info", "search.told", "search", "told while staging"))
            return super().stage(cx)

        def undo(self, cx: restore.RunContext) -> None:
            seen.append(cx.recall("first"))
            seen.append(cx.recall("nothing"))
            super().undo(cx)

    events: list[restore.Event] = []
    searching.site(Telling).plan("latest").run(on_event=events.append)
    told = [it.finding for it in events if isinstance(it, restore.Noticed)]
    assert restore.Finding("info", "search.told", "search", "told while staging") in told
    # Another object, as in another process: what it recalls is in the journal.
    searching.site(Telling).rollback()
    assert seen == [{"a": [1, 2.5, None, True, "x"]}, None]


def test_a_changed_artifact_is_never_live(searching: Searching) -> None:
    site = searching.site()
    plan = site.plan("latest")
    artifact = searching.folder / "search" / f"search-{BACKUP}.sqlite.gz"
    artifact.write_bytes(gzip.compress(index(searching.root / "other", 7), mtime=5))
    with pytest.raises(restore.RestoreError) as caught:
        plan.run()
    assert caught.value.report is None or caught.value.report.is_as_before
    assert searching.documents() == 1 and searching.beside() == []


def test_options_are_checked(searching: Searching) -> None:
    config = searching.searching()
    config["components"]["search"]["fiel"] = 1
    for change in ({"fiel": 1}, {"file": None}):
        table = {"kind": "search-index", "file": "x", **change}
        config["components"]["search"] = {k: v for k, v in table.items() if v is not None}
        with pytest.raises(restore.ConfigError) as caught:
            restore.Site(config, base=searching.root, components=[SearchIndex])
        assert "[components.search]" in str(caught.value)
        assert isinstance(caught.value.__cause__, restore.ConfigError)
    with pytest.raises(restore.ConfigError) as caught:
        restore.Site(searching.searching(), base=searching.root)
    assert caught.value.code == "config.unknown_kind"


def test_what_does_not_fit_is_said(searching: Searching) -> None:
    class Odd(SearchIndex):
        def check(self, cx: restore.RunContext) -> Any:
            return [3]

    with pytest.raises(restore.RestoreError) as caught:
        searching.site(Odd).plan("latest").run()
    assert "check() returned 3" in str(caught.value)
    assert searching.documents() == 1


def test_it_is_backed_up_and_restored_from_that(searching: Searching) -> None:
    site = searching.site()
    made = site.back_up()
    assert made.kind == "full" and made.missing == ()
    part = next(it for it in made.components if it.name == "search")
    assert part.facts == {"documents": 1}
    assert [it.path for it in part.artifacts] == [f"search/search-{made.id}.sqlite.gz"]
    assert site.backup(made.id).verify(deep=True).verdict == "verified"
    site.plan(BACKUP).run()
    assert searching.documents() == 7
    # What the run replaced is in its safety backup too.
    safety = site.report().safety
    assert safety is not None and safety.missing == ()
    site.confirm()
    site.plan(made.id).run()
    assert searching.documents() == 1
    site.plan(safety.id, over_unconfirmed=True, only=["search"]).run()
    assert searching.documents() == 1


def test_what_cannot_be_backed_up_is_said(searching: Searching) -> None:
    class Without(SearchIndex):
        pass

    setattr(Without, "back_up", restore.Component.back_up)

    made = searching.site(Without).back_up()
    assert made.kind == "partial"
    assert [it.name for it in made.missing] == ["search"]
    assert "cannot be backed up" in made.missing[0].reason
    report = searching.site(Without).plan(BACKUP).run()
    assert report.safety is not None
    assert [it.name for it in report.safety.missing] == ["search"]

    class Failing(SearchIndex):
        def back_up(self, cx: restore.BackupContext) -> restore.BackedUp:
            cx.write("search/half.txt", "whole in itself", private=True)
            raise ZeroDivisionError("in back_up")

    site = searching.site(Failing)
    with pytest.raises(restore.FailedError) as caught:
        site.back_up()
    assert "ZeroDivisionError: in back_up" in str(caught.value)
    assert caught.value.component == "search" and caught.value.code == "python.exception"
    assert [site.backup(id).generation for id in site.backups()][-1] == "unfinished"


def test_backing_up_is_stopped(searching: Searching) -> None:
    class Slow(SearchIndex):
        def back_up(self, cx: restore.BackupContext) -> restore.BackedUp:
            progress = cx.progress("index", 1000)
            while True:
                progress.add(1)
                cx.check_cancelled()
                time.sleep(0.001)

    site = searching.site(Slow)

    def enough(event: restore.Event) -> None:
        if isinstance(event, restore.Progress) and event.action == "index":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.back_up(on_event=enough)
    assert [site.backup(id).generation for id in site.backups()][-1] == "unfinished"
    assert site.backup("latest").id == BACKUP
    site.ensure_idle()


# Killed at each of its methods, before and after what it does; then another process finishes.
CRASH = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import restore, json
from search_index import SearchIndex
root, method, when = sys.argv[2:5]

class Dying(SearchIndex):
    pass

def dying(self, cx, *args):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    getattr(SearchIndex, method)(self, cx, *args)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(Dying, method, dying)
with open(os.path.join(root, "config.json")) as file:
    config = json.load(file)
restore.Site(config, base=root, components=[Dying]).plan("latest").run()
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["stage", "cut_over", "check"])
@pytest.mark.parametrize("finish", ["resume", "rollback"])
def test_a_crash_inside_of_it(
    searching: Searching, method: str, when: str, finish: Literal["resume", "rollback"]
) -> None:
    import json

    config: Mapping[str, Any] = searching.searching()
    text = json.dumps(config, default=str)
    (searching.root / "config.json").write_text(text)
    ran = subprocess.run(
        [sys.executable, "-c", CRASH, str(REPOSITORY / "examples/python"), searching.root,
         method, when],
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == -9, ran.stderr.decode()
    site = searching.site()
    assert site.report().outcome == "unfinished"
    if finish == "resume":
        assert site.resume().outcome == "restored"
        assert searching.documents() == 7 and searching.live() == Small.GOOD
    else:
        assert site.rollback().is_as_before
        assert searching.documents() == 1 and searching.live() == Small.DAMAGED
    site.confirm() if any(it.kept_at for it in site.report().components) else None
    assert searching.beside() == []


def test_arguments_of_a_component_that_make_no_sense_are_named(searching: Searching) -> None:
    raised: list[restore.ConfigError] = []

    class Careless(SearchIndex):
        def stage(self, cx: restore.RunContext) -> restore.Staged:
            calls: list[Any] = [
                lambda: cx.progress("read", -1),
                lambda: cx.progress("read").add(-1),
                lambda: cx.progress("read").add(2**70),
                lambda: cx.copy("x", "y", mode=-1),
                lambda: cx.copy("x", 5),  # type: ignore[arg-type]
                lambda: cx.unpack(5, "y"),  # type: ignore[arg-type]
            ]
            for call in calls:
                with pytest.raises(restore.ConfigError) as caught:
                    call()
                raised.append(caught.value)
            return super().stage(cx)

    assert searching.site(Careless).plan("latest").run().outcome == "restored"
    assert [error.code for error in raised] == ["python.argument"] * 6
    assert str(raised[1]) == "bytes must be a whole number of 0 or more, not -1"


def test_the_one_of_the_readme(small: Small) -> None:
    text = (REPOSITORY / "restore-py" / "README.md").read_text()
    (program,) = [it for it in text.split("```python\n") if "class OneFile" in it]
    names: dict[str, Any] = {}
    exec(program.split("```")[0].split("\nsite = ")[0], names)
    one_file: type[restore.Component] = names["OneFile"]
    live = small.root / "some.db"
    live.write_text("first")
    config = small.config(mine={"kind": "one-file", "file": "some.db"})
    site = restore.Site(config, base=small.root, components=[one_file])
    made = site.back_up()
    live.write_text("second")
    site.plan(made.id, only=["mine"]).run()
    assert live.read_text() == "first"
    site.rollback()
    assert live.read_text() == "second"
    site.confirm()
    live.unlink()
    site.plan(made.id, only=["mine"]).run()
    assert live.read_text() == "first"
    site.rollback()
    assert not live.exists()
    site.confirm()
    assert [it.name for it in small.root.glob(".some.db*")] == []
