"""What a restore would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Optional

from . import _html, _report, _restore
from ._decode import decode, moment
from ._errors import RestoreError
from ._report import Report
from ._run import Run
from ._task import OnEvent, OnEventAsync, drive, wait
from ._values import Finding

if TYPE_CHECKING:
    from ._site import Site

Phase = Literal["before", "stage", "background", "cut_over", "after"]


@dataclass(frozen=True)
class Step:
    """One step of a plan."""

    id: str
    """``cut-over:redis``."""
    what: str
    """The same in words."""
    phase: Phase
    """``cut_over`` is the downtime."""


@dataclass(frozen=True)
class PlannedComponent:
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


@dataclass(frozen=True)
class PlannedService:
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


@dataclass(frozen=True)
class PlannedSafety:
    """The backup of what is live that a run makes first."""

    store: str
    """The name of the store that it goes to."""
    place: str
    """The store, in words."""
    bytes: int
    """About how many there are to back up, before they are compressed."""


@dataclass(frozen=True)
class EarlierRun:
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

    def __init__(self, site: Site, native: _restore.Plan) -> None:
        self._site = site
        self._native = native
        self._value: dict[str, Any] = native.to_dict()

    @classmethod
    def from_dict(cls, site: Site, value: Mapping[str, Any]) -> Plan:
        """A plan that :meth:`to_dict` had saved. Running it is refused where what it says is no
        longer so."""
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
        return tuple(Finding(**value) for value in self._value["findings"])

    @property
    def read_bytes(self) -> int:
        """Bytes to read from the backup."""
        return sum(component.read_bytes for component in self.components)

    @property
    def refusal(self) -> Optional[RestoreError]:
        """The exception that running it would raise before anything is touched."""
        return self._native.refusal()

    def run(self, on_event: Optional[OnEvent] = None) -> Report:
        """Executes the plan and waits for its end.

        Returns once the platform is restored and checked. Otherwise raises: before anything was
        touched (the plan is refused or out of date, another run is under way), or, with the
        exception's ``report`` saying what happened, once the platform is as it was; a
        :class:`~restore.StuckError` alone says that it is neither.

        Ctrl-C, or an exception of ``on_event``, stops the run: it undoes itself, then the
        exception is raised. The third Ctrl-C leaves the undo half done, for :meth:`Site.resume`.
        """
        report: Report = wait(self._task(), on_event)
        return report

    async def run_async(self, on_event: Optional[OnEventAsync] = None) -> Report:
        """The same on an asyncio loop; cancelling it stops and undoes the run."""
        report: Report = await drive(self._task(), on_event)
        return report

    def start(self) -> Run:
        """The run as something to iterate over: see :class:`Run`."""
        return Run(self._task())

    def _task(self) -> _restore.Task:
        return self._site._native.run(self._native).then(_report.ended)

    def to_dict(self) -> dict[str, Any]:
        """The plan as what JSON knows: what ``restore plan --json`` gives."""
        value: dict[str, Any] = self._native.to_dict()
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self._value == other._value

    def __hash__(self) -> int:
        return hash((self.site, self.backup, self._value["made"]))

    def __str__(self) -> str:
        return _text(self)

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


_TITLES = {
    "before": "First, while the platform serves:",
    "stage": "Beside the live data, while the platform serves:",
    "background": "Of services that users do not see, while the platform serves:",
    "cut_over": "Downtime:",
    "after": "Once users are let in again:",
}


def _text(plan: Plan) -> str:
    lines = [
        f"Plan: restore backup {plan.backup} into {plan.site}",
        f"From: {plan.store}",
        "",
        f"Components ({_html.size(plan.read_bytes)} to read):",
    ]
    rows = [(it.name, _html.size(it.read_bytes), it) for it in plan.components]
    names = max((len(name) for name, _, _ in rows), default=0)
    sizes = max((len(size) for _, size, _ in rows), default=0)
    for name, size, component in rows:
        source = ", ".join(component.artifacts) or "see the findings"
        goal = f" -> {component.summary}" if component.summary else ""
        lines.append(f"  {name:<{names}}  {size:>{sizes}}  {source}{goal}")
    absent = [(it.name, what) for it in plan.components for what in it.creates]
    if absent:
        lines += ["", "Absent, and will be made (and removed again if the run is taken back):"]
    lines += [f"  {name:<{names}}  {what}" for name, what in absent]
    number = 0
    for phase, title in _TITLES.items():
        steps = [step for step in plan.steps if step.phase == phase]
        if steps:
            lines += ["", title]
        for step in steps:
            number += 1
            what = step.what
            if step.phase == "before" and plan.safety is not None:
                size = _html.size(plan.safety.bytes)
                what += f" to {plan.safety.place} (about {size} to read)"
            lines.append(f"  {number}. {what}")
    if plan.findings:
        lines += ["", "Findings:"]
    for finding in plan.findings:
        lines.append(f"  {finding}")
        if finding.hint:
            lines.append(f"    {finding.hint}")
    refusal = plan.refusal
    if refusal is not None:
        lines += ["", f"REFUSED: {refusal}"]
    return "\n".join(lines)
