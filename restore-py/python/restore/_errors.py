"""The exceptions: one tree, so that ``except restore.RestoreError`` catches all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Optional

from ._hints import here

if TYPE_CHECKING:
    from ._report import Report


class RestoreError(Exception):
    """What happened, and to what, in one line.

    A component written in Python may raise it, or any class below it, with a ``code`` and a
    ``hint`` of its own.
    """

    kind: ClassVar[str] = "failed"
    """What can be done about it, the same for all errors of a class."""

    message: str
    """The line, as ``str()`` gives it."""
    code: str
    """Stable, ``area.what``: it never changes its meaning between versions."""
    hint: Optional[str]
    """The next step, where there is one."""
    component: Optional[str]
    """The component that it befell, where it was one."""
    retryable: bool
    """Whether the same call may succeed when simply made again."""
    report: Optional[Report]
    """What a run did that did not end as asked."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "python.raised",
        hint: Optional[str] = None,
        component: Optional[str] = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.component = component
        self.retryable = retryable
        self.report = None
        if hint is not None:
            # In a traceback too, which is all that many scripts show. From Python 3.11 on.
            add_note = getattr(self, "add_note", None)
            if add_note is not None:
                add_note(f"hint: {hint}")

    def to_dict(self) -> dict[str, Any]:
        """The error as what JSON knows."""
        return {
            "kind": self.kind,
            "message": self.message,
            "code": self.code,
            "hint": self.hint,
            "component": self.component,
            "retryable": self.retryable,
        }

    # Not KeyError's, which quotes.
    def __str__(self) -> str:
        return self.message


class ConfigError(RestoreError):
    """The configuration or an argument is wrong; nothing was tried."""

    kind = "config"


class NotFoundError(RestoreError, KeyError):
    """A named backup, run, component, service or volume does not exist."""

    kind = "not_found"


class VerificationError(RestoreError):
    """The backup is not what it claims to be."""

    kind = "verification"


class PreflightError(RestoreError):
    """A condition for starting is not met; nothing was touched."""

    kind = "preflight"


class LockedError(RestoreError):
    """Another run is under way on the site."""

    kind = "locked"


class StoppedError(RestoreError):
    """The caller asked to stop. Where a run was under way, it has undone itself."""

    kind = "interrupted"


class FailedError(RestoreError):
    """The operating system, a server or a tool failed. A run has undone itself."""

    kind = "failed"


class StuckError(RestoreError):
    """The platform is neither as it was nor restored: the report says what is where."""

    kind = "stuck"


class InternalError(RestoreError):
    """A contract inside the library was broken; please report it."""

    kind = "internal"


class MissingFileError(ConfigError, FileNotFoundError):
    """The configuration, or a file that it names, does not exist."""


class TimedOutError(FailedError, TimeoutError):
    """A server or a tool did not answer, or was not done, in time."""


_ALSO: dict[tuple[str, Optional[str]], type[RestoreError]] = {
    ("config", "missing_file"): MissingFileError,
    ("failed", "timeout"): TimedOutError,
}

_KINDS: dict[str, type[RestoreError]] = {
    cls.kind: cls
    for cls in (
        ConfigError,
        NotFoundError,
        VerificationError,
        PreflightError,
        LockedError,
        StoppedError,
        FailedError,
        StuckError,
        InternalError,
    )
}


def make(
    kind: str,
    message: str,
    code: str,
    hint: Optional[str],
    component: Optional[str],
    retryable: bool,
    also: Optional[str] = None,
) -> RestoreError:
    """The exception of a library's error; called by the native half."""
    cls = _ALSO.get((kind, also)) or _KINDS.get(kind, FailedError)
    return cls(message, code=code, hint=here(hint), component=component, retryable=retryable)


class Described:
    """What the library keeps of an exception."""

    def __init__(
        self, kind: str, code: str, message: str, hint: Optional[str], retryable: bool
    ) -> None:
        self.kind = kind
        self.code = code
        self.message = message
        self.hint = hint
        self.retryable = retryable


def describe(error: BaseException) -> Described:
    """An exception of a component in words; called by the native half."""
    if isinstance(error, RestoreError):
        return Described(error.kind, error.code, error.message, error.hint, error.retryable)
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    import traceback  # Slow to import, and seldom needed.

    frames = traceback.extract_tb(error.__traceback__)
    hint = f"raised at {frames[-1].filename}:{frames[-1].lineno}" if frames else None
    return Described("failed", "python.exception", message, hint, False)


def stopped(reason: BaseException, ended: object) -> BaseException:
    """What to raise of a task that ``reason`` stopped and that came to ``ended``: a report,
    another result, or an exception."""
    from ._report import Report

    report = ended if isinstance(ended, Report) else getattr(ended, "report", None)
    if isinstance(ended, StuckError):
        # Whoever stopped it must hear above all that it needs a hand.
        ended.__cause__ = reason
        return ended
    if isinstance(report, Report):
        reason.report = report  # type: ignore[attr-defined]
        add_note = getattr(reason, "add_note", None)
        if add_note is not None:
            add_note(f"restore: run {report.run}: {report.headline}")
    return reason
