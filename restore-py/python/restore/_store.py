"""What a site does with backups besides restoring them: what making, fetching and deleting them
came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

from . import _html, _restore
from ._arguments import number, seconds, wrong
from ._base import Value
from ._decode import decode
from ._run import Run
from ._task import OnEvent, OnEventAsync, long
from ._values import BackupFile, Finding, MissingComponent, Verdict

if TYPE_CHECKING:
    from ._site_base import SiteBase

Compression = Literal["gzip", "zstd", "none"]
Keep = tuple[Optional[int], Optional[int], Optional[int], Optional[int]]
"""So many backups, and those of so many days, weeks and months."""


@dataclass(frozen=True, repr=False)
class BackedUpComponent(Value):
    """One component's part in a backup that was made."""

    name: str
    kind: str
    artifacts: tuple[BackupFile, ...]
    """The files that it wrote."""
    seconds: float
    facts: dict[str, Any]
    """Versions, rows, keys, files: to compare with after a restore."""


@dataclass(frozen=True, repr=False)
class BackupReport(Value):
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

    @classmethod
    def _of(cls, value: dict[str, Any]) -> BackupReport:
        return decode(cls, value)

    def __str__(self) -> str:
        return f"backup {self.id}: {self.files} files, {_html.size(self.bytes)} in {self.place}"


@dataclass(frozen=True, repr=False)
class FetchReport(Value):
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


@dataclass(frozen=True, repr=False)
class Pruned(Value):
    """One backup in a :class:`PrunePlan`."""

    id: str
    bytes: int
    why: str
    """Why it stays, or what it is."""


@dataclass(frozen=True, repr=False)
class Pruning(Value):
    """What a :class:`PrunePlan` was asked for."""

    keep: Optional[int]
    keep_daily: Optional[int]
    keep_weekly: Optional[int]
    keep_monthly: Optional[int]
    older_than_seconds: Optional[int]

    def native(self) -> tuple[Keep, Optional[int]]:
        """What the native half is told."""
        counts = (self.keep, self.keep_daily, self.keep_weekly, self.keep_monthly)
        return counts, self.older_than_seconds


class PrunePlan:
    """Which backups of a store would be deleted. Making one has changed nothing."""

    __slots__ = ("_asked", "_site", "_value")

    def __init__(self, site: SiteBase, asked: Pruning, value: dict[str, Any]) -> None:
        self._site = site
        self._asked = asked
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

    @long
    def _run(self, *, wait: float = 0) -> Run[tuple[Pruned, ...]]:
        """Deletes what the plan has, save what must not be deleted any more; what was deleted.
        One at a time, the oldest first. Stopped in between, at most one is half deleted, and
        everybody sees that it is unfinished. ``wait``: so many seconds for the lock of another
        process."""
        keep, older_than = self._asked.native()
        task = self._site._native.prune(keep, older_than, self.store, self._value, seconds(wait))
        return Run(task.then(_all))

    # --- written by scripts/python-calls.py from what is marked above -----------------------

    def run(self, *, wait: float = 0, on_event: Optional[OnEvent] = None) -> tuple[Pruned, ...]:
        """Deletes what the plan has, save what must not be deleted any more; what was deleted.
        One at a time, the oldest first. Stopped in between, at most one is half deleted, and
        everybody sees that it is unfinished. ``wait``: so many seconds for the lock of another
        process."""
        return self._run(wait=wait)._wait(on_event)

    async def run_async(
        self, *, wait: float = 0, on_event: Optional[OnEventAsync] = None
    ) -> tuple[Pruned, ...]:
        """Deletes what the plan has, save what must not be deleted any more; what was deleted.
        One at a time, the oldest first. Stopped in between, at most one is half deleted, and
        everybody sees that it is unfinished. ``wait``: so many seconds for the lock of another
        process."""
        return await self._run(wait=wait)._drive(on_event)

    def start_run(self, *, wait: float = 0) -> Run[tuple[Pruned, ...]]:
        """Deletes what the plan has, save what must not be deleted any more; what was deleted.
        One at a time, the oldest first. Stopped in between, at most one is half deleted, and
        everybody sees that it is unfinished. ``wait``: so many seconds for the lock of another
        process."""
        return self._run(wait=wait).start()

    # --- end of what is written by scripts/python-calls.py from what is marked above -----------------------

    def to_dict(self) -> dict[str, Any]:
        """The plan as what JSON knows, with what it was asked for."""
        return {**self._value, "asked": self._asked.to_dict()}

    @classmethod
    def from_dict(cls, site: SiteBase, value: Mapping[str, Any]) -> PrunePlan:
        """A plan that :meth:`to_dict` had saved. Running it deletes what a plan made then would delete too."""
        from ._site_base import SiteBase

        if not isinstance(site, SiteBase):
            raise wrong("site", "a Site", site, "restore.PrunePlan.from_dict(site, saved)")
        try:
            saved = dict(value)
            # Plans of versions that did not know of these have no such keys.
            none = dict.fromkeys(("keep_daily", "keep_weekly", "keep_monthly"))
            asked = Pruning.from_dict({**none, **saved.pop("asked")})
            plan = cls(site, asked, saved)
            _ = plan.store, plan.place, plan.bytes, plan.keep
        except (KeyError, TypeError, ValueError) as error:
            raise wrong("value", "what PrunePlan.to_dict() gave", value) from error
        for name, count in asked.to_dict().items():
            number(name, count, 2**63)
        return plan

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrunePlan) and self._value == other._value

    def __hash__(self) -> int:
        return hash((self.store, len(self.delete), len(self.keep)))

    def _repr_html_(self) -> str:
        deleted, kept = _html.values(self.delete), _html.values(self.keep)
        return f"<div><p><b>to delete</b></p>{deleted}<p><b>to keep</b></p>{kept}</div>"

    def __repr__(self) -> str:
        return f"<restore.PrunePlan of {self.place}: {len(self.delete)} of {len(self.delete) + len(self.keep)}>"

    def __str__(self) -> str:
        lines = [f"Prune {self.place}: delete {len(self.delete)}, freeing {_html.size(self.bytes)}"]
        lines += [f"  delete {it.id}  {_html.size(it.bytes)}  {it.why}" for it in self.delete]
        lines += [f"  keep   {it.id}  {_html.size(it.bytes)}  {it.why}" for it in self.keep]
        return "\n".join(lines)


def whole_seconds(age: Optional[timedelta]) -> Optional[int]:
    """An age as the native half takes it."""
    if age is None:
        return None
    if not isinstance(age, timedelta) or age < timedelta(0):
        raise wrong("older_than", "a timedelta of 0 or more", age, "datetime.timedelta(days=30)")
    return int(age.total_seconds())


def _all(values: list[dict[str, Any]]) -> tuple[Pruned, ...]:
    return tuple(decode(Pruned, value) for value in values)
