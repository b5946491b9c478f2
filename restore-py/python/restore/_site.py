"""The way in: a site, its backups, its runs. Written by scripts/python-calls.py from _site_base.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Optional, Union

from ._arguments import Path
from ._backup import Backup, Backups
from ._difference import SiteDifference
from ._members import GetReport, Members
from ._plan import Plan
from ._report import Report
from ._run import Run
from ._site_base import BackupName, RunName, Secrets, SiteBase
from ._status import SiteStatus
from ._store import BackupReport, Compression, FetchReport, PrunePlan
from ._target import Moment
from ._task import OnEvent, OnEventAsync
from ._values import BackupRecovery, CheckOutcome


class Site(SiteBase):
    """One configured platform with its components and its stores: what ``restore.toml`` describes.

    ``Site.open("restore.toml")``, or from a dict of the same shape, whose relative paths are taken
    from ``base``. Neither reads a password, connects to anything or writes anything.
    ``components``, ``checks``, ``stores``, ``hooks`` and ``maintenance`` are classes of your own, which
    sections of their ``kind`` are made with.

    Every slow method has a twin whose name ends in ``_async``, for asyncio, and of a long one
    ``start_…`` begins it and gives a :class:`Run`. Other threads run while they wait. Ctrl-C and
    cancellation stop a run, wait until it has undone itself, and are raised then. ``wait``: so many
    seconds for the lock of another process.
    """

    __slots__ = ()

    def backups(self) -> Backups:
        """All backups of all stores, as a mapping from their ids."""
        return self._backups()._wait()

    async def backups_async(self) -> Backups:
        """All backups of all stores, as a mapping from their ids."""
        return await self._backups()._drive()

    def backup(self, id: BackupName) -> Backup:
        """Opens a backup by its id, or the newest full one by the name ``latest``. One that is packed or
        encrypted must be brought first: see :meth:`bring`. A new one is made by :meth:`back_up`."""
        return self._backup(id)._wait()

    async def backup_async(self, id: BackupName) -> Backup:
        """Opens a backup by its id, or the newest full one by the name ``latest``. One that is packed or
        encrypted must be brought first: see :meth:`bring`. A new one is made by :meth:`back_up`."""
        return await self._backup(id)._drive()

    def bring(
        self, id: BackupName, *, wait: float = 0, on_event: Optional[OnEvent] = None
    ) -> Backup:
        """Opens a backup on this host: fetched first, unpacked and unlocked, where it is elsewhere
        or packed. What ``restore run`` begins with. What is in a packed one is not known before:
        ``latest`` may be one that turns out to be partial, whose plan says so."""
        return self._bring(id, wait=wait)._wait(on_event)

    async def bring_async(
        self, id: BackupName, *, wait: float = 0, on_event: Optional[OnEventAsync] = None
    ) -> Backup:
        """Opens a backup on this host: fetched first, unpacked and unlocked, where it is elsewhere
        or packed. What ``restore run`` begins with. What is in a packed one is not known before:
        ``latest`` may be one that turns out to be partial, whose plan says so."""
        return await self._bring(id, wait=wait)._drive(on_event)

    def start_bring(self, id: BackupName, *, wait: float = 0) -> Run[Backup]:
        """Opens a backup on this host: fetched first, unpacked and unlocked, where it is elsewhere
        or packed. What ``restore run`` begins with. What is in a packed one is not known before:
        ``latest`` may be one that turns out to be partial, whose plan says so."""
        return self._bring(id, wait=wait).start()

    def fetch(
        self,
        id: BackupName,
        *,
        from_store: Optional[str] = None,
        to_store: Optional[str] = None,
        wait: float = 0,
        on_event: Optional[OnEvent] = None,
    ) -> FetchReport:
        """Brings a backup from another store into a directory of this host, verified while it is
        written. Whatever breaks it off, the same call goes on where it stopped."""
        return self._fetch(id, from_store=from_store, to_store=to_store, wait=wait)._wait(on_event)

    async def fetch_async(
        self,
        id: BackupName,
        *,
        from_store: Optional[str] = None,
        to_store: Optional[str] = None,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
    ) -> FetchReport:
        """Brings a backup from another store into a directory of this host, verified while it is
        written. Whatever breaks it off, the same call goes on where it stopped."""
        return await self._fetch(id, from_store=from_store, to_store=to_store, wait=wait)._drive(on_event)

    def start_fetch(
        self,
        id: BackupName,
        *,
        from_store: Optional[str] = None,
        to_store: Optional[str] = None,
        wait: float = 0,
    ) -> Run[FetchReport]:
        """Brings a backup from another store into a directory of this host, verified while it is
        written. Whatever breaks it off, the same call goes on where it stopped."""
        return self._fetch(id, from_store=from_store, to_store=to_store, wait=wait).start()

    def recoverable(
        self, backup: BackupName, *, on_event: Optional[OnEvent] = None
    ) -> BackupRecovery:
        """From when to when each database cluster of the site can be recovered from a backup, by its base
        backup and the archive of the log; false where from none. For ``to`` of :meth:`plan`."""
        return self._recoverable(backup)._wait(on_event)

    async def recoverable_async(
        self, backup: BackupName, *, on_event: Optional[OnEventAsync] = None
    ) -> BackupRecovery:
        """From when to when each database cluster of the site can be recovered from a backup, by its base
        backup and the archive of the log; false where from none. For ``to`` of :meth:`plan`."""
        return await self._recoverable(backup)._drive(on_event)

    def start_recoverable(self, backup: BackupName) -> Run[BackupRecovery]:
        """From when to when each database cluster of the site can be recovered from a backup, by its base
        backup and the archive of the log; false where from none. For ``to`` of :meth:`plan`."""
        return self._recoverable(backup).start()

    def members(
        self,
        backup: BackupName,
        pattern: Optional[str] = None,
        *,
        only: Optional[Iterable[str]] = None,
        on_event: Optional[OnEvent] = None,
    ) -> Members:
        """What is in a backup's archives and dumps: each artifact is read once, to its end, and its
        hash compared. What is wrong with one is in the result, and no exception. ``pattern``: only
        what it names, a path or a name without a slash, ``*`` for anything but a slash, and all below.
        ``only``: only artifacts of these components. An empty selection is refused."""
        return self._members(backup, pattern, only=only)._wait(on_event)

    async def members_async(
        self,
        backup: BackupName,
        pattern: Optional[str] = None,
        *,
        only: Optional[Iterable[str]] = None,
        on_event: Optional[OnEventAsync] = None,
    ) -> Members:
        """What is in a backup's archives and dumps: each artifact is read once, to its end, and its
        hash compared. What is wrong with one is in the result, and no exception. ``pattern``: only
        what it names, a path or a name without a slash, ``*`` for anything but a slash, and all below.
        ``only``: only artifacts of these components. An empty selection is refused."""
        return await self._members(backup, pattern, only=only)._drive(on_event)

    def start_members(
        self,
        backup: BackupName,
        pattern: Optional[str] = None,
        *,
        only: Optional[Iterable[str]] = None,
    ) -> Run[Members]:
        """What is in a backup's archives and dumps: each artifact is read once, to its end, and its
        hash compared. What is wrong with one is in the result, and no exception. ``pattern``: only
        what it names, a path or a name without a slash, ``*`` for anything but a slash, and all below.
        ``only``: only artifacts of these components. An empty selection is refused."""
        return self._members(backup, pattern, only=only).start()

    def get(
        self,
        backup: BackupName,
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
        return self._get(
            backup,
            paths,
            to,
            owners=owners,
            keep_setuid=keep_setuid,
            allow_unverified=allow_unverified,
        )._wait(on_event)

    async def get_async(
        self,
        backup: BackupName,
        paths: Union[Path, Iterable[Path]],
        to: Path,
        *,
        owners: bool = True,
        keep_setuid: bool = False,
        allow_unverified: bool = False,
        on_event: Optional[OnEventAsync] = None,
    ) -> GetReport:
        """Brings files out of a backup into the directory ``to``, which must not be there yet, or be
        empty; touches nothing live. ``paths``: ``COMPONENT/path`` as :meth:`members` has it, a path as
        in the archive or on the live machine, ``COMPONENT`` for all of it, or a file of the backup.
        The directory is there once everything in it is verified, or not at all. ``owners``: whether
        root gives files their recorded owners. ``keep_setuid``: keep set-uid and set-gid bits and
        capabilities, which are taken off otherwise."""
        return await self._get(
            backup,
            paths,
            to,
            owners=owners,
            keep_setuid=keep_setuid,
            allow_unverified=allow_unverified,
        )._drive(on_event)

    def start_get(
        self,
        backup: BackupName,
        paths: Union[Path, Iterable[Path]],
        to: Path,
        *,
        owners: bool = True,
        keep_setuid: bool = False,
        allow_unverified: bool = False,
    ) -> Run[GetReport]:
        """Brings files out of a backup into the directory ``to``, which must not be there yet, or be
        empty; touches nothing live. ``paths``: ``COMPONENT/path`` as :meth:`members` has it, a path as
        in the archive or on the live machine, ``COMPONENT`` for all of it, or a file of the backup.
        The directory is there once everything in it is verified, or not at all. ``owners``: whether
        root gives files their recorded owners. ``keep_setuid``: keep set-uid and set-gid bits and
        capabilities, which are taken off otherwise."""
        return self._get(
            backup,
            paths,
            to,
            owners=owners,
            keep_setuid=keep_setuid,
            allow_unverified=allow_unverified,
        ).start()

    def difference(
        self,
        backup: BackupName,
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
        return self._difference(backup, only=only, paths=paths, most=most)._wait(on_event)

    async def difference_async(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        most: int = 10,
        on_event: Optional[OnEventAsync] = None,
    ) -> SiteDifference:
        """How what ``backup`` has differs from what is live: files by type, size, time, mode and link
        target, crontabs by line, tables and keys by count. Archives are read to their end and verified;
        nothing is staged. ``most``: so many names of each sort; all are counted. ``only`` and ``paths``
        as in :meth:`plan`."""
        return await self._difference(backup, only=only, paths=paths, most=most)._drive(on_event)

    def start_difference(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        most: int = 10,
    ) -> Run[SiteDifference]:
        """How what ``backup`` has differs from what is live: files by type, size, time, mode and link
        target, crontabs by line, tables and keys by count. Archives are read to their end and verified;
        nothing is staged. ``most``: so many names of each sort; all are counted. ``only`` and ``paths``
        as in :meth:`plan`."""
        return self._difference(backup, only=only, paths=paths, most=most).start()

    def back_up(
        self,
        *,
        only: Optional[Iterable[str]] = None,
        to: Optional[str] = None,
        compression: Compression = "gzip",
        level: Optional[int] = None,
        base: bool = False,
        wait: float = 0,
        on_event: Optional[OnEvent] = None,
    ) -> BackupReport:
        """Backs up what is live now, while the platform serves. Nothing live is changed, nothing
        is deleted.

        ``only``: these components; ``None``: all of them. ``to``: the store's name; ``None``: the first on this host.
        ``level``: 1 to 9 for gzip, 1 to 19 for zstd. ``base``: also make base backups of database
        clusters, from which they can be recovered to any point in time. Stopped or failed, what there is of it stays
        where it is, is seen to be unfinished, and is never restored.
        """
        return self._back_up(
            only=only,
            to=to,
            compression=compression,
            level=level,
            base=base,
            wait=wait,
        )._wait(on_event)

    async def back_up_async(
        self,
        *,
        only: Optional[Iterable[str]] = None,
        to: Optional[str] = None,
        compression: Compression = "gzip",
        level: Optional[int] = None,
        base: bool = False,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
    ) -> BackupReport:
        """Backs up what is live now, while the platform serves. Nothing live is changed, nothing
        is deleted.

        ``only``: these components; ``None``: all of them. ``to``: the store's name; ``None``: the first on this host.
        ``level``: 1 to 9 for gzip, 1 to 19 for zstd. ``base``: also make base backups of database
        clusters, from which they can be recovered to any point in time. Stopped or failed, what there is of it stays
        where it is, is seen to be unfinished, and is never restored.
        """
        return await self._back_up(
            only=only,
            to=to,
            compression=compression,
            level=level,
            base=base,
            wait=wait,
        )._drive(on_event)

    def start_back_up(
        self,
        *,
        only: Optional[Iterable[str]] = None,
        to: Optional[str] = None,
        compression: Compression = "gzip",
        level: Optional[int] = None,
        base: bool = False,
        wait: float = 0,
    ) -> Run[BackupReport]:
        """Backs up what is live now, while the platform serves. Nothing live is changed, nothing
        is deleted.

        ``only``: these components; ``None``: all of them. ``to``: the store's name; ``None``: the first on this host.
        ``level``: 1 to 9 for gzip, 1 to 19 for zstd. ``base``: also make base backups of database
        clusters, from which they can be recovered to any point in time. Stopped or failed, what there is of it stays
        where it is, is seen to be unfinished, and is never restored.
        """
        return self._back_up(
            only=only,
            to=to,
            compression=compression,
            level=level,
            base=base,
            wait=wait,
        ).start()

    def plan_prune(
        self,
        *,
        keep: Optional[int] = None,
        keep_daily: Optional[int] = None,
        keep_weekly: Optional[int] = None,
        keep_monthly: Optional[int] = None,
        older_than: Optional[timedelta] = None,
        store: Optional[str] = None,
    ) -> PrunePlan:
        """Which old backups :meth:`PrunePlan.run` would delete: those that none of the rules keeps. ``keep``
        keeps the newest so many full ones, ``keep_daily`` the newest of each of so many days that have
        one, ``keep_weekly`` and ``keep_monthly`` of weeks and months; ``older_than``: only what is older
        than that. Never the newest full one, nor what an unconfirmed run or a recovery needs. Changes
        nothing."""
        return self._plan_prune(
            keep=keep,
            keep_daily=keep_daily,
            keep_weekly=keep_weekly,
            keep_monthly=keep_monthly,
            older_than=older_than,
            store=store,
        )._wait()

    async def plan_prune_async(
        self,
        *,
        keep: Optional[int] = None,
        keep_daily: Optional[int] = None,
        keep_weekly: Optional[int] = None,
        keep_monthly: Optional[int] = None,
        older_than: Optional[timedelta] = None,
        store: Optional[str] = None,
    ) -> PrunePlan:
        """Which old backups :meth:`PrunePlan.run` would delete: those that none of the rules keeps. ``keep``
        keeps the newest so many full ones, ``keep_daily`` the newest of each of so many days that have
        one, ``keep_weekly`` and ``keep_monthly`` of weeks and months; ``older_than``: only what is older
        than that. Never the newest full one, nor what an unconfirmed run or a recovery needs. Changes
        nothing."""
        return await self._plan_prune(
            keep=keep,
            keep_daily=keep_daily,
            keep_weekly=keep_weekly,
            keep_monthly=keep_monthly,
            older_than=older_than,
            store=store,
        )._drive()

    def plan(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        allow_unverified: bool = False,
        over_unconfirmed: bool = False,
        safety_backup: bool = True,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        over: Optional[RunName] = None,
        create: bool = False,
        secrets: Optional[Secrets] = None,
        nodes: Optional[Mapping[str, str]] = None,
        allow_missing: Optional[Iterable[str]] = None,
        allow_empty: Optional[Iterable[str]] = None,
        maintenance: bool = True,
        as_: Optional[str] = None,
        tables: Optional[Iterable[str]] = None,
        wait: float = 0,
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
        where the run is taken back; nothing that exists is altered by it. ``secrets``: the files that hold
        the values of secrets that are made then, by the secrets' names, or a directory that has a file of
        each name; no backup has them, and no plan, journal or report gets a value. ``nodes``: of a swarm
        whose nodes are others than at the backup, by the name of each that is no more the one that has
        taken its place: what is deployed runs there. ``allow_missing``: these
        components, although the backup has nothing for them: they stay as they are.
        ``allow_empty``: these, although what takes the place of live data is
        empty: a dump without rows, an archive without files, an RDB without keys. ``maintenance``: whether
        the page goes up. ``as_``: restore the one database under this name beside the live one,
        which is not touched, and leave it there. ``tables``: only these tables of it
        (``public.orders``), into a schema of their own beside the live ones. A rollback takes
        either away again, a confirmation keeps it.
        """
        return self._plan(
            backup,
            only=only,
            paths=paths,
            allow_unverified=allow_unverified,
            over_unconfirmed=over_unconfirmed,
            safety_backup=safety_backup,
            to=to,
            allow_time_gap=allow_time_gap,
            over=over,
            create=create,
            secrets=secrets,
            nodes=nodes,
            allow_missing=allow_missing,
            allow_empty=allow_empty,
            maintenance=maintenance,
            as_=as_,
            tables=tables,
            wait=wait,
        )._wait(on_event)

    async def plan_async(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        allow_unverified: bool = False,
        over_unconfirmed: bool = False,
        safety_backup: bool = True,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        over: Optional[RunName] = None,
        create: bool = False,
        secrets: Optional[Secrets] = None,
        nodes: Optional[Mapping[str, str]] = None,
        allow_missing: Optional[Iterable[str]] = None,
        allow_empty: Optional[Iterable[str]] = None,
        maintenance: bool = True,
        as_: Optional[str] = None,
        tables: Optional[Iterable[str]] = None,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
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
        where the run is taken back; nothing that exists is altered by it. ``secrets``: the files that hold
        the values of secrets that are made then, by the secrets' names, or a directory that has a file of
        each name; no backup has them, and no plan, journal or report gets a value. ``nodes``: of a swarm
        whose nodes are others than at the backup, by the name of each that is no more the one that has
        taken its place: what is deployed runs there. ``allow_missing``: these
        components, although the backup has nothing for them: they stay as they are.
        ``allow_empty``: these, although what takes the place of live data is
        empty: a dump without rows, an archive without files, an RDB without keys. ``maintenance``: whether
        the page goes up. ``as_``: restore the one database under this name beside the live one,
        which is not touched, and leave it there. ``tables``: only these tables of it
        (``public.orders``), into a schema of their own beside the live ones. A rollback takes
        either away again, a confirmation keeps it.
        """
        return await self._plan(
            backup,
            only=only,
            paths=paths,
            allow_unverified=allow_unverified,
            over_unconfirmed=over_unconfirmed,
            safety_backup=safety_backup,
            to=to,
            allow_time_gap=allow_time_gap,
            over=over,
            create=create,
            secrets=secrets,
            nodes=nodes,
            allow_missing=allow_missing,
            allow_empty=allow_empty,
            maintenance=maintenance,
            as_=as_,
            tables=tables,
            wait=wait,
        )._drive(on_event)

    def start_plan(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        paths: Optional[Iterable[Path]] = None,
        allow_unverified: bool = False,
        over_unconfirmed: bool = False,
        safety_backup: bool = True,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        over: Optional[RunName] = None,
        create: bool = False,
        secrets: Optional[Secrets] = None,
        nodes: Optional[Mapping[str, str]] = None,
        allow_missing: Optional[Iterable[str]] = None,
        allow_empty: Optional[Iterable[str]] = None,
        maintenance: bool = True,
        as_: Optional[str] = None,
        tables: Optional[Iterable[str]] = None,
        wait: float = 0,
    ) -> Run[Plan]:
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
        where the run is taken back; nothing that exists is altered by it. ``secrets``: the files that hold
        the values of secrets that are made then, by the secrets' names, or a directory that has a file of
        each name; no backup has them, and no plan, journal or report gets a value. ``nodes``: of a swarm
        whose nodes are others than at the backup, by the name of each that is no more the one that has
        taken its place: what is deployed runs there. ``allow_missing``: these
        components, although the backup has nothing for them: they stay as they are.
        ``allow_empty``: these, although what takes the place of live data is
        empty: a dump without rows, an archive without files, an RDB without keys. ``maintenance``: whether
        the page goes up. ``as_``: restore the one database under this name beside the live one,
        which is not touched, and leave it there. ``tables``: only these tables of it
        (``public.orders``), into a schema of their own beside the live ones. A rollback takes
        either away again, a confirmation keeps it.
        """
        return self._plan(
            backup,
            only=only,
            paths=paths,
            allow_unverified=allow_unverified,
            over_unconfirmed=over_unconfirmed,
            safety_backup=safety_backup,
            to=to,
            allow_time_gap=allow_time_gap,
            over=over,
            create=create,
            secrets=secrets,
            nodes=nodes,
            allow_missing=allow_missing,
            allow_empty=allow_empty,
            maintenance=maintenance,
            as_=as_,
            tables=tables,
            wait=wait,
        ).start()

    def drill(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        allow_unverified: bool = False,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        wait: float = 0,
        on_event: Optional[OnEvent] = None,
    ) -> Report:
        """Proves that ``backup`` restores: stages and checks it beside the live data, then deletes
        it again. Nothing is stopped or replaced. Raises what does not restore. ``to`` and
        ``allow_time_gap`` as in :meth:`plan`: proves that databases can be recovered to then."""
        return self._drill(
            backup,
            only=only,
            allow_unverified=allow_unverified,
            to=to,
            allow_time_gap=allow_time_gap,
            wait=wait,
        )._wait(on_event)

    async def drill_async(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        allow_unverified: bool = False,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
    ) -> Report:
        """Proves that ``backup`` restores: stages and checks it beside the live data, then deletes
        it again. Nothing is stopped or replaced. Raises what does not restore. ``to`` and
        ``allow_time_gap`` as in :meth:`plan`: proves that databases can be recovered to then."""
        return await self._drill(
            backup,
            only=only,
            allow_unverified=allow_unverified,
            to=to,
            allow_time_gap=allow_time_gap,
            wait=wait,
        )._drive(on_event)

    def start_drill(
        self,
        backup: BackupName,
        *,
        only: Optional[Iterable[str]] = None,
        allow_unverified: bool = False,
        to: Optional[Moment] = None,
        allow_time_gap: bool = False,
        wait: float = 0,
    ) -> Run[Report]:
        """Proves that ``backup`` restores: stages and checks it beside the live data, then deletes
        it again. Nothing is stopped or replaced. Raises what does not restore. ``to`` and
        ``allow_time_gap`` as in :meth:`plan`: proves that databases can be recovered to then."""
        return self._drill(
            backup,
            only=only,
            allow_unverified=allow_unverified,
            to=to,
            allow_time_gap=allow_time_gap,
            wait=wait,
        ).start()

    def resume(
        self, run: Optional[RunName] = None, *, wait: float = 0, on_event: Optional[OnEvent] = None
    ) -> Report:
        """Finishes an unfinished run (``None``: the only one), forwards or backwards."""
        return self._resume(run, wait=wait)._wait(on_event)

    async def resume_async(
        self,
        run: Optional[RunName] = None,
        *,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
    ) -> Report:
        """Finishes an unfinished run (``None``: the only one), forwards or backwards."""
        return await self._resume(run, wait=wait)._drive(on_event)

    def start_resume(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Finishes an unfinished run (``None``: the only one), forwards or backwards."""
        return self._resume(run, wait=wait).start()

    def rollback(
        self, run: Optional[RunName] = None, *, wait: float = 0, on_event: Optional[OnEvent] = None
    ) -> Report:
        """Takes a run back: an unfinished one, or the newest that is restored and not confirmed.
        What was written since is put aside, not deleted. Stopping it does not break it off."""
        return self._rollback(run, wait=wait)._wait(on_event)

    async def rollback_async(
        self,
        run: Optional[RunName] = None,
        *,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
    ) -> Report:
        """Takes a run back: an unfinished one, or the newest that is restored and not confirmed.
        What was written since is put aside, not deleted. Stopping it does not break it off."""
        return await self._rollback(run, wait=wait)._drive(on_event)

    def start_rollback(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Takes a run back: an unfinished one, or the newest that is restored and not confirmed.
        What was written since is put aside, not deleted. Stopping it does not break it off."""
        return self._rollback(run, wait=wait).start()

    def confirm(
        self, run: Optional[RunName] = None, *, wait: float = 0, on_event: Optional[OnEvent] = None
    ) -> Report:
        """Accepts a run (``None``: the newest unconfirmed): deletes what it had put aside. There
        is no way back afterwards."""
        return self._confirm(run, wait=wait)._wait(on_event)

    async def confirm_async(
        self,
        run: Optional[RunName] = None,
        *,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
    ) -> Report:
        """Accepts a run (``None``: the newest unconfirmed): deletes what it had put aside. There
        is no way back afterwards."""
        return await self._confirm(run, wait=wait)._drive(on_event)

    def start_confirm(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Accepts a run (``None``: the newest unconfirmed): deletes what it had put aside. There
        is no way back afterwards."""
        return self._confirm(run, wait=wait).start()

    def abandon(
        self, run: Optional[RunName] = None, *, wait: float = 0, on_event: Optional[OnEvent] = None
    ) -> Report:
        """Ends an unfinished or stuck run (``None``: the newest) as the platform stands: nothing is
        moved, what it keeps is kept. The maintenance page comes down."""
        return self._abandon(run, wait=wait)._wait(on_event)

    async def abandon_async(
        self,
        run: Optional[RunName] = None,
        *,
        wait: float = 0,
        on_event: Optional[OnEventAsync] = None,
    ) -> Report:
        """Ends an unfinished or stuck run (``None``: the newest) as the platform stands: nothing is
        moved, what it keeps is kept. The maintenance page comes down."""
        return await self._abandon(run, wait=wait)._drive(on_event)

    def start_abandon(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Ends an unfinished or stuck run (``None``: the newest) as the platform stands: nothing is
        moved, what it keeps is kept. The maintenance page comes down."""
        return self._abandon(run, wait=wait).start()

    def watch(self, run: Optional[RunName] = None, *, on_event: Optional[OnEvent] = None) -> Report:
        """Follows a run (``None``: the newest) that another process does, by its journal: its events
        so far and those to come, without the progress within steps. Ends as the run does: raises, with its
        report, what did not end as asked, and what nobody is at work on any more; :meth:`report` only
        looks. Ctrl-C ends the watching and not the run."""
        return self._watch(run)._wait(on_event)

    async def watch_async(
        self, run: Optional[RunName] = None, *, on_event: Optional[OnEventAsync] = None
    ) -> Report:
        """Follows a run (``None``: the newest) that another process does, by its journal: its events
        so far and those to come, without the progress within steps. Ends as the run does: raises, with its
        report, what did not end as asked, and what nobody is at work on any more; :meth:`report` only
        looks. Ctrl-C ends the watching and not the run."""
        return await self._watch(run)._drive(on_event)

    def start_watch(self, run: Optional[RunName] = None) -> Run[Report]:
        """Follows a run (``None``: the newest) that another process does, by its journal: its events
        so far and those to come, without the progress within steps. Ends as the run does: raises, with its
        report, what did not end as asked, and what nobody is at work on any more; :meth:`report` only
        looks. Ctrl-C ends the watching and not the run."""
        return self._watch(run).start()

    def page(self, up: bool) -> None:
        """Turns users away with the maintenance page, or lets them in again. A run does so by
        itself."""
        self._page(up)._wait()

    async def page_async(self, up: bool) -> None:
        """Turns users away with the maintenance page, or lets them in again. A run does so by
        itself."""
        await self._page(up)._drive()

    def preview_rollback(self, run: Optional[RunName] = None) -> Report:
        """The report of the run that :meth:`rollback` would take back. Changes nothing."""
        return self._preview_rollback(run)._wait()

    async def preview_rollback_async(self, run: Optional[RunName] = None) -> Report:
        """The report of the run that :meth:`rollback` would take back. Changes nothing."""
        return await self._preview_rollback(run)._drive()

    def preview_abandon(self, run: Optional[RunName] = None) -> Report:
        """The report of the run that :meth:`abandon` would end. Changes nothing."""
        return self._preview_abandon(run)._wait()

    async def preview_abandon_async(self, run: Optional[RunName] = None) -> Report:
        """The report of the run that :meth:`abandon` would end. Changes nothing."""
        return await self._preview_abandon(run)._drive()

    def preview_confirm(self, run: Optional[RunName] = None) -> Report:
        """The report of the run that :meth:`confirm` would accept. Changes nothing."""
        return self._preview_confirm(run)._wait()

    async def preview_confirm_async(self, run: Optional[RunName] = None) -> Report:
        """The report of the run that :meth:`confirm` would accept. Changes nothing."""
        return await self._preview_confirm(run)._drive()

    def status(self) -> SiteStatus:
        """One look at the site: its newest full backup, what was proven, runs, kept data, room, and
        what would stop a restore now. Changes nothing; true where a restore could begin."""
        return self._status()._wait()

    async def status_async(self) -> SiteStatus:
        """One look at the site: its newest full backup, what was proven, runs, kept data, room, and
        what would stop a restore now. Changes nothing; true where a restore could begin."""
        return await self._status()._drive()

    def check(self, *, on_event: Optional[OnEvent] = None) -> list[CheckOutcome]:
        """Makes all checks once, now. One that fails is no exception."""
        return self._check()._wait(on_event)

    async def check_async(self, *, on_event: Optional[OnEventAsync] = None) -> list[CheckOutcome]:
        """Makes all checks once, now. One that fails is no exception."""
        return await self._check()._drive(on_event)

    def start_check(self) -> Run[list[CheckOutcome]]:
        """Makes all checks once, now. One that fails is no exception."""
        return self._check().start()

    def history(self) -> list[Report]:
        """The reports of all runs, oldest first."""
        return self._history()._wait()

    async def history_async(self) -> list[Report]:
        """The reports of all runs, oldest first."""
        return await self._history()._drive()

    def report(self, run: Optional[RunName] = None) -> Report:
        """The report of a run (``None``: the newest), whatever it says."""
        return self._report(run)._wait()

    async def report_async(self, run: Optional[RunName] = None) -> Report:
        """The report of a run (``None``: the newest), whatever it says."""
        return await self._report(run)._drive()

    def ensure_idle(self) -> None:
        """Raises a :class:`~restore.LockedError`, naming who it is, where a run is under way."""
        self._ensure_idle()._wait()

    async def ensure_idle_async(self) -> None:
        """Raises a :class:`~restore.LockedError`, naming who it is, where a run is under way."""
        await self._ensure_idle()._drive()

    def lock_holder(self) -> Optional[str]:
        """Who holds the lock that the whole platform shares, in words; ``None`` where nobody does
        or it has none."""
        return self._lock_holder()._wait()

    async def lock_holder_async(self) -> Optional[str]:
        """Who holds the lock that the whole platform shares, in words; ``None`` where nobody does
        or it has none."""
        return await self._lock_holder()._drive()

    def unlock(self) -> None:
        """Takes that lock away from a host that is gone for good. One that still works would go on
        restoring beside the next."""
        self._unlock()._wait()

    async def unlock_async(self) -> None:
        """Takes that lock away from a host that is gone for good. One that still works would go on
        restoring beside the next."""
        await self._unlock()._drive()
