"""What a run tells while it works. Events are for whoever watches; nothing depends on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar, Optional

from ._decode import decode
from ._values import Finding


@dataclass(frozen=True)
class Event:
    """One thing that happened; each kind is a class below this one."""

    kind: ClassVar[str] = "event"

    def to_dict(self) -> dict[str, Any]:
        """The event as what JSON knows, with its kind as ``event``."""
        values = asdict(self)
        for name, value in values.items():
            if isinstance(value, datetime):
                values[name] = value.isoformat()
        return {"event": self.kind, **values}


@dataclass(frozen=True)
class RunStarted(Event):
    """A run, a rollback or a resumption begins."""

    kind: ClassVar[str] = "run_started"
    run: str
    backup: str
    action: str
    """``run``, ``resume``, ``rollback`` or ``confirm``."""
    at: datetime


@dataclass(frozen=True)
class BackupStarted(Event):
    """A backup is begun."""

    kind: ClassVar[str] = "backup_started"
    backup: str
    place: str
    """Where it is written to, in words."""
    at: datetime


@dataclass(frozen=True)
class BackupFinished(Event):
    """The making of a backup ended."""

    kind: ClassVar[str] = "backup_finished"
    backup: str
    outcome: str
    """``finished``, or ``unfinished``: it stays where it is, and is never restored."""
    at: datetime


@dataclass(frozen=True)
class StepStarted(Event):
    """A step of the plan begins."""

    kind: ClassVar[str] = "step_started"
    step: str
    """``stage:postgres``."""
    what: str
    """The same in words."""


@dataclass(frozen=True)
class StepFinished(Event):
    """A step is done."""

    kind: ClassVar[str] = "step_finished"
    step: str
    seconds: float


@dataclass(frozen=True)
class StepFailed(Event):
    """A step failed; what follows undoes the run, unless it is itself an undo."""

    kind: ClassVar[str] = "step_failed"
    step: str
    error: str


@dataclass(frozen=True)
class Progress(Event):
    """Work of known or unknown size goes on."""

    kind: ClassVar[str] = "progress"
    subject: str
    action: str
    done: int
    """Bytes done."""
    total: Optional[int]
    """Bytes in all, where known."""


@dataclass(frozen=True)
class DowntimeStarted(Event):
    """Users are turned away from here on."""

    kind: ClassVar[str] = "downtime_started"
    at: datetime


@dataclass(frozen=True)
class DowntimeEnded(Event):
    """Users are let in again."""

    kind: ClassVar[str] = "downtime_ended"
    at: datetime
    seconds: float


@dataclass(frozen=True)
class Noticed(Event):
    """Something noticed along the way."""

    kind: ClassVar[str] = "finding"
    finding: Finding


@dataclass(frozen=True)
class CheckMade(Event):
    """A check was made."""

    kind: ClassVar[str] = "check"
    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The run ended."""

    kind: ClassVar[str] = "run_finished"
    run: str
    outcome: str
    at: datetime


@dataclass(frozen=True)
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
    cls = _KINDS.get(value["event"])
    if cls is None:
        return OtherEvent(value)
    return decode(cls, value)
