"""Parts of a site written in Python: what they have in common, and checks, stores, hooks and maintenance modes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Optional

from ._decode import decode, moment
from ._errors import ConfigError, NotFoundError, PreflightError
from ._report import Failure, Report
from ._store import BackupReport
from ._values import BackupFile, CheckOutcome, Finding

HookMoment = Literal["before-stop", "after-swap", "after-start", "on-success", "on-failure"]
HookSubject = Literal["run", "drill", "backup"]


class Part(ABC):
    """What the configuration describes by a ``kind``: made with its section, and asked on threads of the
    library's, never on an event loop. Other threads run meanwhile."""

    kind: ClassVar[str]
    """As written in the configuration."""
    name: str
    """The name that the site gives it."""
    base: Path
    """The directory that relative paths are taken from."""

    def __init__(self, name: str, options: Mapping[str, Any], base: Path) -> None:
        """``options``: the table of the configuration, without ``kind``. ``base``: the directory
        that relative paths are taken from. Classes that know options take them out of ``options``
        before they pass on the rest, which must then be empty."""
        self.name = name
        self.base = base
        if options:
            unknown = ", ".join(f"`{key}`" for key in options)
            raise ConfigError(f"unknown key {unknown}", code="config.unknown_key")


class Check(Part):
    """A proof that something works: made before a run, and after it, when a failure turns the run back.

    Give the class to :meth:`restore.Site.open` as one of ``checks``; a ``[checks.NAME]`` of its ``kind`` then
    makes one. The library itself reads the keys ``when`` (``"before-traffic"``, behind the maintenance page, or
    ``"after-traffic"``) and ``timeout`` (``"30s"``), as of checks of its own.

    After a run the check is made again and again until it passes or the timeout is over; then nobody waits for
    it any more. A call that hangs holds a thread until it ends: give what it asks a timeout of its own.
    """

    @abstractmethod
    def run(self, since: Optional[datetime]) -> CheckOutcome:
        """Makes it once: ``return self.outcome(passed, "what was seen, in one line")``. ``since``: when
        the services were started; ``None`` where only the present is asked for. Changes nothing. An
        exception is a check that has failed."""

    def outcome(self, passed: bool, detail: str) -> CheckOutcome:
        """What :meth:`run` gives."""
        return CheckOutcome(self.name, passed, detail)

    def _restore_run(self, since: Optional[str]) -> tuple[bool, str]:
        found = self.run(None if since is None else moment(since))
        if not isinstance(found, CheckOutcome):
            raise misfit(self, "run", found, "a CheckOutcome")
        return bool(found.passed), str(found.detail)


class Store(Part):
    """Where backups are: they are listed, read and fetched from it, and made in it where the class has ``create``,
    ``write``, ``publish`` and ``remove`` too.

    Give the class to :meth:`restore.Site.open` as one of ``stores``; a ``[stores.NAME]`` of its ``kind`` then
    makes one. The library itself reads the keys that every store has: passphrases and signatures.

    A backup of a store whose files are not on this host is brought into one that is
    (:meth:`~restore.Site.bring`) before it is restored; whatever comes out of a store is verified by the
    backup's manifest. Every answer describes what is there now. Methods may be called by several threads at
    once. An exception is a failure: a :class:`~restore.RestoreError` keeps its code and hint, and one with
    ``retryable=True`` is tried again where a backup is fetched.
    """

    def describe(self) -> str:
        """A few words for people, with the place: ``years in /srv/backups``. Asked once."""
        return f"{self.kind} {self.name}"

    @abstractmethod
    def ids(self) -> Iterable[str]:
        """The ids of all backups, as ``20240215-020000``; names of another form are left out. Without any it
        is empty; where the place cannot be reached or is not there, it raises."""

    @abstractmethod
    def files(self, id: str) -> Iterable[BackupFile]:
        """Every file of a backup, its ``MANIFEST.txt`` too, with its exact size; paths are relative to the
        backup's folder. A ``LookupError`` or a ``FileNotFoundError`` says that there is no such backup."""

    @abstractmethod
    def read(self, id: str, path: str, offset: int) -> BinaryIO:
        """One of these files from ``offset`` on, as a binary file that is read to its end, and closed. It is
        read by one thread at a time, not always the same."""

    def local_path(self, id: str, path: str) -> Optional[Path]:
        """Where this host can read the file itself, in a place that nobody else may write to; ``None`` where
        the store is elsewhere. Asked often; what it raises counts as ``None``."""
        return None

    def create(self, id: str) -> None:
        """Begins a backup of that id, which has no manifest before ``publish``. A ``FileExistsError`` says that
        there is one, finished or not."""
        raise self._read_only()

    def write(self, id: str, path: str, private: bool) -> BinaryIO:
        """A new file of a backup that was begun; folders on the way are made. ``private``: only its owner may
        read it. Its ``close`` returns once it is durable; one that is never closed need not be there."""
        raise self._read_only()

    def publish(self, id: str, manifest: str) -> None:
        """Puts a backup's ``MANIFEST.txt`` in place, durable, and at once: it is finished then."""
        raise self._read_only()

    def remove(self, id: str) -> None:
        """Deletes a backup, finished or not: its ``MANIFEST.txt`` first, so that what is left by a process that
        was killed is unfinished."""
        raise self._read_only()

    def _read_only(self) -> PreflightError:
        return PreflightError(
            f"backups in {self.describe()} can only be read",
            code="store.read_only",
            hint="name another store",
        )

    def _restore_writable(self) -> None:
        if type(self).create is Store.create:
            raise self._read_only()

    def _restore_create(self, id: str) -> None:
        try:
            self.create(id)
        except FileExistsError as error:
            raise PreflightError(
                f"there is a backup {id} already in {self.describe()}",
                code="backup.exists",
                hint="a backup is never written over: try again in a moment",
            ) from error

    def _restore_write(self, id: str, path: str, private: bool) -> BinaryIO:
        found = self.write(id, path, private)
        if not callable(getattr(found, "write", None)):
            raise misfit(self, "write", found, "a binary file")
        return found

    def _restore_describe(self) -> str:
        found = self.describe()
        if not isinstance(found, str):
            raise misfit(self, "describe", found, "a text")
        return found

    def _restore_ids(self) -> list[str]:
        found = self.ids()
        if isinstance(found, str) or not isinstance(found, Iterable):
            raise misfit(self, "ids", found, "the ids of backups, in a list")
        listed = [*found]
        for id in listed:
            if not isinstance(id, str):
                raise misfit(self, "ids", id, "the ids of backups, in a list")
        return listed

    def _restore_files(self, id: str) -> list[tuple[str, int]]:
        try:
            found = self.files(id)
            if not isinstance(found, Iterable):
                raise misfit(self, "files", found, "an iterable of BackupFile")
            files = [*found]
        except NotFoundError:
            raise
        except (LookupError, FileNotFoundError) as error:
            raise NotFoundError(
                f"there is no backup {id} in {self.describe()}", code="store.no_such_backup"
            ) from error
        for file in files:
            if not isinstance(file, BackupFile):
                raise misfit(self, "files", file, "an iterable of BackupFile")
        return [(file.path, file.size) for file in files]

    def _restore_read(self, id: str, path: str, offset: int) -> BinaryIO:
        found = self.read(id, path, offset)
        if not callable(getattr(found, "read", None)):
            raise misfit(self, "read", found, "a binary file")
        return found

    def _restore_local_path(self, id: str, path: str) -> Optional[Path]:
        return self.local_path(id, path)


