"""What a site does with backups besides restoring them: what making, fetching and deleting them
came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

from . import _html, _restore
from ._arguments import wrong
from ._decode import decode
from ._task import OnEvent, OnEventAsync, drive, wait
from ._values import BackupFile, Finding, MissingComponent, Verdict

if TYPE_CHECKING:
    from ._site import Site

Compression = Literal["gzip", "zstd", "none"]


@dataclass(frozen=True)
class BackedUpComponent:
    """One component's part in a backup that was made."""

    name: str
    kind: str
    artifacts: tuple[BackupFile, ...]
    """The files that it wrote."""
    seconds: float
    facts: dict[str, Any]
    """Versions, rows, keys, files: to compare with after a restore."""


@dataclass(frozen=True)
class BackupReport:
    """What making a backup came to: a finished one."""

    id: str
    store: str
    """The name of the store that it is in."""
    place: str
    """Where it is, in words."""
    kind: str
    """``full``, ``partial`` or ``safety``."""
    started: datetime
    ended: datetime
    files: int
    bytes: int
    components: tuple[BackedUpComponent, ...]
    missing: tuple[MissingComponent, ...]
    """What could not be backed up."""
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        return f"backup {self.id}: {self.files} files, {_html.size(self.bytes)} in {self.place}"


@dataclass(frozen=True)
class FetchReport:
    """What fetching a backup came to."""

    id: str
    from_store: Optional[str]
    """The store that it came from; ``None`` where it was there already."""
    to_store: str
    """The store that has it now."""
    path: Path
    """Its folder."""
    already_there: bool
    generation: str
    """``a``: with checksums; ``b``: without."""
    verdict: Optional[Verdict]
    """What comparing it with its manifest came to; ``None`` where nothing had to be read."""
    files: int
    bytes: int
    received: int
    """Bytes that came over the connection this time."""
    kept: int
    """Bytes of an earlier fetch that were kept."""
    seconds: float
    findings: tuple[Finding, ...]

    @classmethod
    def _of(cls, value: dict[str, Any]) -> FetchReport:
        renamed = {"from_store": value["from"], "to_store": value["to"], **value}
        return decode(cls, renamed)


@dataclass(frozen=True)
class Pruned:
    """One backup in a :class:`PrunePlan`."""

    id: str
    bytes: int
    why: str
    """Why it stays, or what it is."""


class PrunePlan:
    """Which backups of a store would be deleted. Making one has changed nothing."""

    __slots__ = ("_request", "_site", "_value")

    def __init__(
        self, site: Site, request: tuple[Optional[int], Optional[int], str], value: dict[str, Any]
    ) -> None:
        self._site = site
        self._request = request
        self._value = value

    @property
    def store(self) -> str:
        """The store's name."""
        return str(self._value["store"])

    @property
    def place(self) -> str:
        """The store, in words."""
        return str(self._value["place"])

    @property
    def delete(self) -> tuple[Pruned, ...]:
        """What would be deleted, oldest first."""
        return _all(self._value["delete"])

    @property
    def keep(self) -> tuple[Pruned, ...]:
        """What stays, oldest first."""
        return _all(self._value["keep"])

    @property
    def bytes(self) -> int:
        """What it would free."""
        return sum(it.bytes for it in self.delete)

    def run(self, on_event: Optional[OnEvent] = None) -> tuple[Pruned, ...]:
        """Deletes what the plan has, save what must not be deleted any more; what was deleted.
        One at a time, the oldest first. Stopped in between, at most one is half deleted, and
        everybody sees that it is unfinished."""
        deleted: tuple[Pruned, ...] = wait(self._task(), on_event)
        return deleted

    async def run_async(self, on_event: Optional[OnEventAsync] = None) -> tuple[Pruned, ...]:
        """The same on an asyncio loop."""
        deleted: tuple[Pruned, ...] = await drive(self._task(), on_event)
        return deleted

    def _task(self) -> _restore.Task:
        return self._site._native.prune(*self._request, self._value).then(_all)

    def __repr__(self) -> str:
        return f"<restore.PrunePlan of {self.place}: {len(self.delete)} of {len(self.delete) + len(self.keep)}>"

    def __str__(self) -> str:
        lines = [f"Prune {self.place}: delete {len(self.delete)}, freeing {_html.size(self.bytes)}"]
        lines += [f"  delete {it.id}  {_html.size(it.bytes)}  {it.why}" for it in self.delete]
        lines += [f"  keep   {it.id}  {_html.size(it.bytes)}  {it.why}" for it in self.keep]
        return "\n".join(lines)


def made(value: dict[str, Any]) -> BackupReport:
    """The report of a backup as the native half gives it."""
    return decode(BackupReport, value)


def whole_seconds(age: Optional[timedelta]) -> Optional[int]:
    """An age as the native half takes it."""
    if age is None:
        return None
    if not isinstance(age, timedelta) or age < timedelta(0):
        raise wrong("older_than", "a timedelta of 0 or more", age, "datetime.timedelta(days=30)")
    return int(age.total_seconds())


def _all(values: list[dict[str, Any]]) -> tuple[Pruned, ...]:
    return tuple(decode(Pruned, value) for value in values)
