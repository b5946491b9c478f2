"""Events as lines of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ._events import (
    CheckMade,
    DowntimeEnded,
    DowntimeStarted,
    Event,
    Noticed,
    Progress,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepStarted,
)

if TYPE_CHECKING:
    from logging import Logger


def log_event(event: Event, logger: Optional[Logger] = None) -> None:
    """Writes an event to ``logger``, or to the one named ``restore``: ``plan.run(on_event=
    restore.log_event)``. What failed is an error, what was noticed as severe as it is, progress for
    debugging; the event itself is the record's ``event``."""
    import logging  # Programs that do not log need not wait for it.

    level, text = logging.INFO, event.kind
    if isinstance(event, Progress):
        total = "" if event.total is None else f" of {event.total}"
        level, text = logging.DEBUG, f"{event.subject}: {event.action} {event.done}{total} bytes"
    elif isinstance(event, Noticed):
        levels = {"error": logging.ERROR, "warning": logging.WARNING}
        level = levels.get(event.finding.severity, logging.INFO)
        hint = f" ({event.finding.hint})" if event.finding.hint else ""
        text = f"{event.finding.subject}: {event.finding.message}{hint}"
    elif isinstance(event, CheckMade):
        level = logging.INFO if event.passed else logging.WARNING
        text = f"check {event.name} {'passed' if event.passed else 'failed'}: {event.detail}"
    elif isinstance(event, StepFailed):
        level, text = logging.ERROR, f"{event.step} failed: {event.error}"
    elif isinstance(event, StepStarted):
        text = event.what
    elif isinstance(event, StepFinished):
        text = f"{event.step} took {event.seconds:.1f} s"
    elif isinstance(event, DowntimeStarted):
        text = "users are turned away"
    elif isinstance(event, DowntimeEnded):
        text = f"users were turned away for {event.seconds:.1f} s"
    elif isinstance(event, RunStarted):
        text = f"{event.action} {event.run} of backup {event.backup}"
    elif isinstance(event, RunFinished):
        text = f"run {event.run}: {event.outcome}"
    (logger or logging.getLogger("restore")).log(level, text, extra={"event": event})
