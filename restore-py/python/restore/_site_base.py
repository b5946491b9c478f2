"""What a site can be asked to do: each long call once. ``scripts/python-calls.py`` writes the blocking
and the asyncio methods and those that give a handle from it, into ``_site.py``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Optional, TypeVar, Union

from . import _report, _restore
from ._arguments import (
    Path,
    backup_id,
    flags,
    number,
    path as path_of,
    paths as paths_of,
    run_id,
    seconds,
    text,
    texts,
    wrong,
)
from ._backup import Backup, Backups
from ._component import Component
from ._config import found, plain
from ._difference import SiteDifference
from ._errors import ConfigError
from ._members import GetReport, Members
from ._parts import Check, Hook, Maintenance, Part, Store
from ._plan import Plan
from ._report import Report
from ._run import Run
from ._status import ConfigCheck, SiteStatus
from ._store import (
    BackupReport,
    Compression,
    FetchReport,
    PrunePlan,
    Pruning,
    whole_seconds,
)
from ._target import Moment, native
from ._task import drive, long, short, wait
from ._values import BackupRecovery, CheckOutcome, ListedBackup

BackupName = Union[str, Backup, ListedBackup, BackupReport]
"""A backup, by its id, as ``latest``, opened, listed, or by the report of its making."""
RunName = Union[str, Report]
"""A run, by its id or its report."""
Secrets = Union[Path, Mapping[str, Path]]
Kinds = Iterable[type[Component]]
CheckKinds = Iterable[type[Check]]
StoreKinds = Iterable[type[Store]]
HookKinds = Iterable[type[Hook]]
MaintenanceKinds = Iterable[type[Maintenance]]
S = TypeVar("S", bound="SiteBase")


class SiteBase:
    """What :class:`Site` is made from."""

    __slots__ = ("_native",)

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        base: Path = ".",
        components: Kinds = (),
        checks: CheckKinds = (),
        stores: StoreKinds = (),
        hooks: HookKinds = (),
        maintenance: MaintenanceKinds = (),
    ) -> None:
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"a site is made of a dict, not of {config!r}",
                code="config.shape",
                hint="Site.open(path) reads a restore.toml",
            )
        kinds = _kinds(components, checks, stores, hooks, maintenance)
        self._native = _restore.Site(plain(config), path_of("base", base), kinds)

    @classmethod
    def open(
        cls: type[S],
        path: Optional[Path] = None,
        *,
        components: Kinds = (),
        checks: CheckKinds = (),
        stores: StoreKinds = (),
        hooks: HookKinds = (),
        maintenance: MaintenanceKinds = (),
    ) -> S:
        """The site that the file at ``path`` describes; without one, the file that the command line
        would take: ``RESTORE_CONFIG`` names it, or it is ``./restore.toml`` or
        ``/etc/restore/restore.toml``. The others are classes of your own, which sections of their
        ``kind`` are made with."""
        site = cls.__new__(cls)
        file = path_of("path", found(path))
        kinds = _kinds(components, checks, stores, hooks, maintenance)
        site._native = _restore.Site(file, None, kinds)
        return site

    @staticmethod
    def check_config(
        path: Path,
        *,
        components: Kinds = (),
        checks: CheckKinds = (),
        stores: StoreKinds = (),
        hooks: HookKinds = (),
        maintenance: MaintenanceKinds = (),
    ) -> ConfigCheck:
        """Everything that can be known of the file at ``path`` without a backup: keys, references,
        programs, rights of files, whether stores and services answer, room. Changes nothing; true
        where nothing of it is an error."""
        kinds = _kinds(components, checks, stores, hooks, maintenance)
        checking = _restore.Site.check_config(path_of("path", path), kinds)
        check: ConfigCheck = wait(checking.then(ConfigCheck._of))
        return check

    @staticmethod
    async def check_config_async(
        path: Path,
        *,
        components: Kinds = (),
        checks: CheckKinds = (),
        stores: StoreKinds = (),
        hooks: HookKinds = (),
        maintenance: MaintenanceKinds = (),
    ) -> ConfigCheck:
        """The same on an asyncio loop."""
        kinds = _kinds(components, checks, stores, hooks, maintenance)
        checking = _restore.Site.check_config(path_of("path", path), kinds)
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

    @short
    def _backups(self) -> Run[Backups]:
        """All backups of all stores, as a mapping from their ids."""
        return Run(self._native.backups().then(lambda values: Backups(self, _listed(values))))

    @short
    def _backup(self, id: BackupName) -> Run[Backup]:
        """Opens a backup by its id, or the newest full one by the name ``latest``. One that is packed or
        encrypted must be brought first: see :meth:`bring`. A new one is made by :meth:`back_up`."""
        return Run(self._native.backup(backup_id("id", id), None).then(Backup))

    @long
    def _bring(self, id: BackupName, *, wait: float = 0) -> Run[Backup]:
        """Opens a backup on this host: fetched first, unpacked and unlocked, where it is elsewhere
        or packed. What ``restore run`` begins with. What is in a packed one is not known before:
        ``latest`` may be one that turns out to be partial, whose plan says so."""
        return Run(self._native.bring(backup_id("id", id), seconds(wait)).then(Backup))

    @long
    def _fetch(
        self,
        id: BackupName,
        *,
        from_store: Optional[str] = None,
        to_store: Optional[str] = None,
        wait: float = 0,
    ) -> Run[FetchReport]:
        """Brings a backup from another store into a directory of this host, verified while it is
        written. Whatever breaks it off, the same call goes on where it stopped."""
        source, target = text("from_store", from_store), text("to_store", to_store)
        task = self._native.fetch(backup_id("id", id), source, target, seconds(wait))
        return Run(task.then(FetchReport._of))

    @long
    def _recoverable(self, backup: BackupName) -> Run[BackupRecovery]:
        """From when to when each database cluster of the site can be recovered from a backup, by its base
        backup and the archive of the log; false where from none. For ``to`` of :meth:`plan`."""
        return Run(self._native.recoverable(_which(backup)).then(BackupRecovery._of))

    @long
    def _members(
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
        names = text("pattern", pattern)
        task = self._native.members(_which(backup), names, texts("only", only))
        return Run(task.then(Members._of))

    @long
    def _get(
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
        words = flags(owners=owners, keep_setuid=keep_setuid, allow_unverified=allow_unverified)
        named = paths_of("paths", paths)
        if named is None:
            raise wrong("paths", "paths, in a list", paths)
        task = self._native.get(_which(backup), named, path_of("to", to), words)
        return Run(task.then(GetReport._of))

    @long
    def _difference(
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
        selected = texts("only", only), paths_of("paths", paths)
        task = self._native.difference(_which(backup), *selected, number("most", most, 2**63))
        return Run(task.then(SiteDifference._of))

    @long
    def _back_up(
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
        packed = (text("compression", compression), number("level", level, 255))
        (bases,) = flags(base=base)
        selected = texts("only", only)
        task = self._native.back_up(selected, text("to", to), packed, bases, seconds(wait))
        return Run(task.then(BackupReport._of))

    @short
    def _plan_prune(
        self,
        *,
        keep: Optional[int] = None,
        keep_daily: Optional[int] = None,
        keep_weekly: Optional[int] = None,
        keep_monthly: Optional[int] = None,
        older_than: Optional[timedelta] = None,
        store: Optional[str] = None,
    ) -> Run[PrunePlan]:
        """Which old backups :meth:`PrunePlan.run` would delete: those that none of the rules keeps. ``keep``
        keeps the newest so many full ones, ``keep_daily`` the newest of each of so many days that have
        one, ``keep_weekly`` and ``keep_monthly`` of weeks and months; ``older_than``: only what is older
        than that. Never the newest full one, nor what an unconfirmed run or a recovery needs. Changes
        nothing."""
        asked = Pruning(
            number("keep", keep, 2**63),
            number("keep_daily", keep_daily, 2**63),
            number("keep_weekly", keep_weekly, 2**63),
            number("keep_monthly", keep_monthly, 2**63),
            whole_seconds(older_than),
        )
        task = self._native.plan_prune(*asked.native(), text("store", store))
        return Run(task.then(lambda value: PrunePlan(self, asked, value)))

    # --- plans -----------------------------------------------------------------------------

    @long
    def _plan(
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
        named = (
            texts("only", only),
            paths_of("paths", paths),
            texts("allow_missing", allow_missing) or [],
            texts("allow_empty", allow_empty) or [],
        )
        *words, gap = flags(
            allow_unverified=allow_unverified,
            over_unconfirmed=over_unconfirmed,
            safety_backup=safety_backup,
            create=create,
            maintenance=maintenance,
            allow_time_gap=allow_time_gap,
        )
        recovery = (native(to), gap)
        places = (
            run_id(over),
            text("as_", as_),
            texts("tables", tables),
            _secrets(secrets),
            _nodes(nodes),
        )
        task = self._native.plan(
            _which(backup), named, tuple(words), recovery, places, seconds(wait)
        )
        return Run(task.then(lambda plan: Plan(self, plan)))

    @long
    def _drill(
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
        unverified, gap = flags(allow_unverified=allow_unverified, allow_time_gap=allow_time_gap)
        recovery = (native(to), gap)
        task = self._native.drill(
            _which(backup), texts("only", only), unverified, recovery, seconds(wait)
        )
        return Run(task.then(Report._of))

    # --- runs ------------------------------------------------------------------------------

    @long
    def _resume(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Finishes an unfinished run (``None``: the only one), forwards or backwards."""
        return Run(self._native.resume(run_id(run), seconds(wait)).then(Report._of))

    @long
    def _rollback(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Takes a run back: an unfinished one, or the newest that is restored and not confirmed.
        What was written since is put aside, not deleted. Stopping it does not break it off."""
        return Run(self._native.rollback(run_id(run), seconds(wait)).then(Report._of))

    @long
    def _confirm(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Accepts a run (``None``: the newest unconfirmed): deletes what it had put aside. There
        is no way back afterwards."""
        return Run(self._native.confirm(run_id(run), seconds(wait)).then(Report._of))

    @long
    def _abandon(self, run: Optional[RunName] = None, *, wait: float = 0) -> Run[Report]:
        """Ends an unfinished or stuck run (``None``: the newest) as the platform stands: nothing is
        moved, what it keeps is kept. The maintenance page comes down."""
        return Run(self._native.abandon(run_id(run), seconds(wait)).then(Report._of))

    @long
    def _watch(self, run: Optional[RunName] = None) -> Run[Report]:
        """Follows a run (``None``: the newest) that another process does, by its journal: its events
        so far and those to come, without the progress within steps. Ends as the run does: raises, with its
        report, what did not end as asked, and what nobody is at work on any more; :meth:`report` only
        looks. Ctrl-C ends the watching and not the run."""
        return Run(self._native.watch(run_id(run)).then(Report._of))

    @short
    def _page(self, up: bool) -> Run[None]:
        """Turns users away with the maintenance page, or lets them in again. A run does so by
        itself."""
        (shown,) = flags(up=up)
        return Run(self._native.page(shown))

    @short
    def _preview_rollback(self, run: Optional[RunName] = None) -> Run[Report]:
        """The report of the run that :meth:`rollback` would take back. Changes nothing."""
        return Run(self._native.preview_rollback(run_id(run)).then(_report.told))

    @short
    def _preview_abandon(self, run: Optional[RunName] = None) -> Run[Report]:
        """The report of the run that :meth:`abandon` would end. Changes nothing."""
        return Run(self._native.preview_abandon(run_id(run)).then(_report.told))

    @short
    def _preview_confirm(self, run: Optional[RunName] = None) -> Run[Report]:
        """The report of the run that :meth:`confirm` would accept. Changes nothing."""
        return Run(self._native.preview_confirm(run_id(run)).then(_report.told))

    # --- what is known ---------------------------------------------------------------------

    @short
    def _status(self) -> Run[SiteStatus]:
        """One look at the site: its newest full backup, what was proven, runs, kept data, room, and
        what would stop a restore now. Changes nothing; true where a restore could begin."""
        return Run(self._native.status().then(SiteStatus._of))

    @long
    def _check(self) -> Run[list[CheckOutcome]]:
        """Makes all checks once, now. One that fails is no exception."""
        return Run(self._native.check().then(_outcomes))

    @short
    def _history(self) -> Run[list[Report]]:
        """The reports of all runs, oldest first."""
        return Run(self._native.history().then(_report.all_told))

    @short
    def _report(self, run: Optional[RunName] = None) -> Run[Report]:
        """The report of a run (``None``: the newest), whatever it says."""
        return Run(self._native.report(run_id(run)).then(_report.told))

    @short
    def _ensure_idle(self) -> Run[None]:
        """Raises a :class:`~restore.LockedError`, naming who it is, where a run is under way."""
        return Run(self._native.ensure_idle())

    @short
    def _lock_holder(self) -> Run[Optional[str]]:
        """Who holds the lock that the whole platform shares, in words; ``None`` where nobody does
        or it has none."""
        return Run(self._native.lock_holder())

    @short
    def _unlock(self) -> Run[None]:
        """Takes that lock away from a host that is gone for good. One that still works would go on
        restoring beside the next."""
        return Run(self._native.unlock())

    def attach(self, run: Optional[RunName] = None) -> Run[Report]:
        """Follows a run (``None``: the newest) that whatever process does, by its journal: the handle of
        :meth:`watch`, begun. To stop it ends the following, and not the run."""
        return self._watch(run).start()

    def __repr__(self) -> str:
        return f"<restore.Site {self.name!r} of {', '.join(self.components)}>"


def _which(backup: BackupName) -> Union[str, _restore.Backup]:
    return backup._native if isinstance(backup, Backup) else backup_id("backup", backup)


def _secrets(secrets: Optional[Secrets]) -> tuple[dict[str, str], Optional[str]]:
    """Files of secrets by their names, and a directory of more; in full, as a later process reads them."""
    if secrets is None:
        return {}, None
    if not isinstance(secrets, Mapping):
        return {}, os.path.abspath(path_of("secrets", secrets))
    files: dict[str, str] = {}
    for name, file in secrets.items():
        files[text("secrets", name)] = os.path.abspath(path_of("secrets", file))
    return files, None


def _nodes(nodes: Optional[Mapping[str, str]]) -> dict[str, str]:
    """Nodes by the names of those whose place they have taken."""
    if nodes is None:
        return {}
    if not isinstance(nodes, Mapping):
        raise wrong("nodes", "names of nodes by the names of those that are no more", nodes)
    return {text("nodes", old): text("nodes", new) for old, new in nodes.items()}


def _kinds(
    components: Kinds,
    checks: CheckKinds,
    stores: StoreKinds,
    hooks: HookKinds,
    maintenance: MaintenanceKinds,
) -> dict[str, dict[str, type[Part]]]:
    """The classes of each part by their kinds."""
    return {
        "components": _by_kind("components", components, Component),
        "checks": _by_kind("checks", checks, Check),
        "stores": _by_kind("stores", stores, Store),
        "hooks": _by_kind("hooks", hooks, Hook),
        "maintenance": _by_kind("maintenance", maintenance, Maintenance),
    }


def _by_kind(part: str, classes: Iterable[type[Part]], base: type) -> dict[str, type[Part]]:
    def refused(message: str) -> ConfigError:
        hint = f"{part}=[My{base.__name__}]"
        return ConfigError(message, code=f"config.{part}", hint=hint)

    if isinstance(classes, type):
        raise refused(f"{part} is a class, and not a list of classes")
    kinds: dict[str, type[Part]] = {}
    for known in classes:
        if not (isinstance(known, type) and issubclass(known, base)):
            raise refused(f"{part}: {known!r} is no class below restore.{base.__name__}")
        kind = getattr(known, "kind", None)
        if not isinstance(kind, str) or not kind:
            raise refused(f"{part}: {known.__name__} has no `kind`")
        if kind in kinds:
            raise refused(
                f"{part}: {kinds[kind].__name__} and {known.__name__} have the same kind {kind!r}"
            )
        kinds[kind] = known
    return kinds


def _listed(values: list[dict[str, Any]]) -> list[ListedBackup]:
    return [ListedBackup._of(value) for value in values]


def _outcomes(values: list[dict[str, Any]]) -> list[CheckOutcome]:
    return [CheckOutcome(**value) for value in values]
