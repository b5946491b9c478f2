"""What a run tells while it works. Events are for whoever watches; nothing depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, ClassVar, Literal, Optional

from ._base import Value
from ._decode import decode, moment
from ._values import Finding


Phase = Literal["before", "stage", "background", "cut_over", "after"]
"""The part of a plan that a step belongs to; ``cut_over`` is the downtime."""

EventPhase = Literal["before", "stage", "background", "cut_over", "after", "undo"]
"""The part of a run that is under way: one of its plan, or its undo."""

Action = Literal["run", "drill", "resume", "rollback", "confirm", "abandon"]
"""What a process does with a run."""

RunEnd = Literal[
    "restored", "drilled", "undone", "rolled back", "stuck", "abandoned", "confirmed"
]
"""How what a process did with a run has ended."""


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, repr=False)
class Event(Value):
    """One thing that happened; each kind is a class below this one."""

    kind: ClassVar[str] = "event"
    at: datetime = field(default_factory=_now, kw_only=True)
    """When it was told."""
    run: Optional[str] = field(default=None, kw_only=True)
    """The run's id, once there is one."""
    phase: Optional[EventPhase] = field(default=None, kw_only=True)
    """The part of the run that is under way."""

    def to_dict(self) -> dict[str, Any]:
        """The event as what JSON knows, with its kind as ``event``."""
        return {"event": self.kind, **super().to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Event:
        """The event that :meth:`to_dict` had saved, of the class that it was."""
        return parse(dict(value))


@dataclass(frozen=True, repr=False)
class RunStarted(Event):
    """A run, a rollback or a resumption begins."""

    kind: ClassVar[str] = "run_started"
    backup: str
    action: Action


@dataclass(frozen=True, repr=False)
class BackupStarted(Event):
    """A backup is begun."""

    kind: ClassVar[str] = "backup_started"
    backup: str
    place: str
    """Where it is written to, in words."""


@dataclass(frozen=True, repr=False)
class BackupFinished(Event):
    """The making of a backup ended."""

    kind: ClassVar[str] = "backup_finished"
    backup: str
    outcome: Literal["finished", "unfinished"]
    """``unfinished``: it stays where it is, and is never restored."""


@dataclass(frozen=True, repr=False)
class StepStarted(Event):
    """A step of the plan begins."""

    kind: ClassVar[str] = "step_started"
    step: str
    """``stage:postgres``."""
    what: str
    """The same in words."""


@dataclass(frozen=True, repr=False)
class StepFinished(Event):
    """A step is done."""

    kind: ClassVar[str] = "step_finished"
    step: str
    seconds: float


@dataclass(frozen=True, repr=False)
class StepFailed(Event):
    """A step failed; what follows undoes the run, unless it is itself an undo."""

    kind: ClassVar[str] = "step_failed"
    step: str
    error: str


@dataclass(frozen=True, repr=False)
class Progress(Event):
    """Work of known or unknown size goes on."""

    kind: ClassVar[str] = "progress"
    subject: str
    action: str
    done: int
    """Bytes done."""
    total: Optional[int]
    """Bytes in all, where known."""


@dataclass(frozen=True, repr=False)
class DowntimeStarted(Event):
    """Users are turned away from here on."""

    kind: ClassVar[str] = "downtime_started"


@dataclass(frozen=True, repr=False)
class DowntimeEnded(Event):
    """Users are let in again."""

    kind: ClassVar[str] = "downtime_ended"
    seconds: float


@dataclass(frozen=True, repr=False)
class Noticed(Event):
    """Something noticed along the way."""

    kind: ClassVar[str] = "finding"
    finding: Finding


@dataclass(frozen=True, repr=False)
class CheckMade(Event):
    """A check was made."""

    kind: ClassVar[str] = "check"
    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, repr=False)
class RunFinished(Event):
    """The run ended."""

    kind: ClassVar[str] = "run_finished"
    outcome: RunEnd


@dataclass(frozen=True, repr=False)
class OtherEvent(Event):
    """An event of a kind that this version has no class for."""

    kind: ClassVar[str] = "other"
    value: dict[str, Any]


_KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunStarted,
        BackupStarted,
        BackupFinished,
        StepStarted,
        StepFinished,
        StepFailed,
        Progress,
        DowntimeStarted,
        DowntimeEnded,
        Noticed,
        CheckMade,
        RunFinished,
    )
}


def parse(value: dict[str, Any]) -> Event:
    """An event as the native half gives it."""
    if value["event"] == OtherEvent.kind:
        return decode(OtherEvent, value)  # One that was saved.
    cls = _KINDS.get(value["event"])
    if cls is not None:
        return decode(cls, value)
    at = moment(value["at"]) if "at" in value else _now()
    return OtherEvent(value, at=at, run=value.get("run"), phase=value.get("phase"))
