"""What a restore would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Optional

from . import _html, _restore
from ._arguments import seconds, wrong
from ._base import Value
from ._decode import decode, moment
from ._errors import RestoreError
from ._events import Phase
from ._report import Report
from ._run import Run
from ._task import OnEvent, OnEventAsync, long
from ._values import Finding, MissingComponent

if TYPE_CHECKING:
    from ._site_base import SiteBase


@dataclass(frozen=True, repr=False)
class Step(Value):
    """One step of a plan."""

    id: str
    """``cut-over:redis``."""
    what: str
    """The same in words."""
    phase: Phase
    """``cut_over`` is the downtime."""


@dataclass(frozen=True, repr=False)
class PlannedComponent(Value):
    """One component's part in a plan."""

    name: str
    kind: str
    paths: tuple[str, ...]
    """The only paths of it to restore; empty: all of it."""
    stops: tuple[str, ...]
    """The services that must be down while it cuts over."""
    artifacts: tuple[str, ...]
    """The backup's files that it uses."""
    summary: str
    """What would be replaced, in a few words."""
    staged_at: str
    """Where the staged data will lie."""
    read_bytes: int
    """Bytes to read from the backup."""
    needed_bytes: int
    """Room needed beside the live data."""
    facts: dict[str, Any]
    """Facts about the live side: versions, counts."""
    creates: tuple[str, ...] = ()
    """What of its live side is absent and will be made."""


@dataclass(frozen=True, repr=False)
class PlannedService(Value):
    """A service that a plan stops and starts again."""

    name: str
    replicas: int
    """Instances now, which an undo brings back."""
    start: int
    """Instances after the restore."""
    background: bool = False
    """Users do not see it: it is stopped and started before they are turned away."""
    after: Optional[tuple[str, ...]] = None
    """Those of the plan's services that it comes after; ``None``: all that are stopped later."""
    waits: bool = True
    """Whether it is started only once those are ready."""
    ran: Optional[int] = None
    """Instances that run now, where these are fewer than ``replicas``; ``None``: all."""


@dataclass(frozen=True, repr=False)
class PlannedSafety(Value):
    """The backup of what is live that a run makes first."""

    store: str
    """The name of the store that it goes to."""
    place: str
    """The store, in words."""
    bytes: int
    """About how many there are to back up, before they are compressed."""
    without: tuple[MissingComponent, ...] = ()
    """What it will be without, as it cannot be read now."""


@dataclass(frozen=True, repr=False)
class EarlierRun(Value):
    """An earlier run whose replaced data is still kept."""

    run: str
    backup: str
    ended: datetime
    shared: tuple[str, ...]
    """Components that the plan restores as well."""


