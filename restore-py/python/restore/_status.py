"""One look at a site, or at its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ._base import Hinted, Value
from ._decode import decode
from ._errors import RestoreError
from ._values import Finding, Severity


@dataclass(frozen=True, repr=False)
class StoreStatus(Value):
    """A store of a site."""

    name: str
    place: str
    """Where it is, in words."""
    full_backups: Optional[int]
    """How many full backups it has; ``None`` where it could not be listed."""


@dataclass(frozen=True, repr=False)
class NewestBackup(Value):
    """The newest full backup: what ``latest`` means."""

    id: str
    store: str
    local: bool
    """Whether it is on this host and not packed, so that nothing must be fetched first."""
    bytes: Optional[int]
    age_seconds: Optional[int]
    """Since the moment that its id names; negative where that is to come."""
    proven: bool
    """Whether a drill or restore of all of it has passed."""


@dataclass(frozen=True, repr=False)
class ProvenBackup(Value):
    """A backup that a run has proven to restore."""

    backup: str
    run: str
    drill: bool
    """Whether it was a drill, and not a restore."""
    whole: bool
    """Whether it took all components that a full backup has."""
    at: datetime


@dataclass(frozen=True, repr=False)
class LastDrill(Value):
    """The newest drill that has ended."""

    backup: str
    run: str
    passed: bool
    """Whether the backup passed it."""
    whole: bool
    """Whether it took all components of the site."""
    at: datetime
    failure: Optional[str]
    """Why it did not pass, in a line."""


@dataclass(frozen=True, repr=False)
class UnfinishedRun(Hinted):
    """A run that has not ended."""

    run: str
    backup: str
    outcome: str
    under_way: Optional[str]
    """Who is at work on it right now, in words; ``None``: nobody."""
    down_since: Optional[datetime]
    """Since when users are turned away by it, where they are."""
    page_up: bool
    """Whether its maintenance page is up, or may be."""
    hint: str
    """What to type about it, in a sentence."""


@dataclass(frozen=True, repr=False)
class KeptData(Value):
    """What a run keeps beside the live data."""

    run: str
    outcome: str
    components: tuple[str, ...]
    bytes: Optional[int]
    """About how many; ``None`` where nobody knows."""


@dataclass(frozen=True, repr=False)
class Space(Value):
    """Room on a file system."""

    free_bytes: int
    free_inodes: int
    file_system: str
    read_only: bool
    place: str
    """Where it is mounted and of which kind it is; empty where that is not known."""


@dataclass(frozen=True, repr=False)
class Room(Value):
    """Room on a file system that a site uses."""

    uses: tuple[str, ...]
    """What lies there: ``state``, ``store main``, ``redis``."""
    space: Space


@dataclass(frozen=True, repr=False)
class SiteStatus(Value):
    """What is known of a site at one moment. True where a restore could begin."""

    site: str
    platform: str
    file: Optional[Path]
    state: Path
    at: datetime
    ready: bool
    """Whether a restore of the newest full backup could begin now."""
    components: tuple[str, ...]
    services: tuple[str, ...]
    stores: tuple[StoreStatus, ...]
    newest: Optional[NewestBackup]
    proven: Optional[ProvenBackup]
    """The last drill or restore that proved the newest full backup; else any."""
    drill: Optional[LastDrill]
    """The newest drill, however it ended."""
    unfinished: tuple[UnfinishedRun, ...]
    kept: tuple[KeptData, ...]
    room: tuple[Room, ...]
    under_way: Optional[str]
    """Who works on the site right now, in words."""
    findings: tuple[Finding, ...]
    """What was noticed, what would stop a restore first."""
    refusal: Optional[RestoreError] = field(default=None, compare=False)
    """Why a restore could not begin."""

    def __bool__(self) -> bool:
        """Whether a restore could begin now."""
        return self.ready

    @classmethod
    def _of(cls, answer: tuple[dict[str, Any], Optional[RestoreError]]) -> SiteStatus:
        value, refusal = answer
        return replace(decode(cls, value), refusal=refusal)


@dataclass(frozen=True, repr=False)
class ConfigFinding(Hinted):
    """One thing about a configuration."""

    line: Optional[int]
    """The line of the file that it is about, counted from 1; ``None`` where it is about all of it."""
    severity: Severity
    """An ``error`` keeps the file from being used."""
    code: str
    """Stable, ``area.what``."""
    subject: str
    """The section."""
    message: str
    """What is so, and why it matters, in one line."""
    hint: Optional[str] = None
    """The next step, where there is one."""
    kind: Optional[str] = None
    """The kind of the error that it was, where that is known."""

    def __str__(self) -> str:
        at = "" if self.line is None else f"line {self.line}: "
        return f"{self.severity}: {at}{self.subject}: {self.message}"


@dataclass(frozen=True, repr=False)
class ConfigCheck(Value):
    """What is known of a configuration without a backup. True where nothing of it is an error."""

    file: Path
    sound: bool
    """Whether nothing of it is an error."""
    findings: tuple[ConfigFinding, ...]
    """Everything that was found, in the order of the lines."""
    refusal: Optional[RestoreError] = field(default=None, compare=False)
    """The error of a configuration that cannot be used as it is."""

    def __bool__(self) -> bool:
        """Whether nothing of it is an error."""
        return self.sound

    @classmethod
    def _of(cls, answer: tuple[dict[str, Any], Optional[RestoreError]]) -> ConfigCheck:
        value, refusal = answer
        return replace(decode(cls, value), refusal=refusal)
