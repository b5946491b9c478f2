"""Values that need no site: findings, checks, manifests, what verification found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Optional

from ._base import Hinted, Value
from ._decode import decode
from ._errors import RestoreError

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, repr=False)
class Finding(Hinted):
    """One thing that an inspection noticed."""

    severity: Severity
    """An ``error`` stops a run before anything is touched."""
    code: str
    """Stable, ``area.what``."""
    subject: str
    """The file, component, service or check that it is about."""
    message: str
    """What is so, and why it matters, in one line."""
    hint: Optional[str] = None
    """The next step, where there is one."""
    kind: Optional[str] = None
    """The kind of the error that it was, where that is known: ``verification`` where the backup is at fault."""
    asks: bool = False
    """Whether a run goes on only where somebody agrees: ``allow_empty`` of :meth:`Site.plan` does."""

    def __str__(self) -> str:
        return f"{self.severity}: {self.subject}: {self.message}"


@dataclass(frozen=True, repr=False)
class CheckOutcome(Value):
    """One check's outcome; true where it passed."""

    name: str
    passed: bool
    detail: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'FAILED'} {self.name}: {self.detail}"


@dataclass(frozen=True, repr=False)
class BackupFile(Value):
    """One file of a backup."""

    path: str
    """Relative to the backup's folder."""
    size: int
    """In bytes."""


@dataclass(frozen=True, repr=False)
class MissingComponent(Value):
    """A component that a backup is without."""

    name: str
    reason: str


@dataclass(frozen=True, repr=False)
class ManifestEntry(Value):
    """One file line of a manifest."""

    path: str
    size: Optional[int]
    """In bytes; ``None`` where the line gives only rounded text."""
    size_text: str
    """The size as it is written."""
    sha256: str


@dataclass(frozen=True, repr=False)
class Manifest(Value):
    """What ``MANIFEST.txt`` says."""

    header: dict[str, str]
    """Its ``Key: value`` lines, those of the summary included; the first of several."""
    entries: tuple[ManifestEntry, ...]
    """Its file lines, in order."""
    truncated: bool
    """It ends too early: files may be missing from the list."""

    @classmethod
    def _of(cls, value: dict[str, Any]) -> Manifest:
        header: dict[str, str] = {}
        for key, text in [*value["header"], *value.get("summary", [])]:
            header.setdefault(key, text)
        entries = tuple(_entry(entry) for entry in value["entries"])
        return cls(header, entries, value.get("truncated", False))


def _entry(value: dict[str, Any]) -> ManifestEntry:
    (unit, size), = value["size"].items()
    exact = size if unit == "bytes" else None
    return ManifestEntry(value["path"], exact, str(size), value["sha256"])


Verdict = Literal["verified", "unverifiable", "failed", "unfinished"]


@dataclass(frozen=True, repr=False)
class FileStatus(Value):
    """What verification says of one file."""

    path: str
    status: str
    """``verified``, ``missing``, ``short``, ``long``, ``changed``, ``unlisted``,
    ``unverifiable`` or ``unreadable``."""
    details: dict[str, Any]
    """What goes with it: ``expected`` and ``found`` bytes, a ``reason``."""


@dataclass(frozen=True, repr=False)
class Verification(Value):
    """What reading a backup through has shown. Nothing of it is an exception: see
    :meth:`raise_if_failed`."""

    backup: str
    verdict: Verdict
    deep: bool
    """Whether deep verification was asked for."""
    deeply_verified: bool
    """Whether every file was read to its end as what it is, and is sound."""
    bytes: int
    """Bytes read; deep verification reads a file twice."""
    files: tuple[FileStatus, ...]
    findings: tuple[Finding, ...]
    error: Optional[RestoreError] = field(default=None, compare=False)
    """The exception of a backup that failed or was never finished."""

    def __bool__(self) -> bool:
        """Whether nothing is wrong with the backup. Of ``unverifiable`` the verdict tells more."""
        return self.error is None

    def raise_if_failed(self) -> Verification:
        """Itself, where the verdict is ``verified`` or ``unverifiable``."""
        if self.error is not None:
            raise self.error
        return self

    @classmethod
    def _of(cls, answer: tuple[dict[str, Any], Optional[RestoreError]]) -> Verification:
        value, error = answer
        files = tuple(_status(file["path"], file["status"]) for file in value["files"])
        return cls(
            backup=value["backup"],
            verdict=value["verdict"],
            deep=value["deep"],
            deeply_verified=value["deeply_verified"],
            bytes=value["bytes"],
            files=files,
            findings=tuple(decode(Finding, finding) for finding in value["findings"]),
            error=error,
        )


