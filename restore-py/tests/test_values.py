"""Values as Python people use them: saved, compared, pickled, logged; and what importing costs."""

from __future__ import annotations

import json
import logging
import pickle

import pytest
import restore
from conftest import Small
from test_processes import python


def test_a_report_comes_back(small: Small) -> None:
    report = small.site().plan("latest").run()
    saved = json.loads(json.dumps(report.to_dict()))
    again = restore.Report.from_dict(saved)
    assert again == report and str(again) == str(report) and again.error is None
    assert pickle.loads(pickle.dumps(report)) == report
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
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.code, str(copy)) == (
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
