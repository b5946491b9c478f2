"""Sites, backups, verification, plans: what changes nothing."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import restore
from conftest import BACKUP, Small


def test_a_site_opens_from_a_path_or_a_dict(small: Small) -> None:
    site = small.site()
    assert site.name == "small"
    assert site.components == {"data": "volume", "crontab": "crontab"}
    assert site.platform == "local processes of this machine"
    assert list(site.stores) == ["main"]
    toml = small.root / "restore.toml"
    toml.write_text(
        "[site]\nname = 'file'\nstate = 'state'\n"
        "[stores.main]\nkind = 'directory'\npath = 'backups'\n"
        f"[components.crontab]\nkind = 'crontab'\nfile = '{small.crontab}'\n"
    )
    for path in (toml, str(toml)):
        assert restore.Site.open(path).name == "file"
    assert "small" in repr(site)


def test_what_is_wrong_with_a_configuration_is_said_with_a_hint(small: Small) -> None:
    config = small.config()
    config["components"]["crontab"]["fiel"] = "x"
    with pytest.raises(restore.ConfigError) as caught:
        restore.Site(config, base=small.root)
    error = caught.value
    assert (error.kind, error.code) == ("config", "config.unknown_key")
    assert error.hint == "did you mean `file`?"
    assert "`fiel`" in str(error) and error.message == str(error)
    with pytest.raises(restore.RestoreError):
        restore.Site.open(small.root / "missing.toml")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, copy.hint) == (type(error), error.code, error.hint)


def test_backups_are_a_mapping(small: Small) -> None:
    (small.root / "backups" / "20230101-000000").mkdir()
    backups = small.site().backups()
    assert list(backups) == ["20230101-000000", BACKUP]
    assert len(backups) == 2
    assert BACKUP in backups and "latest" in backups
    assert "20990101-000000" not in backups and "nonsense" not in backups
    assert backups["latest"].id == BACKUP == backups[BACKUP].id
    assert backups.get("nonsense") is None
    for missing in ("20990101-000000", "nonsense"):
        with pytest.raises(KeyError) as caught:
            backups[missing]
        assert isinstance(caught.value, restore.NotFoundError)
        assert missing in str(caught.value)
    unfinished, full = backups.listed
    assert (unfinished.id, unfinished.store) == ("20230101-000000", "main")
    assert (unfinished.kind, unfinished.created, unfinished.problem) == ("unfinished", None, None)
    assert full.kind == "full" and full.lacking == () and full.problem is None
    assert full.bytes is not None and full.bytes > 0


def test_a_listing_tells_what_is_usable(small: Small) -> None:
    site = small.site()
    part = site.back_up(only=["data"]).id
    # A newer one that has less is never what `latest` means.
    assert site.backup("latest").id == BACKUP != part
    (small.folder / "volumes" / f"data-{BACKUP}.tar.gz").unlink()
    whole, listed = site.backups().listed
    assert whole.kind == "damaged" and "data" in str(whole.problem)
    assert (listed.id, listed.kind, listed.lacking) == (part, "partial", ("crontab",))
    assert (whole.components, listed.components) == (("data", "crontab"), ("data",))
    assert whole.recovery == () == listed.recovery


def test_a_backup_tells_which_moments_it_leads_to(small: Small) -> None:
    found = small.site().recoverable("latest")
    assert not found and (found.ranges, found.findings) == ((), ())
    range_ = restore.Recoverable._of(
        {
            "component": "postgres",
            "from": "2024-02-15T02:00:00.5Z",
            "from_lsn": "1/A2000028",
            "until": None,
            "until_lsn": "1/A3000000",
            "timeline": 2,
            "segments": 7,
            "archive": "wal in main",
            "holes": [{"first": "0001", "last": "0002", "segments": 2}],
        }
    )
    assert range_.from_ == datetime(2024, 2, 15, 2, 0, 0, 500_000, tzinfo=timezone.utc)
    assert range_.holes[0].segments == 2 and range_.needs_timeline is None
    told = restore.BackupRecovery((range_,), ())
    assert told and restore.BackupRecovery.from_dict(json.loads(json.dumps(told.to_dict()))) == told


@pytest.mark.parametrize("selection", [{"only": []}, {"paths": []}, {"only": iter(())}])
def test_an_empty_selection_is_not_everything(small: Small, selection: dict[str, Any]) -> None:
    site = small.site()
    with pytest.raises(restore.ConfigError) as caught:
        site.plan("latest", **selection)
    assert caught.value.code == "plan.nothing_selected" and caught.value.hint
    assert site.plan("latest", only=None, paths=None).components
    for call in (site.back_up, lambda only: site.drill("latest", only=only)):
        with pytest.raises(restore.ConfigError) as caught:
            call(only=[])
        assert caught.value.code == "plan.nothing_selected"
    empty: list[Callable[[], object]] = [
        lambda: site.members("latest", only=[]),
        lambda: site.members("latest", ""),
        lambda: site.difference("latest", only=[]),
        lambda: site.difference("latest", paths=[]),
        lambda: site.get("latest", [], small.root / "out"),
    ]
    for read in empty:
        with pytest.raises(restore.ConfigError) as caught:
            read()
        assert caught.value.code == "plan.nothing_selected"
    assert site.members("latest", only=None).total == site.members("latest").total > 0
    assert not (small.root / "out").exists()
    assert site.history() == []


def test_a_backup_of_another_site_is_refused(small: Small, tmp_path: Path) -> None:
    other = Small(tmp_path / "other")
    with pytest.raises(restore.ConfigError) as caught:
        small.site().plan(other.site().backup("latest"))
    assert caught.value.code == "plan.foreign_backup"


def test_a_status_is_true_where_a_restore_could_begin(small: Small) -> None:
    site = small.site()
    status = site.status()
    assert status and status.refusal is None and status.proven is None
    assert status.newest is not None and status.newest.id == BACKUP and status.newest.local
    assert [store.full_backups for store in status.stores] == [1]
    assert status.components == ("data", "crontab") and status.room[0].space.free_bytes > 0
    site.plan("latest").run()
    status = asyncio.run(site.status_async())
    assert not status and isinstance(status.refusal, restore.PreflightError)
    assert status.kept[0].components == ("data", "crontab")
    assert status.findings[0].code == "run.unconfirmed"
    assert status.proven is not None and status.proven.at.tzinfo is not None


def test_a_configuration_is_checked_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "restore.toml"
    file.write_text(
        "[site]\nname = 't'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'b'\n"
        "[volumes.v]\npath = 'v'\n[components.it]\nkind = 'volume'\nvolume = 'v'\nstop = []\n"
    )
    check = restore.Site.check_config(file)
    assert not check and isinstance(check.refusal, restore.ConfigError)
    found = [finding for finding in check.findings if finding.severity == "error"]
    assert found and all(str(finding).startswith("error: ") for finding in found)
    assert any(finding.line == 12 and "stop" in finding.message for finding in found), check
    assert asyncio.run(restore.Site.check_config_async(file)).findings == check.findings


def test_a_run_is_followed_by_its_journal(small: Small) -> None:
    site = small.site()
    made = site.plan("latest").run()
    seen: list[str] = []
    report = site.watch(on_event=lambda event: seen.append(type(event).__name__))
    assert report.run == made.run and report.outcome == made.outcome
    assert seen[0] == "RunStarted" and seen[-1] == "RunFinished" and "StepFinished" in seen
    assert asyncio.run(site.watch_async(made.run)).run == made.run
    with pytest.raises(restore.RestoreError) as caught:
        site.watch("20200101-000000-aaaa")
    assert caught.value.code == "run.unknown"


def test_what_failed_is_not_true(small: Small) -> None:
    backup = small.site().backup("latest")
    assert backup.verify()
    archive = small.folder / "volumes" / f"data-{BACKUP}.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-8])
    assert not backup.verify()


def test_a_backup_says_what_is_in_it(small: Small) -> None:
    backup = small.site().backup("latest")
    assert backup.taken == datetime(2024, 2, 15, 2).astimezone()
    assert backup.taken.tzinfo is not None
    assert backup.generation == "a" and not backup.is_safety
    manifest = backup.manifest
    assert manifest is not None and not manifest.truncated
    assert manifest.header["Created By"] == "a test"
    assert [entry.path for entry in manifest.entries] == [
        f"configs/crontab-{BACKUP}.txt",
        f"volumes/data-{BACKUP}.tar.gz",
    ]
    assert manifest.entries[0].size is None and manifest.entries[0].size_text == "4.0K"
    assert all(isinstance(file.size, int) for file in backup.files)
    path = backup.local_path(f"configs/crontab-{BACKUP}.txt")
    assert isinstance(path, Path) and path.read_text() == Small.GOOD[1]
    assert backup.find("configs/crontab-{id}.txt") == [f"configs/crontab-{BACKUP}.txt"]


def test_verification_reports_and_raises_on_request(small: Small) -> None:
    backup = small.site().backup("latest")
    seen: list[restore.Event] = []
    good = backup.verify(deep=True, on_event=seen.append)
    assert good.raise_if_failed() is good
    assert (good.verdict, good.deeply_verified, good.error) == ("verified", True, None)
    assert isinstance(seen[-1], restore.Progress) and seen[-1].done == seen[-1].total
    archive = small.folder / f"volumes/data-{BACKUP}.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    (small.folder / "extra").write_text("?")
    bad = asyncio.run(backup.verify_async())
    assert bad.verdict == "failed"
    status = {file.path: file.status for file in bad.files}
    assert status[f"volumes/data-{BACKUP}.tar.gz"] == "changed"
    with pytest.raises(restore.VerificationError) as caught:
        bad.raise_if_failed()
    assert caught.value.code == "verify.changed"
    assert any(finding.severity == "error" for finding in bad.findings)


def test_a_plan_prints_converts_and_comes_back(small: Small) -> None:
    site = small.site()
    plan = site.plan("latest")
    text = str(plan)
    assert f"Plan: restore backup {BACKUP} into small" in text
    assert "Beside the live data" in text and "Downtime:" in text and "swap data" in text
    assert "Before anything is replaced, while the platform serves:" in text and "back up what is live now to " in text
    assert repr(plan) == f"<restore.Plan of backup {BACKUP} into small: data, crontab>"
    html = plan._repr_html_()
    assert "<table>" in html and f"volumes/data-{BACKUP}.tar.gz" in html
    assert plan.read_bytes == sum(component.read_bytes for component in plan.components) > 0
    assert plan.made.tzinfo == timezone.utc and plan.made <= datetime.now(timezone.utc)
    assert [step.id for step in plan.steps][:2] == ["backup:safety", "stage:data"]
    assert plan.steps[1].phase == "stage"
    assert plan.refusal is None
    saved = json.loads(json.dumps(plan.to_dict()))
    again = restore.Plan.from_dict(site, saved)
    assert again == plan and hash(again) == hash(plan)
    assert site.plan("latest", only=["data"]) != plan
    assert again.run().outcome == "restored"
    assert small.live() == Small.GOOD


def test_markup_in_names_is_escaped(small: Small) -> None:
    config = small.config()
    config["site"]["name"] = "<script>alert(1)</script>"
    plan = restore.Site(config, base=small.root).plan("latest")
    assert "<script>" not in plan._repr_html_()
    assert "<script>" not in plan.run()._repr_html_()


def test_a_selection_may_be_a_text_or_a_list(small: Small) -> None:
    site = small.site()
    assert [it.name for it in site.plan("latest", only="data").components] == ["data"]
    assert [it.name for it in site.plan("latest", only=("crontab",)).components] == ["crontab"]
    with pytest.raises(restore.RestoreError) as caught:
        site.plan("latest", only=["dta"]).run()
    assert caught.value.hint


def test_a_moment_is_one_that_somebody_can_recover_to(small: Small) -> None:
    site = small.site()
    moments: list[tuple[str, Any, str]] = [
        (BACKUP, "2024-02-15 10:00:00", "target.no_zone"),
        (BACKUP, datetime(2024, 2, 15, 10), "target.no_zone"),
        (BACKUP, "2024-02-15 10:00:00 UTC", "plan.no_point_in_time"),
        (BACKUP, datetime(2024, 2, 15, 10, tzinfo=timezone.utc), "plan.no_point_in_time"),
        (BACKUP, restore.RecoveryTarget(name="before"), "plan.no_point_in_time"),
        (BACKUP, restore.RecoveryTarget(lsn="1/A2000028", inclusive=False), "plan.no_point_in_time"),
        (BACKUP, restore.RecoveryTarget(lsn="here"), "target.bad_lsn"),
        (BACKUP, restore.RecoveryTarget(xid=2**40), "target.bad_xid"),
        ("latest", "latest", "target.no_base"),
    ]
    for backup, to, code in moments:
        with pytest.raises(restore.RestoreError) as caught:
            site.plan(backup, to=to)
        assert caught.value.code == code
    for wrong in (restore.RecoveryTarget(), restore.RecoveryTarget(lsn="0/1", name="x")):
        with pytest.raises(ValueError):
            site.plan(BACKUP, to=wrong)


def test_what_has_no_checksums_takes_a_word(small: Small) -> None:
    manifest = small.folder / "MANIFEST.txt"
    manifest.write_text(
        f"Backup ID: {BACKUP}\nCreated: now\nType: cron\nTotal Size: 1M\nTotal Files: 2\n"
    )
    site = small.site()
    plan = site.plan("latest")
    assert plan.generation == "b" and plan.refusal is not None
    assert "REFUSED" in str(plan) and "REFUSED" in repr(plan) and "Refused" in plan._repr_html_()
    with pytest.raises(restore.RestoreError) as caught:
        plan.run()
    assert caught.value.report is None
    assert small.live() == Small.DAMAGED
    assert site.plan("latest", allow_unverified=True).run().outcome == "restored"


def test_values_of_other_kinds_are_refused(small: Small) -> None:
    with pytest.raises(TypeError):
        restore.Site({"site": object()}, base=small.root)
    itself: dict[str, object] = {}
    itself["site"] = itself
    with pytest.raises(ValueError):
        restore.Site(itself, base=small.root)


def test_async_twins_give_the_same(small: Small) -> None:
    async def everything() -> None:
        site = small.site()
        backups = await site.backups_async()
        backup = await site.backup_async("latest")
        assert list(backups) == [backup.id]
        plan = await site.plan_async(backup, only=["data"])
        report = await plan.run_async()
        assert report == await site.report_async()
        assert [it.run for it in await site.history_async()] == [report.run]
        assert (await site.preview_rollback_async()).run == report.run
        assert (await site.rollback_async()).outcome == "rolled_back"
        assert small.live() == Small.DAMAGED
        assert (await site.preview_confirm_async()).run == report.run
        assert (await site.confirm_async()).confirmed
        assert await site.check_async() == []
        await site.ensure_idle_async()
        with pytest.raises(restore.NotFoundError):
            await site.resume_async()

    asyncio.run(everything())
