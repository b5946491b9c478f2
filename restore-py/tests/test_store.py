"""Backups made, fetched, deleted; and the other verbs of the command line that are no runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import restore
from conftest import BACKUP, REPOSITORY, Platform, Small, difference


def test_everything_that_the_command_line_can_do() -> None:
    """Each verb of the program has a method, but for the one that only it needs."""
    text = (REPOSITORY / "restore-cli" / "src" / "args.rs").read_text()
    verbs = text.split("pub(crate) enum Verb {")[1].split("\n}\n")[0]
    named = {
        line.strip().split("(")[0].split(" ")[0].rstrip(",").lower()
        for line in verbs.splitlines()
        if line.startswith("    ") and line[4:5].isupper()
    }
    methods: dict[str, tuple[type, str]] = {
        "list": (restore.Site, "backups"),
        "show": (restore.Site, "backup"),
        "verify": (restore.Backup, "verify"),
        "backup": (restore.Site, "back_up"),
        "prune": (restore.PrunePlan, "run"),
        "fetch": (restore.Site, "fetch"),
        "run": (restore.Plan, "run"),
        **{
            verb: (restore.Site, verb)
            for verb in (
                "check", "plan", "drill", "rollback", "resume", "confirm", "abandon", "page", "unlock",
                "history", "report", "status", "watch", "get",
            )
        },
        "config": (restore.Site, "check_config"),
    }
    # The first two answer another `restore`; the others are for whoever sits at a terminal.
    apart = {"volumeagent", "detached", "init", "completions", "manual", "help"}
    assert named - apart == set(methods), "verbs that Python or the command line does not have"
    for cls, name in methods.values():
        assert callable(getattr(cls, name)) and callable(getattr(cls, name + "_async"))


def test_a_backup_is_made_and_restores(small: Small) -> None:
    site = small.site()
    seen: list[restore.Event] = []
    made = site.back_up(on_event=seen.append)
    assert made.kind == "full" and made.store == "main" and made.ended >= made.started
    assert made.started.tzinfo is not None
    assert [it.name for it in made.components] == ["data", "crontab"]
    assert made.components[0].artifacts[0].path == f"volumes/data-{made.id}.tar.gz"
    assert made.id in str(made)
    begun, *_, finished = seen
    assert isinstance(begun, restore.BackupStarted) and begun.backup == made.id
    assert isinstance(finished, restore.BackupFinished) and finished.outcome == "finished"
    backup = site.backup("latest")
    assert backup.id == made.id and backup.verify(deep=True).verdict == "verified"
    site.plan(BACKUP).run()
    assert small.live() == Small.GOOD
    site.confirm()
    site.plan(made.id).run()
    assert small.live() == Small.DAMAGED


def test_a_drill_touches_nothing(small: Small) -> None:
    site = small.site()
    report = site.drill("latest")
    assert report.outcome == "drilled" and report.is_drill and not report.is_as_before
    assert report.downtime_seconds is None and report.safety is None
    assert small.live() == Small.DAMAGED
    assert asyncio.run(site.drill_async(BACKUP, only=["data"])).outcome == "drilled"
    with pytest.raises(restore.RestoreError) as caught:
        site.confirm()
    assert caught.value.code == "run.none_to_confirm"
    archive = small.folder / "volumes" / f"data-{BACKUP}.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-8])
    with pytest.raises(restore.VerificationError) as caught:
        site.drill("latest")
    assert caught.value.report is not None and caught.value.report.is_drill
    assert small.live() == Small.DAMAGED


def test_parts_and_compression(small: Small) -> None:
    site = small.site()
    made = asyncio.run(site.back_up_async(only="data", compression="zstd", level=3, to="main"))
    assert made.kind == "partial"
    assert made.components[0].artifacts[0].path.endswith(".tar.zst")
    for wrong in ({"level": 10}, {"compression": "lzma"}, {"to": "nowhere"}, {"only": ["dta"]}):
        with pytest.raises(restore.ConfigError) as caught:
            site.back_up(**wrong)
        assert caught.value.hint


def test_the_safety_backup(small: Small) -> None:
    site = small.site()
    plan = site.plan("latest")
    assert plan.safety is not None and plan.safety.store == "main"
    report = plan.run()
    assert report.safety is not None
    assert site.backup(report.safety.id).is_safety
    site.confirm()
    # The way back by that backup, which the next run then has no need of.
    back = site.plan(report.safety.id, safety_backup=False)
    assert back.safety is None and back.steps[0].phase == "stage"
    assert back.run().safety is None
    assert small.live() == Small.DAMAGED
    later = site.plan("latest", over_unconfirmed=True)
    assert [it.run for it in later.earlier] == [site.report().run]


def test_old_ones_are_deleted_and_needed_ones_stay(small: Small) -> None:
    site = small.site()
    part = site.back_up(only=["data"]).id
    early = site.plan_prune(older_than=timedelta(days=30))
    assert early.delete == (), "the newest backup of everything was to be deleted"
    made = [site.back_up().id, site.back_up().id]
    with pytest.raises(restore.ConfigError) as caught:
        site.plan_prune()
    assert caught.value.hint
    plan = site.plan_prune(older_than=timedelta(days=30))
    assert [it.id for it in plan.delete] == [BACKUP]
    assert [it.id for it in plan.keep] == [part, *made] and all(it.why for it in plan.keep)
    assert plan.bytes == plan.delete[0].bytes > 0 and plan.store == "main" and plan.place
    assert f"delete {BACKUP}" in str(plan) and "\n" not in repr(plan)
    assert [it.id for it in plan.run()] == [BACKUP]
    assert list(site.backups()) == [part, *made]
    assert plan.run() == ()

    async def prune() -> tuple[restore.Pruned, ...]:
        plan = await site.plan_prune_async(keep=1, store="main")
        return await plan.run_async()

    assert [it.id for it in asyncio.run(prune())] == [part, made[0]]
    assert list(site.backups()) == made[1:]


class Far(Small):
    """Its backup is in a second store."""

    def config(self, **components: dict[str, Any]) -> dict[str, Any]:
        config = super().config(**components)
        config["stores"]["far"] = {"kind": "directory", "path": "far"}
        return config

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "far").mkdir()
        self.folder = self.folder.rename(root / "far" / BACKUP)


def test_a_backup_is_fetched(tmp_path: Path) -> None:
    far = Far(tmp_path)
    site = far.site()
    report = site.fetch("latest", from_store="far", to_store="main")
    assert (report.id, report.from_store, report.to_store) == (BACKUP, "far", "main")
    assert report.path == tmp_path / "backups" / BACKUP and report.path.is_dir()
    assert report.verdict == "verified" and not report.already_there
    assert report.received >= report.bytes > 0 and report.files == 3
    again = asyncio.run(site.fetch_async("latest", from_store="far", to_store="main"))
    assert again.already_there and again.path == report.path
    shutil.rmtree(report.path)
    artifact = far.folder / "configs" / f"crontab-{BACKUP}.txt"
    artifact.write_text("evil")
    with pytest.raises(restore.VerificationError):
        site.fetch("latest", from_store="far", to_store="main")
    assert not report.path.exists()
    with pytest.raises(restore.NotFoundError):
        site.fetch("20200101-000000")


def test_a_packed_one_is_brought(small: Small) -> None:
    store = small.root / "backups"
    shutil.make_archive(str(store / f"backup-{BACKUP}"), "gztar", store, BACKUP)
    shutil.rmtree(small.folder)
    site = small.site()
    with pytest.raises(restore.PreflightError) as caught:
        site.plan("latest")
    assert caught.value.code == "backup.packed"
    seen: list[restore.Event] = []
    backup = site.bring("latest", on_event=seen.append)
    assert backup.id == BACKUP and any(isinstance(it, restore.Noticed) for it in seen)
    assert site.plan(backup).run().outcome == "restored"
    assert small.live() == Small.GOOD
    assert asyncio.run(site.bring_async("latest")).id == BACKUP


def test_a_lock_that_nobody_holds(small: Small) -> None:
    site = small.site()
    assert site.lock_holder() is None
    site.unlock()

    async def twins() -> None:
        assert await site.lock_holder_async() is None
        await site.unlock_async()

    asyncio.run(twins())


def test_paths_may_be_of_any_kind(small: Small) -> None:
    class Odd(os.PathLike[str]):
        def __init__(self, path: Path) -> None:
            self.path = path

        def __fspath__(self) -> str:
            return str(self.path)

    toml = small.root / "restore.toml"
    toml.write_text(
        "[site]\nname = 'file'\nstate = 'state'\n"
        "[stores.main]\nkind = 'directory'\npath = 'backups'\n"
        f"[components.crontab]\nkind = 'crontab'\nfile = '{small.crontab}'\n"
    )
    assert restore.Site.open(Odd(toml)).name == "file"
    assert restore.Site(small.config(), base=Odd(small.root)).backups()
    for path in (Odd(Path("data.txt")), Path("data.txt"), "data.txt"):
        with pytest.raises(restore.ConfigError) as caught:
            small.site().plan("latest", paths=[path])
        assert "data.txt" in str(caught.value)


def test_the_whole_platform_backs_itself_up(platform: Platform) -> None:
    """Stopped in its middle, it is seen to be unfinished; made, it brings back what it was made of."""
    site = platform.site()

    async def stopped() -> None:
        async def stop(event: restore.Event) -> None:
            if isinstance(event, restore.StepStarted) and event.step == "back-up:postgres":
                task.cancel()

        task = asyncio.create_task(site.back_up_async(only=platform.ONLY, on_event=stop))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    assert [site.backup(id).generation for id in site.backups()][-1] == "unfinished"
    time.sleep(1.1)  # The ids of two backups differ in their seconds.
    made = site.back_up(only=platform.ONLY)
    assert made.missing == () and len(made.components) == len(platform.ONLY)
    platform.plan_of(platform.backup).run()
    assert difference(platform.restored, platform.fingerprint()) == []
    site.confirm()
    platform.plan_of(made.id).run()
    assert difference(platform.before, platform.fingerprint()) == []
    site.confirm()
    for id in site.backups():
        if id != platform.backup:
            shutil.rmtree(platform.root / "backups" / id)
    platform.is_as_before()


def test_what_is_in_a_backup_is_listed_and_brought_out(small: Small) -> None:
    site = small.site()
    members = site.members("latest").raise_if_failed()
    file = next(it for it in members if it.kind == "file")
    assert (file.path, file.component, file.size) == ("data/data.txt", "data", 4)
    assert file.modified is not None and file.modified.tzinfo is not None
    assert len(members) == members.total and not members.findings
    some = asyncio.run(site.members_async("latest", "*.txt", only=["data"]))
    assert [it.path for it in some] == ["data/data.txt"] and "1 of" in repr(some)

    out = small.root / "out"
    report = site.get("latest", "data/data.txt", out)
    assert (report.files, report.to, report.taken[0].at) == (1, out, "data")
    assert (out / "data" / "data.txt").read_text() == "good"
    assert str(out) in str(report)
    with pytest.raises(restore.ConfigError) as refused:
        asyncio.run(site.get_async("latest", ["data"], out))
    assert refused.value.code == "get.exists"
    assert small.live() == small.DAMAGED

    archive = small.folder / "volumes" / f"data-{BACKUP}.tar.gz"
    content = bytearray(archive.read_bytes())
    content[5] ^= 1
    archive.write_bytes(content)
    damaged = site.members("latest")
    with pytest.raises(restore.VerificationError):
        damaged.raise_if_failed()
    with pytest.raises(restore.VerificationError):
        site.get("latest", "data", small.root / "other")
    assert not (small.root / "other").exists()


def test_what_would_change_is_told(small: Small) -> None:
    site = small.site()
    found = site.difference("latest")
    data, crontab = found.components
    files = data.differences[0]
    assert (data.name, files.of, files.changed.names) == ("data", "files", ("data.txt",))
    assert files and (files.backup, files.live) == (1, 1)
    lines = crontab.differences[0]
    assert lines.added.names == ("line 1: 1 * * * * good",)
    assert (lines.removed.count, lines.counted_only, crontab.unknown) == (1, False, None)
    (data,) = asyncio.run(site.difference_async("latest", paths=["data/data.txt"])).components
    assert data.differences[0].changed.count == 1
    assert small.live() == small.DAMAGED