class Plan:
    """What a restore would do, in order, with sizes. Making one has changed nothing.

    Printed, it is text; in a notebook, tables.
    """

    __slots__ = ("_native", "_site", "_value")

    def __init__(self, site: SiteBase, native: _restore.Plan) -> None:
        self._site = site
        self._native = native
        self._value: dict[str, Any] = native.to_dict()

    @classmethod
    def from_dict(cls, site: SiteBase, value: Mapping[str, Any]) -> Plan:
        """A plan that :meth:`to_dict` had saved. Running it is refused where what it says is no
        longer so."""
        from ._site_base import SiteBase

        if not isinstance(site, SiteBase):
            raise wrong("site", "a Site", site, "restore.Plan.from_dict(site, saved)")
        if not isinstance(value, Mapping):
            raise wrong("value", "what Plan.to_dict() gave", value)
        return cls(site, _restore.Plan.from_dict(dict(value)))

    @property
    def site(self) -> str:
        """The site's name."""
        return str(self._value["site"])

    @property
    def backup(self) -> str:
        """The id of the backup to restore."""
        return str(self._value["backup"])

    @property
    def store(self) -> str:
        """Where the backup is, in words."""
        return str(self._value["store"])

    @property
    def generation(self) -> str:
        """``a``: with checksums; ``b``: without; ``unfinished``."""
        return str(self._value["generation"])

    @property
    def made(self) -> datetime:
        """When the plan was made."""
        return moment(self._value["made"])

    @property
    def components(self) -> tuple[PlannedComponent, ...]:
        """Its components, in the order of their cut-overs."""
        return tuple(_component(value) for value in self._value["components"])

    @property
    def services(self) -> tuple[PlannedService, ...]:
        """The services to stop, in the order of stopping."""
        return tuple(decode(PlannedService, value) for value in self._value["services"])

    @property
    def safety(self) -> Optional[PlannedSafety]:
        """The backup that the run makes first; ``None`` where it makes none."""
        value = self._value.get("safety")
        return None if value is None else decode(PlannedSafety, value)

    @property
    def earlier(self) -> tuple[EarlierRun, ...]:
        """Earlier runs whose replaced data is still kept."""
        return tuple(decode(EarlierRun, value) for value in self._value["earlier"])

    @property
    def maintenance(self) -> bool:
        """Whether the maintenance page goes up."""
        return bool(self._value["maintenance"])

    @property
    def steps(self) -> tuple[Step, ...]:
        """Its steps, in order."""
        return tuple(Step(*step) for step in self._native.steps())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything noticed, of the site and of all components."""
        return tuple(decode(Finding, value) for value in self._value["findings"])

    @property
    def read_bytes(self) -> int:
        """Bytes to read from the backup."""
        return sum(component.read_bytes for component in self.components)

    @property
    def refusal(self) -> Optional[RestoreError]:
        """The exception that running it would raise before anything is touched."""
        return self._native.refusal()

    @long
    def _run(self, *, wait: float = 0) -> Run[Report]:
        """Executes the plan and waits for its end.

        Returns once the platform is restored and checked. Otherwise raises: before anything was
        touched (the plan is refused or out of date, another run is under way), or, with the
        exception's ``report`` saying what happened, once the platform is as it was; a
        :class:`~restore.StuckError` alone says that it is neither.

        Ctrl-C, or an exception of ``on_event``, stops the run: it undoes itself, then the
        exception is raised. The third Ctrl-C leaves the undo half done, for :meth:`Site.resume`.
        ``wait``: so many seconds for the lock of another process.
        """
        task = self._site._native.run(self._native, seconds(wait))
        return Run(task.then(Report._of))

    def start(self, *, wait: float = 0) -> Run[Report]:
        """Begins the run; what is given follows it, and waits for it: see :class:`Run`."""
        return self._run(wait=wait).start()

    # --- written by scripts/python-calls.py from what is marked above -----------------------

    def run(self, *, wait: float = 0, on_event: Optional[OnEvent] = None) -> Report:
        """Executes the plan and waits for its end.

        Returns once the platform is restored and checked. Otherwise raises: before anything was
        touched (the plan is refused or out of date, another run is under way), or, with the
        exception's ``report`` saying what happened, once the platform is as it was; a
        :class:`~restore.StuckError` alone says that it is neither.

        Ctrl-C, or an exception of ``on_event``, stops the run: it undoes itself, then the
        exception is raised. The third Ctrl-C leaves the undo half done, for :meth:`Site.resume`.
        ``wait``: so many seconds for the lock of another process.
        """
        return self._run(wait=wait)._wait(on_event)

    async def run_async(
        self, *, wait: float = 0, on_event: Optional[OnEventAsync] = None
    ) -> Report:
        """Executes the plan and waits for its end.

        Returns once the platform is restored and checked. Otherwise raises: before anything was
        touched (the plan is refused or out of date, another run is under way), or, with the
        exception's ``report`` saying what happened, once the platform is as it was; a
        :class:`~restore.StuckError` alone says that it is neither.

        Ctrl-C, or an exception of ``on_event``, stops the run: it undoes itself, then the
        exception is raised. The third Ctrl-C leaves the undo half done, for :meth:`Site.resume`.
        ``wait``: so many seconds for the lock of another process.
        """
        return await self._run(wait=wait)._drive(on_event)

    def start_run(self, *, wait: float = 0) -> Run[Report]:
        """Executes the plan and waits for its end.

        Returns once the platform is restored and checked. Otherwise raises: before anything was
        touched (the plan is refused or out of date, another run is under way), or, with the
        exception's ``report`` saying what happened, once the platform is as it was; a
        :class:`~restore.StuckError` alone says that it is neither.

        Ctrl-C, or an exception of ``on_event``, stops the run: it undoes itself, then the
        exception is raised. The third Ctrl-C leaves the undo half done, for :meth:`Site.resume`.
        ``wait``: so many seconds for the lock of another process.
        """
        return self._run(wait=wait).start()

    # --- end of what is written by scripts/python-calls.py from what is marked above -----------------------

    def to_dict(self) -> dict[str, Any]:
        """The plan as what JSON knows: what ``restore plan --json`` gives."""
        value: dict[str, Any] = self._native.to_dict()
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self._value == other._value

    def __hash__(self) -> int:
        return hash((self.site, self.backup, self._value["made"]))

    def __str__(self) -> str:
        return self._native.text()

    def __repr__(self) -> str:
        names = ", ".join(it.name for it in self.components)
        refused = " REFUSED" if self.refusal is not None else ""
        return f"<restore.Plan of backup {self.backup} into {self.site}: {names}{refused}>"

    def _repr_html_(self) -> str:
        return _html.plan(self)


def _component(value: dict[str, Any]) -> PlannedComponent:
    found = value["inspection"]
    return PlannedComponent(
        name=value["name"],
        kind=value["kind"],
        paths=tuple(value["paths"]),
        stops=tuple(value["stops"]),
        artifacts=tuple(found["artifacts"]),
        summary=found["summary"],
        staged_at=found["staged_at"],
        read_bytes=found["read_bytes"],
        needed_bytes=sum(need["bytes"] for need in found["needs"]),
        facts=found["facts"],
        creates=tuple(found.get("creates", ())),
    )
