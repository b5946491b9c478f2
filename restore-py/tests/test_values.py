"""Values as Python people use them: saved, compared, pickled, logged; and what importing costs."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import pydoc
import types
import typing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import restore
from conftest import Small
from restore._base import Value
from test_handles import toml
from test_processes import python


def test_a_report_comes_back(small: Small) -> None:
    report = small.site().plan("latest").run()
    saved = json.loads(json.dumps(report.to_dict()))
    again = restore.Report.from_dict(saved)
    assert again == report and str(again) == str(report) and again.error is None
    assert pickle.loads(pickle.dumps(report)) == report
    assert not report.is_failing and not again.is_failing and report.services_down == ()
    down = {"name": "health", "passed": False, "detail": "down"}
    saved["checks_before"] = saved["checks_after"] = [down]
    failing = restore.Report.from_dict(saved)
    # Restored, and no exception: a check fails that failed before too.
    assert failing.is_failing and failing.error is None and "1 check fails" in failing.headline
    check = restore.CheckOutcome("health", True, "200")
    assert pickle.loads(pickle.dumps(check)) == check
    with pytest.raises(ValueError, match="not a report"):
        restore.Report.from_dict({})


def test_a_failed_report_comes_back_with_its_exception(small: Small) -> None:
    site = small.site()
    plan = site.plan("latest")
    archive = next(small.folder.glob("volumes/*"))
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    with pytest.raises(restore.RestoreError) as caught:
        plan.run()
    report = caught.value.report
    assert report is not None and report.failure is not None
    # Of the failure, and not of the run as such.
    assert caught.value.component == "data" == report.failure.component
    assert caught.value.code == report.failure.code != "run.failed"
    assert caught.value.retryable == report.failure.retryable
    again = pickle.loads(pickle.dumps(report))
    assert type(again.error) is type(caught.value) and again.error.code == caught.value.code


def test_a_missing_file_is_one_for_python_too(small: Small) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        restore.Site.open(small.root / "missing.toml")
    assert isinstance(caught.value, restore.ConfigError)
    assert "missing.toml" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.code, str(again)) == (
        type(caught.value),
        caught.value.code,
        str(caught.value),
    )
    assert issubclass(restore.TimedOutError, TimeoutError)


def test_events_are_logged(small: Small, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="restore"):
        report = small.site().plan("latest").run(on_event=restore.log_event)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[-1] == f"run {report.run}: restored"
    assert any("swap data" in line for line in lines), lines
    assert all(record.name == "restore" for record in caplog.records)
    assert isinstance(caplog.records[-1].__dict__["event"], restore.RunFinished)


def test_asyncio_is_imported_by_who_uses_it() -> None:
    ran = python(
        """
        import sys, restore
        print([name for name in ("asyncio", "logging") if name in sys.modules])
        """
    )
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


def test_importing_costs_little() -> None:
    ran = python(
        """
        import time
        began = time.process_time()
        import restore
        print(time.process_time() - began)
        """
    )
    # Beside what else the machine does; 0.05 s where it does nothing else.
    assert float(ran.stdout) < 0.15, ran.stdout + ran.stderr


def test_all_values_are_saved_shown_and_compared(small: Small) -> None:
    site = small.site()
    backup = site.backup("latest")
    report = site.plan("latest").run()
    values = [
        backup.verify(),
        backup.files[0],
        site.status(),
        site.back_up(),
        site.difference("latest"),
        site.fetch("latest"),
        *report.checks_after,
        *report.components,
        *site.backups().listed,
        restore.RunProgress(0.5, None, "x"),
    ]
    for value in values:
        saved = json.loads(json.dumps(value.to_dict()))
        assert type(value).from_dict(saved) == value, value
        assert len(repr(value)) < 1000 and repr(value).startswith(f"restore.{type(value).__name__}(")
        assert "<table>" in value._repr_html_()
    for shown in (backup, site.backups(), site.members("latest"), site.plan_prune(keep=1)):
        assert "<table>" in shown._repr_html_()
    assert backup == site.backup(backup.id)
    (small.folder / "MANIFEST.txt").write_text("")
    failed = site.backup(backup.id).verify()
    again = restore.Verification.from_dict(json.loads(json.dumps(failed.to_dict())))
    assert again == failed and type(again.error) is type(failed.error) and not again


def sample(hint: Any) -> Any:
    """A value of a field's type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return sample(next(it for it in args if it is not type(None)))
    if origin is typing.Literal:
        return args[0]
    if origin is tuple:
        return (sample(args[0]),)
    if origin is dict:
        return {"key": sample(args[1])}
    if isinstance(hint, type) and issubclass(hint, restore.RestoreError):
        return restore.FailedError("it failed", code="x.y", hint="more")
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        given = {field.name: sample(hints[field.name]) for field in dataclasses.fields(hint)}
        return hint(**given)
    now = datetime(2024, 2, 15, 2, 0, 0, 250_000, tzinfo=timezone.utc)
    known = {str: "x", int: 7, float: 0.5, bool: True, datetime: now, Path: Path("/x"), Any: "any"}
    return known[hint]


