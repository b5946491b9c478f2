"""The way in: a site, its backups, its runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Union

from . import _report, _restore
from ._backup import Backup, Backups
from ._component import Component
from ._plan import Plan
from ._report import Report
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
        self._native = _restore.Site(dict(config), os.fspath(base), _by_kind(components))

    @classmethod
    def open(cls, path: Path, *, components: Kinds = ()) -> Site:
        """The site that the file at ``path`` describes."""
        site = cls.__new__(cls)
        site._native = _restore.Site(os.fspath(path), None, _by_kind(components))
        return site

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
        """Opens a backup by its id, or the newest finished one by the name ``latest``."""
        backup: Backup = wait(self._native.backup(id, None).then(Backup))
        return backup

    async def backup_async(self, id: str) -> Backup:
        """The same on an asyncio loop."""
        backup: Backup = await drive(self._native.backup(id, None).then(Backup))
        return backup

    # --- plans -----------------------------------------------------------------------------

    def plan(
        self,
        backup: Union[str, Backup],
        *,
        only: Iterable[str] = (),
        paths: Iterable[Path] = (),
        allow_unverified: bool = False,
        over_unconfirmed: bool = False,
        to: Optional[str] = None,
        allow_time_gap: bool = False,
        on_event: Optional[OnEvent] = None,
    ) -> Plan:
        """What restoring ``backup`` would do. Changes nothing; what speaks against it is among
        the plan's findings.

        ``only``: these components. ``paths``: these paths, named as the archives name their
        members. ``allow_unverified``: restore what has no checksum too. ``over_unconfirmed``:
        although an earlier run is not confirmed. ``to``: recover databases to this time, zone and
        all (``2024-02-15 10:00:00 UTC``), or to ``latest``; with the backup ``"latest"`` the
        newest one that leads there is taken. ``allow_time_gap``: restore what is of another time
        along with them.
        """
        opened = (
            wait(self._native.backup(backup, to).then(Backup))
            if isinstance(backup, str)
            else backup
        )
        task = self._planning(
            opened, only, paths, allow_unverified, over_unconfirmed, to, allow_time_gap
        )
        return Plan(self, wait(task, on_event))

    async def plan_async(
        self,
        backup: Union[str, Backup],
        *,
        only: Iterable[str] = (),
        paths: Iterable[Path] = (),
        allow_unverified: bool = False,
        over_unconfirmed: bool = False,
        to: Optional[str] = None,
        allow_time_gap: bool = False,
        on_event: Optional[OnEventAsync] = None,
    ) -> Plan:
        """The same on an asyncio loop."""
        opened = (
            await drive(self._native.backup(backup, to).then(Backup))
            if isinstance(backup, str)
            else backup
        )
        task = self._planning(
            opened, only, paths, allow_unverified, over_unconfirmed, to, allow_time_gap
        )
        return Plan(self, await drive(task, on_event))

    def _planning(
        self,
        backup: Backup,
        only: Iterable[str],
        paths: Iterable[Path],
        allow_unverified: bool,
        over_unconfirmed: bool,
        to: Optional[str],
        allow_time_gap: bool,
    ) -> _restore.Task:
        if isinstance(only, str):
            only = [only]
        if isinstance(paths, (str, os.PathLike)):
            paths = [paths]
        return self._native.plan(
            backup._native,
            list(only),
            [os.fspath(path) for path in paths],
            allow_unverified,
            over_unconfirmed,
            (to, allow_time_gap),
        )

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

    def __repr__(self) -> str:
        return f"<restore.Site {self.name!r} of {', '.join(self.components)}>"


def _by_kind(components: Kinds) -> dict[str, type[Component]]:
    return {component.kind: component for component in components}


def _listed(values: list[dict[str, Any]]) -> list[ListedBackup]:
    return [ListedBackup(**value) for value in values]


def _outcomes(values: list[dict[str, Any]]) -> list[CheckOutcome]:
    return [CheckOutcome(**value) for value in values]
