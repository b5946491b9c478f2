"""Components written in Python: they take part in a run like those of the library."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Optional, Union

from . import _restore
from ._arguments import flags, number, path, text
from ._backup import Backup
from ._errors import ConfigError, PreflightError
from ._parts import Part
from ._values import CheckOutcome, Finding

Pathname = Union[str, "os.PathLike[str]"]
_MOST = 2**64 - 1


@dataclass
class Need:
    """Room that staging needs."""

    path: Pathname
    """A directory on the file system that needs it."""
    bytes: int
    inodes: int = 1

    def _raw(self) -> dict[str, Any]:
        there, device = os.statvfs(self.path), os.stat(self.path).st_dev
        space = {
            "free_bytes": there.f_bavail * there.f_frsize,
            "free_inodes": there.f_favail if there.f_files else 2**63,
            # As the library names it: what other components need there is added.
            "file_system": f"device {os.major(device)}:{os.minor(device)}",
        }
        return {"space": space, "bytes": self.bytes, "inodes": self.inodes}


@dataclass
class Inspection:
    """What a component found out before a run, without writing anything."""

    artifacts: list[str] = field(default_factory=list)
    """The backup's files that it would use."""
    summary: str = ""
    """What would be replaced, in a few words."""
    staged_at: str = ""
    """Where the staged data will lie, for people."""
    read_bytes: int = 0
    """Bytes to read from the backup."""
    needs: list[Need] = field(default_factory=list)
    """Room needed beside the live data."""
    findings: list[Finding] = field(default_factory=list)
    """What it noticed. An error stops the run before anything is touched."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts about the live side worth showing."""

    def _raw(self) -> dict[str, Any]:
        raw = dict(vars(self))
        raw["needs"] = [need._raw() for need in self.needs]
        raw["findings"] = [asdict(finding) for finding in self.findings]
        return raw


@dataclass
class Staged:
    """What staging produced."""

    bytes: int = 0
    """Bytes written beside the live data."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts for the report: tables, rows, documents. ``check`` is not given them: what it is to
    compare, ``stage`` also gives to ``cx.record``."""
    findings: list[Finding] = field(default_factory=list)
    """Things the report must say."""

    def _raw(self) -> dict[str, Any]:
        return {**vars(self), "findings": [asdict(finding) for finding in self.findings]}


@dataclass
class BackedUp:
    """What backing up came to, besides the artifacts."""

    facts: dict[str, Any] = field(default_factory=dict)
    """Facts about the live side to compare with after a restore: versions, documents."""
    findings: list[Finding] = field(default_factory=list)
    """What a person must know of it."""

    def _raw(self) -> dict[str, Any]:
        return {**vars(self), "findings": [asdict(finding) for finding in self.findings]}


class BackupContext:
    """What a component backs itself up with. Its methods block, and let other threads run
    meanwhile."""

    __slots__ = ("_native",)

    def __init__(self, native: _restore.BackupContext) -> None:
        self._native = native

    @property
    def id(self) -> str:
        """The backup's id."""
        return self._native.id

    @property
    def component(self) -> str:
        """The name of the component that writes."""
        return self._native.component

    @property
    def cancelled(self) -> bool:
        """Whether the backup is to stop."""
        return self._native.cancelled

    def check_cancelled(self) -> None:
        """Raises a :class:`~restore.StoppedError` once the backup is to stop."""
        self._native.check_cancelled()

    def progress(self, action: str, total: Optional[int] = None) -> _restore.Progress:
        """Progress of doing ``action`` (a verb): ``add`` bytes to it, and ``finish`` it."""
        return self._native.progress(text("action", action), number("total", total, _MOST))

    def name(self, *patterns: str) -> str:
        """The artifact's name: the first of the patterns without a ``*``, with the backup's id for
        ``{id}``. Give it the patterns that ``artifacts`` finds."""
        return self._native.name([text("patterns", pattern) for pattern in patterns])

    def copy(self, source: Pathname, artifact: str) -> int:
        """Copies a file of this host into the backup, compressed where ``artifact`` ends in
        ``.gz`` or ``.zst``; hashed in the same pass, durable once this returns. Gives the
        artifact's bytes. Nobody may write to ``source`` meanwhile: where somebody may, make a
        snapshot first and copy that; it is yours to delete, also what a killed process has left."""
        return self._native.copy(path("source", source), text("artifact", artifact))

    def write(self, artifact: str, content: Union[bytes, str], *, private: bool = False) -> None:
        """Writes a small artifact; ``private``: readable by nobody else, as there are passwords
        in it."""
        data = content.encode() if isinstance(content, str) else bytes(content)
        (kept,) = flags(private=private)
        self._native.write(text("artifact", artifact), data, kept)


