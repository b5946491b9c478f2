"""The way in: a site, its backups, its runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Optional, Union

from . import _report, _restore, _store
from ._arguments import number, wrong
from ._backup import Backup, Backups
from ._component import Component
from ._difference import SiteDifference
from ._errors import ConfigError
from ._members import GetReport, Members
from ._plan import Plan
from ._report import Report
from ._status import ConfigCheck, SiteStatus
from ._store import BackupReport, Compression, FetchReport, PrunePlan, whole_seconds
from ._target import Moment, Native, native
from ._task import OnEvent, OnEventAsync, drive, wait
from ._values import CheckOutcome, ListedBackup

Path = Union[str, "os.PathLike[str]"]
Kinds = Iterable[type[Component]]


class Site:
    """One configured platform with its components and its stores: what ``restore.toml`` describes.

    ``Site.open("restore.toml")``, or from a dict of the same shape, whose relative paths are taken
    from ``base``. Neither reads a password, connects to anything or writes anything.
    ``components`` are classes of your own, by their ``kind``.

    Every slow method has a twin whose name ends in ``_async``, for asyncio. Other threads run
    while they wait. Ctrl-C and cancellation stop a run, wait until it has undone itself, and are
    raised then.
    """

    __slots__ = ("_native",)

    def __init__(
        self, config: Mapping[str, Any], *, base: Path = ".", components: Kinds = ()
    ) -> None:
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"a site is made of a dict, not of {config!r}",
                code="config.shape",
                hint="Site.open(path) reads a restore.toml",
            )
        self._native = _restore.Site(dict(config), os.fspath(base), _by_kind(components))

    @classmethod
    def open(cls, path: Path, *, components: Kinds = ()) -> Site:
        """The site that the file at ``path`` describes."""
        site = cls.__new__(cls)
        site._native = _restore.Site(os.fspath(path), None, _by_kind(components))
        return site

    @staticmethod
    def check_config(path: Path, *, components: Kinds = ()) -> ConfigCheck:
        """Everything that can be known of the file at ``path`` without a backup: keys, references,
        programs, rights of files, whether stores and services answer, room. Changes nothing; true
        where nothing of it is an error."""
        checking = _restore.Site.check_config(os.fspath(path), _by_kind(components))
        check: ConfigCheck = wait(checking.then(ConfigCheck._of))
        return check

    @staticmethod
    async def check_config_async(path: Path, *, components: Kinds = ()) -> ConfigCheck:
        """The same on an asyncio loop."""
        checking = _restore.Site.check_config(os.fspath(path), _by_kind(components))
        check: ConfigCheck = await drive(checking.then(ConfigCheck._of))
        return check

    @property
    def name(self) -> str:
        """The site's name."""
        return self._native.name

    @property
    def platform(self) -> str:
        """What runs its services, in words."""
        return self._native.platform

    @property
    def stores(self) -> dict[str, str]:
        """Its stores, by name, in words."""
        return dict(self._native.stores)

    @property
    def components(self) -> dict[str, str]:
        """Its components' kinds, by name, in the order of their cut-overs."""
        return dict(self._native.components)

    # --- backups ---------------------------------------------------------------------------

    def backups(self) -> Backups:
        """All backups of all stores, as a mapping from their ids."""
        return Backups(self, wait(self._native.backups().then(_listed)))

    async def backups_async(self) -> Backups:
        """The same; open one with :meth:`backup_async` then."""
        return Backups(self, await drive(self._native.backups().then(_listed)))

    def backup(self, id: str) -> Backup:
        """Opens a backup by its id, or the newest finished one by the name ``latest``. One that is
        packed or encrypted must be brought first: see :meth:`bring`. A new one is made by
        :meth:`back_up`."""
        backup: Backup = wait(self._native.backup(id, None).then(Backup))
        return backup

    async def backup_async(self, id: str) -> Backup:
        """The same on an asyncio loop."""
        backup: Backup = await drive(self._native.backup(id, None).then(Backup))
        return backup

    def bring(self, id: str, *, on_event: Optional[OnEvent] = None) -> Backup:
        """Opens a backup on this host: fetched first, unpacked and unlocked, where it is elsewhere
        or packed. What ``restore run`` begins with."""
        backup: Backup = wait(self._native.bring(id).then(Backup), on_event)
        return backup

    async def bring_async(self, id: str, *, on_event: Optional[OnEventAsync] = None) -> Backup:
        """The same on an asyncio loop."""
        backup: Backup = await drive(self._native.bring(id).then(Backup), on_event)
        return backup

    def fetch(
        self,
        id: str,
        *,
        from_store: Optional[str] = None,
        to_store: Optional[str] = None,
        on_event: Optional[OnEvent] = None,
    ) -> FetchReport:
        """Brings a backup from another store into a directory of this host, verified while it is
        written. Whatever breaks it off, the same call goes on where it stopped."""
        task = self._native.fetch(id, from_store, to_store).then(FetchReport._of)
        report: FetchReport = wait(task, on_event)
        return report

    async def fetch_async(
        self,
        id: str,
        *,
        from_store: Optional[str] = None,
        to_store: Optional[str] = None,
        on_event: Optional[OnEventAsync] = None,
    ) -> FetchReport:
        """The same on an asyncio loop."""
        task = self._native.fetch(id, from_store, to_store).then(FetchReport._of)
        report: FetchReport = await drive(task, on_event)
        return report

    def members(
        self,
        backup: Union[str, Backup],
        pattern: Optional[str] = None,
        *,
        only: Optional[Iterable[str]] = None,
        on_event: Optional[OnEvent] = None,
    ) -> Members:
        """What is in a backup's archives and dumps: each artifact is read once, to its end, and its
        hash compared. What is wrong with one is in the result, and no exception. ``pattern``: only
        what it names, a path or a name without a slash, ``*`` for anything but a slash, and all below.
        ``only``: only artifacts of these components."""
        opened = self.bring(backup, on_event=on_event) if isinstance(backup, str) else backup
        task = self._native.members(opened._native, pattern, _texts(only)).then(Members._of)
        members: Members = wait(task, on_event)
        return members

    async def members_async(
        self,
        backup: Union[str, Backup],
        pattern: Optional[str] = None,
        *,
        only: Optional[Iterable[str]] = None,
        on_event: Optional[OnEventAsync] = None,
    ) -> Members:
        """The same on an asyncio loop."""
        opened = (
            await self.bring_async(backup, on_event=on_event) if isinstance(backup, str) else backup
        )
        task = self._native.members(opened._native, pattern, _texts(only)).then(Members._of)
        members: Members = await drive(task, on_event)
        return members

    def get(
        self,
        backup: Union[str, Backup],
        paths: Union[Path, Iterable[Path]],
        to: Path,
        *,
        owners: bool = True,
        keep_setuid: bool = False,
        allow_unverified: bool = False,
        on_event: Optional[OnEvent] = None,
    ) -> GetReport:
        """Brings files out of a backup into the directory ``to``, which must not be there yet, or be
        empty; touches nothing live. ``paths``: ``COMPONENT/path`` as :meth:`members` has it, a path as
        in the archive or on the live machine, ``COMPONENT`` for all of it, or a file of the backup.
        The directory is there once everything in it is verified, or not at all. ``owners``: whether
        root gives files their recorded owners. ``keep_setuid``: keep set-uid and set-gid bits and
        capabilities, which are taken off otherwise."""
        opened = self.bring(backup, on_event=on_event) if isinstance(backup, str) else backup
        task = self._getting(opened, paths, to, (owners, keep_setuid, allow_unverified))
        report: GetReport = wait(task, on_event)
        return report

    async def get_async(
        self,
        backup: Union[str, Backup],
        paths: Union[Path, Iterable[Path]],
        to: Path,
        *,
        owners: bool = True,
        keep_setuid: bool = False,
        allow_unverified: bool = False,
        on_event: Optional[OnEventAsync] = None,
    ) -> GetReport:
        """The same on an asyncio loop."""
        opened = (
            await self.bring_async(backup, on_event=on_event) if isinstance(backup, str) else backup
        )
        task = self._getting(opened, paths, to, (owners, keep_setuid, allow_unverified))
        report: GetReport = await drive(task, on_event)
        return report

    def difference(
        self,
        backup: Union[str, Backup],
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        most: int = 10,
        on_event: Optional[OnEvent] = None,
    ) -> SiteDifference:
        """How what ``backup`` has differs from what is live: files by type, size, time, mode and link
        target, crontabs by line, tables and keys by count. Archives are read to their end and verified;
        nothing is staged. ``most``: so many names of each sort; all are counted. ``only`` and ``paths``
        as in :meth:`plan`."""
        opened = self.backup(backup) if isinstance(backup, str) else backup
        task = self._comparing(opened, only, paths, most)
        found: SiteDifference = wait(task, on_event)
        return found

    async def difference_async(
        self,
        backup: Union[str, Backup],
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        most: int = 10,
        on_event: Optional[OnEventAsync] = None,
    ) -> SiteDifference:
        """The same on an asyncio loop."""
        opened = await self.backup_async(backup) if isinstance(backup, str) else backup
        task = self._comparing(opened, only, paths, most)
        found: SiteDifference = await drive(task, on_event)
        return found

    def _comparing(
        self,
        backup: Backup,
        only: Optional[Iterable[str]],
        paths: Optional[Iterable[Path]],
        most: int,
    ) -> _restore.Task:
        named = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        texts = None if named is None else [os.fspath(path) for path in named]
        task = self._native.difference(backup._native, _texts(only), texts, most)
        return task.then(SiteDifference._of)

    def _getting(
        self,
        backup: Backup,
        paths: Union[Path, Iterable[Path]],
        to: Path,
        words: tuple[bool, bool, bool],
    ) -> _restore.Task:
        named = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        texts = [os.fspath(path) for path in named]
        task = self._native.get(backup._native, texts, os.fspath(to), words)
        return task.then(GetReport._of)

    def back_up(
        self,
        *,
        only: Optional[Iterable[str]] = None,
        to: Optional[str] = None,
        compression: Compression = "gzip",
        level: Optional[int] = None,
        base: bool = False,
        on_event: Optional[OnEvent] = None,
    ) -> BackupReport:
        """Backs up what is live now, while the platform serves. Nothing live is changed, nothing
        is deleted.

        ``only``: these components; ``None``: all of them. ``to``: the store's name; ``None``: the first on this host.
        ``level``: 1 to 9 for gzip, 1 to 19 for zstd. ``base``: also make base backups of database
        clusters, from which they can be recovered to any point in time. Stopped or failed, what there is of it stays
        where it is, is seen to be unfinished, and is never restored.
        """
        task = self._backing_up(only, to, compression, level, base)
        report: BackupReport = wait(task, on_event)
        return report

    async def back_up_async(
        self,
        *,
        only: Optional[Iterable[str]] = None,
        to: Optional[str] = None,
        compression: Compression = "gzip",
        level: Optional[int] = None,
        base: bool = False,
        on_event: Optional[OnEventAsync] = None,
    ) -> BackupReport:
        """The same on an asyncio loop."""
        task = self._backing_up(only, to, compression, level, base)
        report: BackupReport = await drive(task, on_event)
        return report

    def _backing_up(
        self,
        only: Optional[Iterable[str]],
        to: Optional[str],
        compression: Compression,
        level: Optional[int],
        base: bool,
    ) -> _restore.Task:
        level = number("level", level, 255)
        task = self._native.back_up(_texts(only), to, compression, level, base)
        return task.then(_store.made)

    def plan_prune(
        self,
        *,
        keep: Optional[int] = None,
        older_than: Optional[timedelta] = None,
        store: Optional[str] = None,
    ) -> PrunePlan:
        """Which old backups :meth:`PrunePlan.run` would delete: all but the newest ``keep``
        finished ones, and only what is ``older_than`` that; both where both are given. Never the
        newest finished one, nor what an unconfirmed run needs. Changes nothing."""
        seconds = whole_seconds(older_than)
        keep = number("keep", keep, 2**63)
        value = wait(self._native.plan_prune(keep, seconds, store))
        return PrunePlan(self, (keep, seconds, value["store"]), value)

    async def plan_prune_async(
        self,
        *,
        keep: Optional[int] = None,
        older_than: Optional[timedelta] = None,
        store: Optional[str] = None,
    ) -> PrunePlan:
        """The same on an asyncio loop."""
        seconds = whole_seconds(older_than)
        keep = number("keep", keep, 2**63)
        value = await drive(self._native.plan_prune(keep, seconds, store))
        return PrunePlan(self, (keep, seconds, value["store"]), value)

    # --- plans -----------------------------------------------------------------------------

    def plan(
        self,
        backup: Union[str, Backup],
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        allow_unverified: bool = False,
        over_unconfirmed: bool = False,
        safety_backup: bool = True,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        over: Optional[str] = None,
        create: bool = False,
        allow_missing: Optional[Iterable[str]] = None,
        allow_empty: Optional[Iterable[str]] = None,
        maintenance: bool = True,
        on_event: Optional[OnEvent] = None,
    ) -> Plan:
        """What restoring ``backup`` would do. Changes nothing; what speaks against it is among
        the plan's findings.

        ``only``: these components. ``paths``: these paths, named as the archives name their
        members. ``None`` is all of them; an empty selection is refused. ``allow_unverified``: restore what has no checksum too. ``over_unconfirmed``:
        although an earlier run is not confirmed. ``safety_backup``: whether the run backs up
        first what it is about to replace. ``to``: recover databases to this moment (a time with
        its zone, ``latest``, or a :class:`RecoveryTarget`); with the backup ``"latest"`` the newest
        one that leads there is taken. ``allow_time_gap``: restore what is of another time along
        with them. ``over``: restore over this run, which is stuck or unfinished and is ended as it
        stands. ``create``: make what is absent (directories, a database's roles), and remove it again
        where the run is taken back; nothing that exists is altered by it. ``allow_missing``: these
        components, although the backup has nothing for them: they stay as they are.
        ``allow_empty``: these, although their dump has tables and no row. ``maintenance``: whether
        the page goes up.
        """
        opened = (
            wait(self._native.backup(backup, native(to)).then(Backup))
            if isinstance(backup, str)
            else _opened(backup)
        )
        words = (allow_unverified, over_unconfirmed, safety_backup, create, maintenance)
        without = (_texts(allow_missing) or [], _texts(allow_empty) or [])
        recovery = (native(to), allow_time_gap)
        task = self._planning(opened, only, paths, words, without, recovery, over)
        return Plan(self, wait(task, on_event))

    async def plan_async(
        self,
        backup: Union[str, Backup],
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        allow_unverified: bool = False,
        over_unconfirmed: bool = False,
        safety_backup: bool = True,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        over: Optional[str] = None,
        create: bool = False,
        allow_missing: Optional[Iterable[str]] = None,
        allow_empty: Optional[Iterable[str]] = None,
        maintenance: bool = True,
        on_event: Optional[OnEventAsync] = None,
    ) -> Plan:
        """The same on an asyncio loop."""
        opened = (
            await drive(self._native.backup(backup, native(to)).then(Backup))
            if isinstance(backup, str)
            else _opened(backup)
        )
        words = (allow_unverified, over_unconfirmed, safety_backup, create, maintenance)
        without = (_texts(allow_missing) or [], _texts(allow_empty) or [])
        recovery = (native(to), allow_time_gap)
        task = self._planning(opened, only, paths, words, without, recovery, over)
        return Plan(self, await drive(task, on_event))

    def _planning(
        self,
        backup: Backup,
        only: Optional[Iterable[str]],
        paths: Optional[Iterable[Path]],
        words: tuple[bool, bool, bool, bool, bool],
        without: tuple[list[str], list[str]],
        recovery: tuple[Optional[Native], bool],
        over: Optional[str],
    ) -> _restore.Task:
        if isinstance(paths, (str, os.PathLike)):
            paths = [paths]
        return self._native.plan(
            backup._native,
            (
                _texts(only),
                None if paths is None else [os.fspath(path) for path in paths],
                *without,
            ),
            words,
            recovery,
            over,
        )

    # --- drills ----------------------------------------------------------------------------

    def drill(
        self,
        backup: Union[str, Backup],
        *,
        only: Optional[Iterable[str]] = None,
        allow_unverified: bool = False,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        on_event: Optional[OnEvent] = None,
    ) -> Report:
        """Proves that ``backup`` restores: stages and checks it beside the live data, then deletes
        it again. Nothing is stopped or replaced. Raises what does not restore. ``to`` and
        ``allow_time_gap`` as in :meth:`plan`: proves that databases can be recovered to then."""
        opened = (
            wait(self._native.backup(backup, native(to)).then(Backup))
            if isinstance(backup, str)
            else _opened(backup)
        )
        recovery = (native(to), allow_time_gap)
        report: Report = wait(self._drilling(opened, only, allow_unverified, recovery), on_event)
        return report

    async def drill_async(
        self,
        backup: Union[str, Backup],
        *,
        only: Optional[Iterable[str]] = None,
        allow_unverified: bool = False,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        on_event: Optional[OnEventAsync] = None,
    ) -> Report:
        """The same on an asyncio loop."""
        opened = (
            await drive(self._native.backup(backup, native(to)).then(Backup))
            if isinstance(backup, str)
            else _opened(backup)
        )
        recovery = (native(to), allow_time_gap)
        task = self._drilling(opened, only, allow_unverified, recovery)
        report: Report = await drive(task, on_event)
        return report

    def _drilling(
        self,
        backup: Backup,
        only: Optional[Iterable[str]],
        allow_unverified: bool,
        recovery: tuple[Optional[Native], bool],
    ) -> _restore.Task:
        task = self._native.drill(backup._native, _texts(only), allow_unverified, recovery)
        return task.then(_report.ended)

    # --- runs ------------------------------------------------------------------------------

    def resume(self, run: Optional[str] = None, *, on_event: Optional[OnEvent] = None) -> Report:
        """Finishes an unfinished run (``None``: the only one), forwards or backwards."""
        report: Report = wait(self._native.resume(run).then(_report.ended), on_event)
        return report

    async def resume_async(
        self, run: Optional[str] = None, *, on_event: Optional[OnEventAsync] = None
    ) -> Report:
        """The same on an asyncio loop."""
        report: Report = await drive(self._native.resume(run).then(_report.ended), on_event)
        return report

    def rollback(self, run: Optional[str] = None, *, on_event: Optional[OnEvent] = None) -> Report:
        """Takes a run back: an unfinished one, or the newest that is restored and not confirmed.
        What was written since is put aside, not deleted. Stopping it does not break it off."""
        report: Report = wait(self._native.rollback(run).then(_report.taken_back), on_event)
        return report

    async def rollback_async(
        self, run: Optional[str] = None, *, on_event: Optional[OnEventAsync] = None
    ) -> Report:
        """The same on an asyncio loop."""
        task = self._native.rollback(run).then(_report.taken_back)
        report: Report = await drive(task, on_event)
        return report

    def confirm(self, run: Optional[str] = None, *, on_event: Optional[OnEvent] = None) -> Report:
        """Accepts a run (``None``: the newest unconfirmed): deletes what it had put aside. There
        is no way back afterwards."""
        report: Report = wait(self._native.confirm(run).then(_report.Report._of), on_event)
        return report

    async def confirm_async(
        self, run: Optional[str] = None, *, on_event: Optional[OnEventAsync] = None
    ) -> Report:
        """The same on an asyncio loop."""
        task = self._native.confirm(run).then(_report.Report._of)
        report: Report = await drive(task, on_event)
        return report

    def abandon(self, run: Optional[str] = None, *, on_event: Optional[OnEvent] = None) -> Report:
        """Ends an unfinished or stuck run (``None``: the newest) as the platform stands: nothing is
        moved, what it keeps is kept. The maintenance page comes down."""
        report: Report = wait(self._native.abandon(run).then(_report.Report._of), on_event)
        return report

    async def abandon_async(
        self, run: Optional[str] = None, *, on_event: Optional[OnEventAsync] = None
    ) -> Report:
        """The same on an asyncio loop."""
        task = self._native.abandon(run).then(_report.Report._of)
        report: Report = await drive(task, on_event)
        return report

    def watch(self, run: Optional[str] = None, *, on_event: Optional[OnEvent] = None) -> Report:
        """Follows a run (``None``: the newest) that another process does, by its journal: its events
        so far and those to come, without the progress within steps. Its report once it has ended, or
        once nobody is at work on it. Ctrl-C ends the watching and not the run."""
        report: Report = wait(self._native.watch(run).then(_report.Report._of), on_event)
        return report

    async def watch_async(
        self, run: Optional[str] = None, *, on_event: Optional[OnEventAsync] = None
    ) -> Report:
        """The same on an asyncio loop."""
        task = self._native.watch(run).then(_report.Report._of)
        report: Report = await drive(task, on_event)
        return report

    def page(self, up: bool) -> None:
        """Turns users away with the maintenance page, or lets them in again. A run does so by
        itself."""
        wait(self._native.page(up))

    async def page_async(self, up: bool) -> None:
        """The same on an asyncio loop."""
        await drive(self._native.page(up))

    def preview_rollback(self, run: Optional[str] = None) -> Report:
        """The report of the run that :meth:`rollback` would take back. Changes nothing."""
        report: Report = wait(self._native.preview_rollback(run).then(_report.told))
        return report

    async def preview_rollback_async(self, run: Optional[str] = None) -> Report:
        """The same on an asyncio loop."""
        report: Report = await drive(self._native.preview_rollback(run).then(_report.told))
        return report

    def preview_confirm(self, run: Optional[str] = None) -> Report:
        """The report of the run that :meth:`confirm` would accept. Changes nothing."""
        report: Report = wait(self._native.preview_confirm(run).then(_report.told))
        return report

    async def preview_confirm_async(self, run: Optional[str] = None) -> Report:
        """The same on an asyncio loop."""
        report: Report = await drive(self._native.preview_confirm(run).then(_report.told))
        return report

    # --- what is known ---------------------------------------------------------------------

    def status(self) -> SiteStatus:
        """One look at the site: its newest full backup, what was proven, runs, kept data, room, and
        what would stop a restore now. Changes nothing; true where a restore could begin."""
        status: SiteStatus = wait(self._native.status().then(SiteStatus._of))
        return status

    async def status_async(self) -> SiteStatus:
        """The same on an asyncio loop."""
        status: SiteStatus = await drive(self._native.status().then(SiteStatus._of))
        return status

    def check(self, *, on_event: Optional[OnEvent] = None) -> list[CheckOutcome]:
        """Makes all checks once, now. One that fails is no exception."""
        outcomes: list[CheckOutcome] = wait(self._native.check().then(_outcomes), on_event)
        return outcomes

    async def check_async(
        self, *, on_event: Optional[OnEventAsync] = None
    ) -> list[CheckOutcome]:
        """The same on an asyncio loop."""
        outcomes: list[CheckOutcome] = await drive(self._native.check().then(_outcomes), on_event)
        return outcomes

    def history(self) -> list[Report]:
        """The reports of all runs, oldest first."""
        reports: list[Report] = wait(self._native.history().then(_report.all_told))
        return reports

    async def history_async(self) -> list[Report]:
        """The same on an asyncio loop."""
        reports: list[Report] = await drive(self._native.history().then(_report.all_told))
        return reports

    def report(self, run: Optional[str] = None) -> Report:
        """The report of a run (``None``: the newest), whatever it says."""
        report: Report = wait(self._native.report(run).then(_report.told))
        return report

    async def report_async(self, run: Optional[str] = None) -> Report:
        """The same on an asyncio loop."""
        report: Report = await drive(self._native.report(run).then(_report.told))
        return report

    def ensure_idle(self) -> None:
        """Raises a :class:`~restore.LockedError`, naming who it is, where a run is under way."""
        wait(self._native.ensure_idle())

    async def ensure_idle_async(self) -> None:
        """The same on an asyncio loop."""
        await drive(self._native.ensure_idle())

    def lock_holder(self) -> Optional[str]:
        """Who holds the lock that the whole platform shares, in words; ``None`` where nobody does
        or it has none."""
        holder: Optional[str] = wait(self._native.lock_holder())
        return holder

    async def lock_holder_async(self) -> Optional[str]:
        """The same on an asyncio loop."""
        holder: Optional[str] = await drive(self._native.lock_holder())
        return holder

    def unlock(self) -> None:
        """Takes that lock away from a host that is gone for good. One that still works would go on
        restoring beside the next."""
        wait(self._native.unlock())

    async def unlock_async(self) -> None:
        """The same on an asyncio loop."""
        await drive(self._native.unlock())

    def __repr__(self) -> str:
        return f"<restore.Site {self.name!r} of {', '.join(self.components)}>"