@dataclass(frozen=True)
class HookNotice:
    """What a hook is told. No secrets."""

    text: str
    """One line for people."""
    site: str
    """The site's name."""
    hook: str
    """The hook's name."""
    when: HookMoment
    subject: HookSubject
    report: Optional[Report] = None
    """What is known of the run, or the drill, so far."""
    backup: Optional[BackupReport] = None
    """The backup that was made."""
    error: Optional[Failure] = None
    """Why it did not end as asked."""
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """All of it as the JSON document that a command reads and a webhook gets."""

    @classmethod
    def _of(cls, value: dict[str, Any]) -> HookNotice:
        report, backup, error = value.get("report"), value.get("backup"), value.get("error")
        return cls(
            text=value["text"],
            site=value["site"],
            hook=value["hook"],
            when=value["when"],
            subject=value["subject"],
            report=None if report is None else Report.from_dict(report),
            backup=None if backup is None else BackupReport._of(backup),
            error=None if error is None else decode(Failure, error),
            document=value,
        )


class Hook(Part):
    """What is done, or told, at a moment of a run, a drill or a backup.

    Give the class to :meth:`restore.Site.open` as one of ``hooks``; a ``[hooks.NAME]`` of its ``kind`` then
    makes one. The library itself reads the keys ``when``, ``for`` and ``timeout``, as of hooks of its own.
    """

    @abstractmethod
    def call(self, notice: HookNotice) -> None:
        """Does what it is for. It may be called again where the process died in it. An exception is a failure,
        which before the end of a run turns it back, and its words are told: no secrets. After the timeout nobody
        waits for it any more, and what it goes on doing is on its own account."""

    def _restore_call(self, notice: dict[str, Any]) -> None:
        self.call(HookNotice._of(notice))


class Maintenance(Part):
    """How users are turned away while the data is swapped.

    Give the class to :meth:`restore.Site.open` as one of ``maintenance``; a ``[maintenance]`` of its ``kind``
    then makes one, named ``maintenance``. ``on`` and ``off`` may be called again, by another process too, after
    having been killed anywhere: each looks at what is there and finishes it.
    """

    def inspect(self) -> Iterable[Finding]:
        """What speaks against turning it on; changes nothing. An error stops a run before anything is touched."""
        return ()

    @abstractmethod
    def on(self, run: str, since: datetime) -> None:
        """Turns users away, and returns once that is proven from outside. ``since`` is for the page. Where it
        raises, nothing of it is left, and users are served as before."""

    @abstractmethod
    def off(self, run: str) -> None:
        """Lets users in again, and returns once that is proven. Where they are let in, it does nothing."""

    def _restore_inspect(self) -> list[dict[str, Any]]:
        found = self.inspect()
        if not isinstance(found, Iterable):
            raise misfit(self, "inspect", found, "an iterable of Finding")
        findings = [*found]
        for finding in findings:
            if not isinstance(finding, Finding):
                raise misfit(self, "inspect", finding, "an iterable of Finding")
        return [asdict(finding) for finding in findings]

    def _restore_on(self, run: str, since: str) -> None:
        self.on(run, moment(since))


def misfit(part: Part, method: str, found: object, wanted: str) -> ConfigError:
    """The exception of a method that returned what it may not."""
    of = next(base for base in type(part).__mro__ if base.__module__ == __name__)
    return ConfigError(
        f"{method}() returned {found!r}, not {wanted}",
        code="part.bad_answer",
        hint=f"see help(restore.{of.__name__}.{method})",
    )