class RunContext:
    """What a component is given while it works for a run. Its methods block, and let other
    threads run meanwhile."""

    __slots__ = ("_native",)

    def __init__(self, native: _restore.RunContext) -> None:
        self._native = native

    @property
    def run(self) -> str:
        """The run's id: digits, ``a`` to ``f`` and ``-``, safe in file names."""
        return self._native.run

    @property
    def component(self) -> str:
        """The name of the component that works."""
        return self._native.component

    @property
    def backup(self) -> Backup:
        """The backup to restore from. While undoing and discarding, only its id is known."""
        return Backup(self._native.backup)

    @property
    def paths(self) -> list[str]:
        """The only paths to restore; empty: everything."""
        return self._native.paths

    @property
    def maintenance(self) -> bool:
        """Whether the maintenance page is up during the cut-over."""
        return self._native.maintenance

    @property
    def cancelled(self) -> bool:
        """Whether the run is to stop."""
        return self._native.cancelled

    def check_cancelled(self) -> None:
        """Raises a :class:`~restore.StoppedError` once the run is to stop. A ``stage`` that works
        for long calls it often."""
        self._native.check_cancelled()

    def record(self, key: str, value: object) -> None:
        """Keeps a fact that the next act destroys, or that a later method needs; durable once this
        returns. ``value`` is anything that JSON knows. The first value given for a key is kept, for
        the whole run: another one changes nothing. No secrets."""
        self._native.record(key, value)

    def recall(self, key: str) -> Any:
        """A fact kept by this run, in this process or an earlier one; else ``None``."""
        return self._native.recall(key)

    def notice(self, finding: Finding) -> None:
        """Tells whoever watches of something noticed."""
        self._native.notice(asdict(finding))

    def progress(self, action: str, total: Optional[int] = None) -> _restore.Progress:
        """Progress of doing ``action`` (a verb): ``add`` bytes to it, and ``finish`` it."""
        return self._native.progress(text("action", action), number("total", total, _MOST))

    def copy(self, artifact: str, target: Pathname, *, mode: int = 0o600) -> int:
        """Copies a file of the backup to ``target``, which must not exist; decompressed where it
        is gzip or Zstandard. Verified in the same pass, durable once this returns; on any error
        there is no ``target``. Gives the bytes written."""
        permissions = number("mode", mode, 0o7777)
        return self._native.copy(text("artifact", artifact), path("target", target), permissions)

    def unpack(
        self, artifact: str, target: Pathname, *, prefix: str = "", live: Optional[Pathname] = None
    ) -> dict[str, Any]:
        """Unpacks a tar archive of the backup into ``target``, a new empty directory; only the
        members below ``prefix``. Verified in the same pass. Members that reach out are refused;
        links may lead to places below ``live``, where the tree will live. Gives counts."""
        live = target if live is None else live
        below = text("prefix", prefix)
        places = path("target", target), path("live", live)
        return self._native.unpack(text("artifact", artifact), places[0], below, places[1])