def _opened(backup: Backup) -> Backup:
    if not isinstance(backup, Backup):
        hint = 'an id, "latest", or what site.backup(id) gives'
        raise wrong("backup", "an id or a Backup", backup, hint)
    return backup


def _texts(values: Optional[Iterable[str]]) -> Optional[list[str]]:
    """A text alone is one of them, not its letters."""
    if values is None:
        return None
    return [values] if isinstance(values, str) else list(values)


def _by_kind(components: Kinds) -> dict[str, type[Component]]:
    def refused(message: str) -> ConfigError:
        return ConfigError(message, code="config.components", hint="components=[MyComponent]")

    if isinstance(components, type):
        raise refused("components is a class, and not a list of classes")
    kinds: dict[str, type[Component]] = {}
    for component in components:
        if not (isinstance(component, type) and issubclass(component, Component)):
            raise refused(f"components: {component!r} is no class below restore.Component")
        kind = getattr(component, "kind", None)
        if not isinstance(kind, str) or not kind:
            raise refused(f"components: {component.__name__} has no `kind`")
        if kind in kinds:
            raise refused(
                f"components: {kinds[kind].__name__} and {component.__name__} have the same kind {kind!r}"
            )
        kinds[kind] = component
    return kinds


def _listed(values: list[dict[str, Any]]) -> list[ListedBackup]:
    return [ListedBackup._of(value) for value in values]


def _outcomes(values: list[dict[str, Any]]) -> list[CheckOutcome]:
    return [CheckOutcome(**value) for value in values]