def every_value() -> list[type]:
    """The classes of this module that are saved, but for what has no fields of its own."""
    found = [getattr(restore, name) for name in restore.__all__]
    values = [it for it in found if isinstance(it, type) and issubclass(it, Value)]
    return [it for it in values if it not in (restore.Event, restore.OtherEvent)]


@pytest.mark.parametrize("cls", every_value())
def test_each_value_is_saved_pickled_and_shown(cls: type) -> None:
    value = sample(cls)
    saved = json.loads(json.dumps(value.to_dict()))
    assert cls.from_dict(saved) == value  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)
    assert repr(value).startswith(f"restore.{cls.__name__}(")
    assert "<table>" in value._repr_html_()


def test_events_are_saved(small: Small) -> None:
    seen: list[restore.Event] = []
    small.site().plan("latest").run(on_event=seen.append)
    for event in seen:
        assert restore.Event.from_dict(json.loads(json.dumps(event.to_dict()))) == event


def test_an_event_of_a_newer_library_is_saved() -> None:
    value = {
        "event": "teleported",
        "at": "2024-02-15T02:00:00.25Z",
        "run": "20240215-093000-7f3a",
        "phase": "stage",
        "where": "elsewhere",
    }
    event = restore.Event.from_dict(value)
    assert isinstance(event, restore.OtherEvent) and event.value == value
    assert event.at == datetime(2024, 2, 15, 2, 0, 0, 250_000, tzinfo=timezone.utc)
    assert (event.run, event.phase) == (value["run"], "stage")
    for _ in range(2):
        saved = json.loads(json.dumps(event.to_dict()))
        again = restore.Event.from_dict(saved)
        assert again == event
        event = again


def test_a_moment_is_saved() -> None:
    zone = timezone(timedelta(hours=2))
    for time in (datetime(2024, 2, 15, 12, tzinfo=zone), "2024-02-15 10:00:00 UTC", "latest"):
        target = restore.RecoveryTarget(time=time, inclusive=False)
        again = restore.RecoveryTarget.from_dict(json.loads(json.dumps(target.to_dict())))
        assert again == target and again._native() == target._native()


def test_a_prune_plan_is_saved(small: Small) -> None:
    site = small.site()
    site.back_up()
    made = site.back_up()
    plan = site.plan_prune(keep=1)
    saved = json.loads(json.dumps(plan.to_dict()))
    again = restore.PrunePlan.from_dict(site, saved)
    assert again == plan and str(again) == str(plan) and again.to_dict() == plan.to_dict()
    assert [it.id for it in again.run()] == [it.id for it in plan.delete] != []
    assert made.id not in {it.id for it in plan.delete}
    assert saved["asked"]["keep"] == 1 and saved["asked"]["keep_daily"] is None
    # Of a version that did not know of days.
    older = {**saved, "asked": {"keep": 1, "older_than_seconds": None}}
    assert restore.PrunePlan.from_dict(site, older).to_dict() == saved
    broken: list[dict[str, Any]] = [{}, {**saved, "asked": {"keep": -1, "older_than_seconds": None}}]
    for value in broken:
        with pytest.raises(restore.ConfigError):
            restore.PrunePlan.from_dict(site, value)


def test_backups_are_kept_by_days(small: Small) -> None:
    site = small.site()
    first = site.back_up()
    newest = site.back_up()
    plan = site.plan_prune(keep_daily=1)
    assert [it.id for it in plan.delete] == ["20240215-020000", first.id]
    assert [it.id for it in plan.keep] == [newest.id]
    again = restore.PrunePlan.from_dict(site, plan.to_dict())
    assert [it.id for it in again.run(wait=1)] == [it.id for it in plan.delete]
    assert site.plan_prune(keep_weekly=1, keep_monthly=2).delete == ()


def test_fields_are_documented() -> None:
    text = pydoc.plain(pydoc.render_doc(restore.Finding))
    assert "Stable, ``area.what``." in text and "severity: Severity" in text


def test_a_secret_shows_itself_nowhere() -> None:
    secret = restore.Secret("geheim")
    assert "geheim" not in repr(secret) + str(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(restore.ConfigError):
        restore.Secret("")


def test_the_configuration_is_looked_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(small)
    monkeypatch.setenv("RESTORE_CONFIG", str(path))
    assert restore.Site.open().name == "file"
    monkeypatch.delenv("RESTORE_CONFIG")
    monkeypatch.chdir(path.parent)
    assert restore.Site.open().name == "file"
    monkeypatch.chdir(small.root / "backups")
    with pytest.raises(FileNotFoundError, match="RESTORE_CONFIG is not set"):
        restore.Site.open()
