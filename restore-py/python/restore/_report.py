"""What a run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Optional

from . import _html, _restore
from ._arguments import wrong
from ._base import Hinted, Value
from ._decode import decode
from ._errors import RestoreError
from ._values import CheckOutcome, Finding, MissingComponent

Answer = tuple[dict[str, Any], str, Optional[RestoreError], bool]
"""A report as the native half gives it: its value, its text, the exception that it amounts to, whether the
platform does not work although the run has ended."""

Outcome = Literal[
    "unfinished", "restored", "drilled", "undone", "rolled_back", "stuck", "abandoned"
]


@dataclass(frozen=True, repr=False)
class Failure(Hinted):
    """Why a run did not end as asked."""

    step: str
    kind: str
    code: str
    message: str
    hint: Optional[str]
    component: Optional[str] = None
    """The component that it befell, where it was one."""
    retryable: bool = False
    """Whether another run may succeed without any change."""


@dataclass(frozen=True, repr=False)
class ServiceDown(Hinted):
    """A service that the way back could not start on its old data."""

    name: str
    error: str
    """Why it did not start."""
    hint: Optional[str] = None
    """What to do about it, where that is known."""
    ran_before: bool = False
    """Whether it ran before the run."""


@dataclass(frozen=True, repr=False)
class StepTime(Value):
    """How long a step took."""

    step: str
    """Its id; an undo's starts with ``undo:``."""
    started: datetime
    seconds: Optional[float]
    """``None`` where it did not end well."""
    failed: bool = False
    """Whether it failed; one that neither ended nor failed was broken off."""


@dataclass(frozen=True, repr=False)
class ComponentReport(Value):
    """What became of one component."""

    name: str
    kind: str
    artifacts: tuple[str, ...]
    restored: bool
    """Whether its restored data is live now, or there beside what is live."""
    bytes: int
    """Bytes staged."""
    facts: dict[str, Any]
    """What was staged: tables, rows, keys, files."""
    kept_at: Optional[str]
    """Where the other copy is kept, while there is one."""
    beside: Optional[str] = None
    """What it was restored as beside what is live, where it did not replace that."""


@dataclass(frozen=True, repr=False)
class Made(Value):
    """Something that was absent before a run, and that the run made."""

    component: str
    """The component that it was made for."""
    what: str
    """What it is, in a few words: ``directory /srv/shop``."""
    removed: bool
    """Whether the run has removed it again."""


@dataclass(frozen=True, repr=False)
class SafetyBackup(Value):
    """The backup that a run made first, of what it was to replace."""

    id: str
    """Its id, to restore it by."""
    store: str
    place: str
    """Where it is, in words."""
    bytes: int
    missing: tuple[MissingComponent, ...]
    """Components that could not be read."""


@dataclass(frozen=True, repr=False)
class _Report(Value):
    """What the library says of a run."""

    site: str
    run: str
    backup: str
    store: str
    outcome: Outcome
    drill: bool
    confirmed: bool
    started: datetime
    ended: Optional[datetime]
    downtime_seconds: Optional[float]
    down_since: Optional[datetime]
    failure: Optional[Failure]
    stuck: Optional[Failure]
    safety: Optional[SafetyBackup]
    components: tuple[ComponentReport, ...]
    services: dict[str, int]
    checks_before: tuple[CheckOutcome, ...]
    checks_after: tuple[CheckOutcome, ...]
    steps: tuple[StepTime, ...]
    findings: tuple[Finding, ...]
    next: tuple[str, ...]
    made: tuple[Made, ...] = ()
    services_down: tuple[ServiceDown, ...] = ()
    page_up: bool = False
    damaged: Optional[str] = None
    under_way: Optional[str] = None