class Component(Part):
    """One restorable part of a platform.

    Give the class to :meth:`restore.Site.open`; a ``[components.NAME]`` of its ``kind`` then makes
    one. ``stage``, ``cut_over``, ``undo`` and ``discard`` are idempotent and look before they
    act: given ``cx.run`` and what is really there, each tells whether its work is done, wholly,
    partly or not at all, and finishes it. The process may be killed at any moment inside any of
    them; the same method, or ``undo``, is then called by a new process with the same run. A fact
    that the act destroys is given to ``cx.record`` before the act. What one method finds out and a
    later one needs goes the same way, not into ``self``: the later one may be called in another
    process.

    In a run, ``undo`` is the end of the way forward: ``undo`` again or ``discard`` follow it, never
    ``stage`` or ``cut_over``. Restoring once more is another run, with another ``cx.run``.

    Methods are called on threads of the library's, one at a time for each run. An exception is a
    failure: the run undoes itself. A :class:`~restore.RestoreError` keeps its code and hint.
    """

    def stops(self) -> Iterable[str]:
        """The services that must be down while it cuts over or undoes: the run stops them before
        and starts them after. Asked once. A plan is refused (:class:`~restore.ConfigError`) where
        the site has no service of such a name. By convention, what the option ``stops`` lists."""
        return ()

    def needs(self) -> Iterable[str]:
        """The services that must run for ``stage``, ``cut_over`` and ``undo``. Asked once."""
        return ()

    def path_prefix(self) -> Optional[str]:
        """The path below which single paths can be restored; ``None``: only the whole can be."""
        return None

    @abstractmethod
    def artifacts(self, backup: Backup) -> Iterable[str]:
        """The backup's files that it would use, by name only; empty where it has none."""

    def live_bytes(self) -> int:
        """About how many bytes ``back_up`` would read; 0 where nobody knows."""
        return 0

    def back_up(self, cx: BackupContext) -> Optional[BackedUp]:
        """Writes the live data as files that ``artifacts`` finds again, from one moment where that
        can be had; the platform serves meanwhile. Changes nothing live. Where nothing is live, it
        writes nothing: is that a usual state, it returns a :class:`BackedUp` with a finding that
        says so; is it a loss, it raises. An exception fails a backup that somebody asked for, and a
        run whose plan did not say that the component cannot be read (``live_bytes`` raises then).

        Where a class does not have it, backups, also the safety backup before a run, are made
        without this component, and say so."""
        raise PreflightError(
            f"components of kind {self.kind} cannot be backed up",
            code="component.no_back_up",
            hint="give its class a method back_up, or leave it out with `only`",
        )

    def inspect(self, cx: RunContext) -> Inspection:
        """Looks at the backup and the live side; changes nothing. Whatever speaks against the run
        is a finding. Take what this one gives, which is an error where the backup has nothing, and
        add to it."""
        artifacts = list(self.artifacts(cx.backup))
        sizes = {file.path: file.size for file in cx.backup.files}
        found = Inspection(artifacts=artifacts, read_bytes=sum(sizes[path] for path in artifacts))
        if not artifacts:
            message = f"backup {cx.backup.id} has nothing for it"
            found.findings.append(Finding("error", "component.no_artifact", self.name, message))
        return found

    @abstractmethod
    def stage(self, cx: RunContext) -> Optional[Staged]:
        """Brings the backup's data beside the live data, verified; live data untouched. Leftovers
        of an earlier attempt of the same run are replaced. Stops soon once ``cx.cancelled``."""

    @abstractmethod
    def cut_over(self, cx: RunContext) -> None:
        """Makes the staged data live and keeps what it replaces. Short."""

    @abstractmethod
    def undo(self, cx: RunContext) -> None:
        """Takes ``cut_over`` back, finished or not; what had been live in between is kept as
        staged. Does nothing where nothing was cut over."""

    @abstractmethod
    def check(self, cx: RunContext) -> Iterable[CheckOutcome]:
        """Proves, after the cut-over and with the services up, that what is live is what was
        staged: by its content, not only by its being there."""

    @abstractmethod
    def discard(self, cx: RunContext, what: Literal["staged", "replaced"]) -> None:
        """Deletes what is named, of this run only. Never touches live data."""

    @abstractmethod
    def replaced_at(self, cx: RunContext) -> Optional[str]:
        """Where the other copy is kept, for the report: after a cut-over the data that the run
        replaced; after an undo, where it can be told, the restored data that was put aside. ``None``
        where there is neither."""

    def _restore_artifacts(self, backup: _restore.Backup) -> list[str]:
        found = self.artifacts(Backup(backup))
        if isinstance(found, str) or not isinstance(found, Iterable):
            raise _misfit("artifacts", found, "the names of files of the backup, in a list")
        artifacts = list(found)
        known = {file.path for file in Backup(backup).files}
        for artifact in artifacts:
            if artifact not in known:
                raise ConfigError(
                    f"artifacts() gave {artifact!r}, which is no file of backup {backup.id}",
                    code="component.no_such_artifact",
                    hint="return what `backup.find(…)` finds",
                )
        return artifacts

    def _restore_call(self, method: str, native: Any, what: Any) -> Any:
        """One call of the native half; the answer as what JSON knows."""
        if method == "live_bytes":
            return self.live_bytes()
        if method == "back_up":
            backed_up = self.back_up(BackupContext(native))
            return _given("back_up", BackedUp() if backed_up is None else backed_up, BackedUp)._raw()
        cx = RunContext(native)
        if method == "inspect":
            return _given("inspect", self.inspect(cx), Inspection)._raw()
        if method == "stage":
            staged = self.stage(cx)
            return _given("stage", Staged() if staged is None else staged, Staged)._raw()
        if method == "check":
            outcomes = _given("check", self.check(cx), Iterable)
            return [asdict(_given("check", outcome, CheckOutcome)) for outcome in outcomes]
        if method == "discard":
            return self.discard(cx, what)
        return getattr(self, method)(cx)


def _misfit(method: str, found: object, wanted: str) -> ConfigError:
    return ConfigError(
        f"{method}() returned {found!r}, not {wanted}",
        code="component.bad_answer",
        hint=f"see help(restore.Component.{method})",
    )


def _given(method: str, found: Any, wanted: type) -> Any:
    """What a method returned, where it is what it is to be."""
    if isinstance(found, wanted) and not isinstance(found, str):
        return found
    raise _misfit(method, found, "an iterable of CheckOutcome" if wanted is Iterable else f"a {wanted.__name__}")
