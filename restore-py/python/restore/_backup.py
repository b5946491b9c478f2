"""A backup, and the backups of a site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from . import _html, _restore
from ._arguments import flags, number, text
from ._errors import ConfigError, NotFoundError
from ._run import Run
from ._task import OnEvent, OnEventAsync, long
from ._values import BackupFile, ListedBackup, Manifest, Verification, local_time

if TYPE_CHECKING:
    from ._site_base import SiteBase

LATEST = "latest"


class Backup:
    """A backup that was opened: what is in it, and what its manifest says. No artifact was read."""

    __slots__ = ("_native", "_value")

    def __init__(self, native: _restore.Backup) -> None:
        self._native = native
        self._value: dict[str, Any] = native.describe()

    @property
    def id(self) -> str:
        """Its id, ``20240215-020000``."""
        return self._native.id

    @property
    def store(self) -> str:
        """Where it is, in words."""
        return self._native.store

    @property
    def taken(self) -> datetime:
        """The moment that its id names, taken for this host's local time."""
        return local_time(self.id.removeprefix("pre-restore-"))

    @property
    def is_safety(self) -> bool:
        """Whether it was taken before a restore."""
        return bool(self._value["summary"]["safety"])

    @property
    def generation(self) -> str:
        """``a``: with checksums; ``b``: without; ``unfinished``."""
        return str(self._value["summary"]["generation"])

    @property
    def size(self) -> int:
        """Bytes of its files, without the manifest."""
        return int(self._value["summary"]["bytes"])

    @property
    def files(self) -> tuple[BackupFile, ...]:
        """Every file that is really there."""
        return tuple(BackupFile(**file) for file in self._value["files"])

    @property
    def manifest(self) -> Optional[Manifest]:
        """What its ``MANIFEST.txt`` says; ``None`` where it has none."""
        value = self._value["manifest"]
        return None if value is None else Manifest._of(value)

    def local_path(self, path: str) -> Optional[Path]:
        """Where this host can read a file of the backup itself."""
        return self._native.local_path(text("path", path))

    def find(self, *patterns: str) -> list[str]:
        """The files of the first pattern that fits any (``{id}`` for the backup's id, ``*`` for
        anything but ``/``)."""
        return self._native.find([text("patterns", pattern) for pattern in patterns])

    @long
    def _verify(self, *, deep: bool = False, jobs: int = 0) -> Run[Verification]:
        """Compares every file with the manifest; ``deep``: also reads each to its end as what it
        is. What is wrong with the backup is in the result, and no exception. ``jobs``: how many
        files at the same time; 0 for one a core."""
        (whole,) = flags(deep=deep)
        task = self._native.verify(whole, number("jobs", jobs, 1024))
        return Run(task.then(Verification._of))

    # --- written by scripts/python-calls.py from what is marked above -----------------------

    def verify(
        self, *, deep: bool = False, jobs: int = 0, on_event: Optional[OnEvent] = None
    ) -> Verification:
        """Compares every file with the manifest; ``deep``: also reads each to its end as what it
        is. What is wrong with the backup is in the result, and no exception. ``jobs``: how many
        files at the same time; 0 for one a core."""
        return self._verify(deep=deep, jobs=jobs)._wait(on_event)

    async def verify_async(
        self, *, deep: bool = False, jobs: int = 0, on_event: Optional[OnEventAsync] = None
    ) -> Verification:
        """Compares every file with the manifest; ``deep``: also reads each to its end as what it
        is. What is wrong with the backup is in the result, and no exception. ``jobs``: how many
        files at the same time; 0 for one a core."""
        return await self._verify(deep=deep, jobs=jobs)._drive(on_event)

    def start_verify(self, *, deep: bool = False, jobs: int = 0) -> Run[Verification]:
        """Compares every file with the manifest; ``deep``: also reads each to its end as what it
        is. What is wrong with the backup is in the result, and no exception. ``jobs``: how many
        files at the same time; 0 for one a core."""
        return self._verify(deep=deep, jobs=jobs).start()

    # --- end of what is written by scripts/python-calls.py from what is marked above -----------------------

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Backup) and (self.id, self.store) == (other.id, other.store)
        return same and self._value == getattr(other, "_value", None)

    def __hash__(self) -> int:
        return hash((self.id, self.store))

    def _repr_html_(self) -> str:
        head = f"<p><b>Backup {_html.escape(self.id)}</b> in {_html.escape(self.store)}</p>"
        return f"<div>{head}{_html.values(self.files)}</div>"

    def __repr__(self) -> str:
        what = f"{len(self.files)} files, {_html.size(self.size)}"
        return f"<restore.Backup {self.id}: {what} in {self.store}>"


class Backups(Mapping[str, Backup]):
    """The backups that were there when it was made, oldest first, by their ids.

    ``["latest"]`` is the newest full one. Opening one reads its manifest. Packed ones are in
    :attr:`listed` alone: ``site.fetch`` unpacks them.
    """

    def __init__(self, site: SiteBase, listed: Sequence[ListedBackup]) -> None:
        self._site = site
        self._ids = list(dict.fromkeys(item.id for item in listed if item.kind != "packed"))
        self.listed: tuple[ListedBackup, ...] = tuple(listed)
        """Every backup of every store: one that several hold is listed for each."""

    def __getitem__(self, id: str) -> Backup:
        try:
            return self._site._backup(id)._wait()
        except ConfigError as error:
            # What is not even an id names no backup.
            raise NotFoundError(str(error), code=error.code, hint=error.hint) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        if id != LATEST:
            return id in self._ids
        try:
            self._site._backup(LATEST)._wait()
        except NotFoundError:
            return False
        return True

    def _repr_html_(self) -> str:
        return _html.values(self.listed)

    def __repr__(self) -> str:
        return f"<restore.Backups of {self._site.name}: {', '.join(self._ids) or 'none'}>"