class Report:
    """What a run did, as far as it has come. Printed, it is the text of the site's log."""

    __slots__ = ("_error", "_failing", "_raw", "_text", "_value")

    def __init__(
        self, raw: dict[str, Any], text: str, error: Optional[RestoreError], failing: bool
    ) -> None:
        self._failing = failing
        self._raw = raw
        self._text = text
        self._error = error
        # Reports of versions that did not know of these have no such keys.
        self._value = decode(_Report, {"safety": None, "drill": False, "down_since": None, **raw})
        if error is not None:
            error.report = self

    @classmethod
    def _of(cls, answer: Answer) -> Report:
        return cls(*answer)

    @property
    def site(self) -> str:
        """The site's name."""
        return self._value.site

    @property
    def run(self) -> str:
        """The run's id."""
        return self._value.run

    @property
    def backup(self) -> str:
        """The backup's id."""
        return self._value.backup

    @property
    def store(self) -> str:
        """Where the backup was."""
        return self._value.store

    @property
    def outcome(self) -> Outcome:
        """How it ended, or that it has not."""
        return self._value.outcome

    @property
    def is_drill(self) -> bool:
        """Whether it was a drill, which replaces nothing."""
        return self._value.drill

    @property
    def is_as_before(self) -> bool:
        """Whether the platform is as it was before the run."""
        return self.outcome in ("undone", "rolled_back")

    @property
    def is_failing(self) -> bool:
        """Whether the run has ended and the platform does not work all the same: a check fails that failed
        before too, a service did not start on its old data, or the page did not come down. Of a restore
        that succeeded there is no exception for it; ``restore run`` exits with 8."""
        return self._failing

    @property
    def under_way(self) -> Optional[str]:
        """Who is at work on it right now, in words; ``None``: nobody, so that one which has not ended waits
        for somebody to finish it."""
        return self._value.under_way

    @property
    def damaged(self) -> Optional[str]:
        """Why its journal cannot be believed wholly: all else is what can be read of it."""
        return self._value.damaged

    @property
    def page_up(self) -> bool:
        """Whether the maintenance page is up, or may be."""
        return self._value.page_up

    @property
    def services_down(self) -> tuple[ServiceDown, ...]:
        """Services that did not start when the run was taken back."""
        return self._value.services_down

    @property
    def confirmed(self) -> bool:
        """Whether what it replaced has been deleted on request."""
        return self._value.confirmed

    @property
    def started(self) -> datetime:
        """When it began."""
        return self._value.started

    @property
    def ended(self) -> Optional[datetime]:
        """When it ended; ``None`` while it has not."""
        return self._value.ended

    @property
    def downtime_seconds(self) -> Optional[float]:
        """Seconds in which users were turned away; ``None`` where they never were."""
        return self._value.downtime_seconds

    @property
    def down_since(self) -> Optional[datetime]:
        """Since when users are turned away, where they still are; these seconds are in no sum."""
        return self._value.down_since

    @property
    def failure(self) -> Optional[Failure]:
        """Why it did not end as asked."""
        return self._value.failure

    @property
    def stuck(self) -> Optional[Failure]:
        """What stands in the way of undoing it, where it is stuck."""
        return self._value.stuck

    @property
    def safety(self) -> Optional[SafetyBackup]:
        """The backup that it made first."""
        return self._value.safety

    @property
    def components(self) -> tuple[ComponentReport, ...]:
        """Its components."""
        return self._value.components

    @property
    def made(self) -> tuple[Made, ...]:
        """What was absent and it made."""
        return self._value.made

    @property
    def services(self) -> dict[str, int]:
        """Its services with the instances that were recorded."""
        return dict(self._value.services)

    @property
    def checks_before(self) -> tuple[CheckOutcome, ...]:
        """The checks before the run."""
        return self._value.checks_before

    @property
    def checks_after(self) -> tuple[CheckOutcome, ...]:
        """The last outcome of each check after it."""
        return self._value.checks_after

    @property
    def steps(self) -> tuple[StepTime, ...]:
        """Its steps in the order in which they began."""
        return self._value.steps

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything noticed."""
        return self._value.findings

    @property
    def next(self) -> tuple[str, ...]:
        """What one would type next."""
        return self._value.next

    @property
    def headline(self) -> str:
        """How it ended, in words."""
        lines = self._text.splitlines()
        return lines[1] if len(lines) > 1 else self.outcome

    @property
    def error(self) -> Optional[RestoreError]:
        """The exception of a run that did not end as asked."""
        return self._error

    def raise_if_failed(self) -> Report:
        """Itself, where the run ended as asked."""
        if self._error is not None:
            raise self._error
        return self

    def to_dict(self) -> dict[str, Any]:
        """The report as what JSON knows: what ``restore report --json`` gives."""
        return dict(self._raw)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Report:
        """A report that :meth:`to_dict` or ``restore report --json`` had saved."""
        if not isinstance(value, Mapping):
            raise wrong("value", "what Report.to_dict() gave", value)
        return cls._of(_restore.Site.read_report(dict(value)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Report.from_dict, (self._raw,)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<restore.Report of run {self.run}: {self.headline}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash((self.site, self.run))

    def _repr_html_(self) -> str:
        return _html.report(self)


def told(answers: list[Answer]) -> Report:
    """The one report that was asked for."""
    return Report(*answers[0])


def all_told(answers: list[Answer]) -> list[Report]:
    """All reports that were asked for."""
    return [Report(*answer) for answer in answers]
