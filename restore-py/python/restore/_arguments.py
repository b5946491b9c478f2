"""What is wrong with an argument, said before the native half sees it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Optional, Union, overload

from ._errors import ConfigError

Path = Union[str, "os.PathLike[str]"]


def wrong(name: str, expected: str, value: object, hint: Optional[str] = None) -> ConfigError:
    """The exception for an argument of a kind or size that makes no sense."""
    return ConfigError(
        f"{name} must be {expected}, not {value!r}", code="python.argument", hint=hint
    )


@overload
def number(name: str, value: int, most: int) -> int: ...
@overload
def number(name: str, value: Optional[int], most: int) -> Optional[int]: ...
def number(name: str, value: Optional[int], most: int) -> Optional[int]:
    """A whole number from 0 to ``most``."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        upper = f"from 0 to {most}" if most < 2**31 else "of 0 or more"
        raise wrong(name, f"a whole number {upper}", value)
    return value


def seconds(wait: float) -> float:
    """How long to wait for a lock."""
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait < 2**31:
        raise wrong("wait", "a number of seconds, 0 or more", wait)
    return float(wait)


def flags(**values: bool) -> tuple[bool, ...]:
    """Words that are said or not, in their order."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise wrong(name, "True or False", value)
    return tuple(values.values())


@overload
def text(name: str, value: str) -> str: ...
@overload
def text(name: str, value: Optional[str]) -> Optional[str]: ...
def text(name: str, value: Optional[str]) -> Optional[str]:
    """A text."""
    if value is not None and not isinstance(value, str):
        raise wrong(name, "a text", value)
    return value


def texts(name: str, values: Optional[Iterable[str]]) -> Optional[list[str]]:
    """Texts; one alone is one of them, not its letters."""
    if values is None:
        return None
    if isinstance(values, str):
        return [values]
    found = _listed(name, "texts, in a list", values)
    for value in found:
        if not isinstance(value, str):
            raise wrong(name, "texts, in a list", values)
    return found


def path(name: str, value: Path) -> str:
    """A path as a text."""
    try:
        found: object = os.fspath(value)
    except TypeError:
        found = None
    if not isinstance(found, str):
        raise wrong(name, "a path", value)
    return found


def paths(name: str, values: Union[Path, Iterable[Path], None]) -> Optional[list[str]]:
    """Paths as texts; one alone is one of them."""
    if values is None:
        return None
    if isinstance(values, (str, os.PathLike)):
        return [path(name, values)]
    return [path(name, value) for value in _listed(name, "paths, in a list", values)]


def run_id(run: object) -> Optional[str]:
    """A run's id; whoever has its report means the run."""
    if run is None:
        return None
    found = run if isinstance(run, str) else getattr(run, "run", None)
    if not isinstance(found, str):
        raise wrong("run", "an id or a Report", run, "site.history() has the reports of all runs")
    return found


def backup_id(name: str, backup: object) -> str:
    """A backup's id; whoever has the backup, or the report of its making, means it."""
    found = backup if isinstance(backup, str) else getattr(backup, "id", None)
    if not isinstance(found, str):
        hint = 'an id, "latest", or what site.backup(id) gives'
        raise wrong(name, "an id or a Backup", backup, hint)
    return found


def callback(on_event: object) -> None:
    """Refuses what cannot take events before anything is begun for it."""
    if on_event is not None and not callable(on_event):
        raise wrong("on_event", "a function that takes an event", on_event)


def _listed(name: str, expected: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise wrong(name, expected, values) from None