def _status(path: str, status: Any) -> FileStatus:
    if isinstance(status, str):
        return FileStatus(path, status, {})
    (name, details), = status.items()
    return FileStatus(path, name, details)


BackupKind = Literal[
    "full", "partial", "safety", "unfinished", "packed", "damaged", "unreadable"
]


@dataclass(frozen=True, repr=False)
class ListedBackup(Value):
    """A backup in a listing, of which no artifact was read."""

    id: str
    store: str
    """The name of the store that it is in."""
    kind: BackupKind = "full"
    """``full``: it has something for every component of the site; ``latest`` is the newest of
    these. ``packed``: one file, unpacked when it is fetched."""
    lacking: tuple[str, ...] = ()
    """The site's components that it has nothing for."""
    bytes: Optional[int] = None
    """Of its files, or of the packed file; ``None`` where it does not open."""
    created: Optional[str] = None
    """When it was made, as its manifest says it."""
    problem: Optional[str] = None
    """Why it does not open, or what verification would call wrong of it."""
    components: tuple[str, ...] = ()
    """The site's components that it has something for; empty where that is not known before it is
    unpacked."""
    recovery: tuple[str, ...] = ()
    """Those of them that are recovered from it to a moment: ``site.recoverable(id)`` says from when to
    when."""

    @classmethod
    def _of(cls, value: dict[str, Any]) -> ListedBackup:
        summary = value["summary"] or {}
        packed = value.get("packed") or {}
        return cls(
            id=value["id"],
            store=value["store"],
            kind=value["kind"],
            lacking=tuple(value["lacking"]),
            bytes=summary.get("bytes", packed.get("size")),
            created=summary.get("created"),
            problem=value["problem"],
            components=tuple(value["components"]),
            recovery=tuple(value["recovery"]),
        )


@dataclass(frozen=True, repr=False)
class WalGap(Value):
    """Segments that an archive lacks although it has later ones."""

    first: str
    """The first missing file."""
    last: str
    """The last missing file."""
    segments: int
    """How many there are."""


@dataclass(frozen=True, repr=False)
class Recoverable(Value):
    """From when to when a database cluster can be recovered from a backup."""

    component: str
    """The component that is recovered from it."""
    from_: datetime
    """The earliest time: when the base backup ended."""
    from_lsn: str
    """The place in the log where it ended."""
    until: Optional[datetime]
    """The last transaction that the archive has; ``None``: there was none since the base backup."""
    until_lsn: str
    """Where the archive's last record that can be reached ends."""
    timeline: int
    """The timeline that is followed."""
    segments: int
    """Segments to replay up to the end."""
    archive: Optional[str]
    """Where the archive is; ``None``: the component names none, and only the end of the base backup can
    be recovered."""
    holes: tuple[WalGap, ...]
    """What the archive lacks; nothing behind the first of them can be reached."""
    needs_timeline: Optional[str] = None
    """Why it is reached only by whoever names the timeline; ``None``: none must be named."""

    @classmethod
    def _of(cls, value: dict[str, Any]) -> Recoverable:
        return decode(cls, {"from_": value["from"], **value})


@dataclass(frozen=True, repr=False)
class BackupRecovery(Value):
    """What can be recovered to a moment from a backup; true where anything can."""

    ranges: tuple[Recoverable, ...]
    """One for each database cluster that the backup has a base backup of."""
    findings: tuple[Finding, ...]
    """Why that cannot be told of a cluster."""

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @classmethod
    def _of(cls, answer: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> BackupRecovery:
        ranges, findings = answer
        return cls(
            tuple(Recoverable._of(value) for value in ranges),
            tuple(decode(Finding, value) for value in findings),
        )


def local_time(stamp: str) -> datetime:
    """The moment that a backup's id names, taken for this host's local time."""
    return datetime.strptime(stamp, "%Y%m%d-%H%M%S").astimezone()
