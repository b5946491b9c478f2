"""What is in a backup's artifacts, and what was brought out of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional, Union, overload

from . import _html
from ._base import Value
from ._decode import decode
from ._errors import RestoreError
from ._values import Finding


@dataclass(frozen=True, repr=False)
class BackupMember(Value):
    """One thing in an artifact: a member of an archive, a table of a dump, or the artifact itself.
    Names that are not UTF-8 have U+FFFD in the place of what is not."""

    artifact: str
    """The artifact, by its path in the backup."""
    component: Optional[str]
    """The component that it is restored by."""
    path: Optional[str]
    """What names it in :meth:`Site.get`; ``None`` where it is no file that is restored."""
    name: str
    """Its name in the artifact; of a table with its schema."""
    kind: str
    """``file``, ``directory``, ``symlink``, ``hard_link``, ``fifo``, ``device``, ``other``, ``table``
    or ``artifact``."""
    size: Optional[int]
    """Bytes of a file, or of the artifact."""
    target: Optional[str]
    """What a link leads to."""
    mode: Optional[int]
    owner: Optional[tuple[int, ...]]
    """The recorded numbers of its user and group."""
    modified: Optional[datetime]
    rows: Optional[int]
    """Rows of a table, where the dump or its description tells."""


class Members(Sequence[BackupMember]):
    """What is in a backup's artifacts. Each was read to its end; :attr:`error` says whether one of them
    is not what was backed up, of which nothing can be believed then."""

    __slots__ = ("_members", "error", "findings", "total")

    def __init__(self, members: list[BackupMember], report: dict[str, Any]) -> None:
        self._members = members
        self.total: int = report["total"]
        """How many there are, those that were not asked for included."""
        self.findings: tuple[Finding, ...] = tuple(decode(Finding, finding) for finding in report["findings"])
        self.error: Optional[RestoreError] = None

    @classmethod
    def _of(
        cls, answer: tuple[list[dict[str, Any]], dict[str, Any], Optional[RestoreError]]
    ) -> Members:
        values, report, error = answer
        members = cls([decode(BackupMember, value) for value in values], report)
        members.error = error
        return members

    def raise_if_failed(self) -> Members:
        """Itself, where all that was read is what was backed up."""
        if self.error is not None:
            raise self.error
        return self

    @overload
    def __getitem__(self, at: int) -> BackupMember: ...
    @overload
    def __getitem__(self, at: slice) -> list[BackupMember]: ...
    def __getitem__(self, at: Union[int, slice]) -> Union[BackupMember, list[BackupMember]]:
        return self._members[at]

    def __iter__(self) -> Iterator[BackupMember]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _repr_html_(self) -> str:
        return _html.values(self._members)

    def __repr__(self) -> str:
        return f"<restore.Members: {len(self)} of {self.total}>"


@dataclass(frozen=True, repr=False)
class Gotten(Value):
    """What was taken from one artifact."""

    artifact: str
    component: Optional[str]
    """The component whose tree it is; ``None``: the artifact itself was taken."""
    paths: tuple[str, ...]
    """The paths below what that restores; empty: all of it."""
    at: str
    """Where in the directory it is."""


@dataclass(frozen=True, repr=False)
class GetReport(Value):
    """What bringing files out of a backup came to."""

    backup: str
    to: Path
    """The directory that has them."""
    taken: tuple[Gotten, ...]
    files: int
    directories: int
    links: int
    bytes: int
    verified: bool
    """Whether all of it was compared with its checksum."""
    findings: tuple[Finding, ...]

    @classmethod
    def _of(cls, value: dict[str, Any]) -> GetReport:
        return decode(cls, value)

    def __str__(self) -> str:
        return f"{self.files} files, {_html.size(self.bytes)} in {self.to}"
