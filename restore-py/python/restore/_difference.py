"""How what a backup has differs from what is live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from ._base import Value
from ._decode import decode
from ._values import Finding


@dataclass(frozen=True, repr=False)
class Changes(Value):
    """So many things, the first of them by name."""

    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Difference(Value):
    """How what a backup has differs from what is live, of one kind of thing; true where it does."""

    of: str
    """What is compared: ``files``, ``directories``, ``lines``, ``tables``, ``rows``, ``keys``."""
    backup: Optional[int]
    """How many of them the backup has, where that is known."""
    live: Optional[int]
    """How many are live, where that is known."""
    estimated: bool
    """Whether the live number is an estimate."""
    counted_only: bool
    """They are only counted: what is added, changed or removed is not known."""
    added: Changes
    """What a restore would bring that is not live."""
    changed: Changes
    removed: Changes

    def __bool__(self) -> bool:
        return self.added.count + self.changed.count + self.removed.count > 0


@dataclass(frozen=True, repr=False)
class ComponentDifference(Value):
    """How what a backup has of a component differs from what is live."""

    name: str
    differences: tuple[Difference, ...]
    """One for each kind of thing; empty where that is not known."""
    unknown: Optional[Finding]
    """Why it is not known, where it is not."""


@dataclass(frozen=True, repr=False)
class SiteDifference(Value):
    """How what a backup has differs from what is live."""

    backup: str
    components: tuple[ComponentDifference, ...]

    @classmethod
    def _of(cls, value: dict[str, Any]) -> SiteDifference:
        return decode(cls, value)
