"""The native half: see the classes of `restore` that hold these."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, final

from ._errors import RestoreError
from ._target import Native

__all__ = [
    "Backup",
    "BackupContext",
    "Plan",
    "Progress",
    "RunContext",
    "Site",
    "Task",
    "__version__",
    "cancel_all",
    "stop_all",
]

__version__: str

@final
class Task:
    """Work that is begun by the first `start`, `wait` or `next`, and can be waited for once."""

    def then(self, then: Callable[[Any], Any]) -> Task:
        """The same task; its result goes through `then`."""

    def wait(self, on_event: Callable[[dict[str, Any]], object] | None = None) -> Any:
        """Begins, waits for the end, and returns the result."""

    def next(self) -> dict[str, Any] | None:
        """Waits for the next event; `None` at the end."""

    def drain(self) -> None:
        """Waits for the end without looking at the events."""

    def start(self, wake: Callable[[], object]) -> None:
        """Begins without waiting; `wake` is called once when there is something new."""

    def events(self) -> tuple[dict[str, Any], ...]:
        """The events that have come since."""

    @property
    def ended(self) -> bool:
        """Whether the work was begun and has ended."""

    def result(self) -> Any:
        """The result of work that has ended; to be asked once."""

    def cancel(self) -> None:
        """Stops the work: a run undoes itself, whatever only reads ends at once."""

@final
class Backup:
    """A backup that was opened."""

    @property
    def id(self) -> str: ...
    @property
    def store(self) -> str: ...
    def describe(self) -> dict[str, Any]:
        """What is told without reading any artifact."""

    def local_path(self, path: str) -> Path | None:
        """Where this host can read a file of the backup itself."""

    def find(self, patterns: list[str]) -> list[str]:
        """The first of the patterns that the backup has files for, and these files."""

    def verify(self, deep: bool, jobs: int) -> Task: ...

@final
class Plan:
    """What a restore would do, as the library keeps it."""

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Plan:
        """The plan of a saved value."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as a value that can be saved."""

    def steps(self) -> list[Any]:
        """The steps with their words and phases."""

    def refusal(self) -> RestoreError | None:
        """The error that running it would give before anything is touched."""

@final
class Site:
    """One configured platform with its components and its stores."""

    def __new__(
        cls, config: str | dict[str, Any], base: str | None, components: dict[str, Any]
    ) -> Site:
        """From a file or a table, with components written in Python by their kinds."""

    @property
    def name(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def stores(self) -> list[tuple[str, str]]: ...
    @property
    def components(self) -> list[tuple[str, str]]: ...
    def backups(self) -> Task: ...
    def backup(self, id: str, to: Native | None) -> Task: ...
    def plan(
        self,
        backup: Backup,
        selection: tuple[list[str] | None, list[str] | None, list[str], list[str]],
        words: tuple[bool, bool, bool, bool, bool],
        recovery: tuple[Native | None, bool],
        over: str | None,
    ) -> Task: ...
    def drill(
        self,
        backup: Backup,
        only: list[str] | None,
        allow_unverified: bool,
        recovery: tuple[Native | None, bool],
    ) -> Task: ...
    def run(self, plan: Plan) -> Task: ...
    def resume(self, run: str | None) -> Task: ...
    def rollback(self, run: str | None) -> Task: ...
    def confirm(self, run: str | None) -> Task: ...
    def abandon(self, run: str | None) -> Task: ...
    def page(self, up: bool) -> Task: ...
    def preview_rollback(self, run: str | None) -> Task: ...
    def preview_confirm(self, run: str | None) -> Task: ...
    @staticmethod
    def read_report(value: dict[str, Any]) -> Any:
        """A report that was saved, as the other methods give one."""

    def watch(self, run: str | None) -> Task: ...
    def report(self, run: str | None) -> Task: ...
    def history(self) -> Task: ...
    @staticmethod
    def check_config(path: str, components: dict[str, Any]) -> Task: ...
    def status(self) -> Task: ...
    def check(self) -> Task: ...
    def ensure_idle(self) -> Task: ...
    def lock_holder(self) -> Task: ...
    def unlock(self) -> Task: ...
    def back_up(
        self, only: list[str] | None, to: str | None, compression: str, level: int | None, base: bool
    ) -> Task: ...
    def fetch(self, id: str, from_: str | None, to: str | None) -> Task: ...
    def bring(self, id: str) -> Task:
        """The backup on this host: fetched first, where it is elsewhere or packed."""

    def members(self, backup: Backup, pattern: str | None, only: list[str] | None) -> Task:
        """What is in a backup's artifacts, and the error of those that are not what was backed up."""

    def difference(
        self, backup: Backup, only: list[str] | None, paths: list[str] | None, most: int
    ) -> Task:
        """How what a backup has differs from what is live."""

    def get(
        self, backup: Backup, paths: list[str], to: str, words: tuple[bool, bool, bool]
    ) -> Task:
        """Brings files out of a backup into a directory."""

    def plan_prune(
        self, keep: int | None, older_than: int | None, store: str | None
    ) -> Task: ...
    def prune(
        self, keep: int | None, older_than: int | None, store: str | None, plan: dict[str, Any]
    ) -> Task:
        """Deletes what a plan would, where it still may be; what was deleted."""

@final
class RunContext:
    """What a component is given: see `restore.RunContext`."""

    @property
    def run(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def backup(self) -> Backup: ...
    @property
    def paths(self) -> list[str]: ...
    @property
    def maintenance(self) -> bool: ...
    @property
    def cancelled(self) -> bool: ...
    def check_cancelled(self) -> None: ...
    def record(self, key: str, value: object) -> None: ...
    def recall(self, key: str) -> Any: ...
    def notice(self, finding: dict[str, Any]) -> None: ...
    def progress(self, action: str, total: int | None) -> Progress: ...
    def copy(self, path: str, target: str | PathLike[str], mode: int) -> int:
        """Copies an artifact, decompressed, verified in the same pass; the bytes written."""

    def unpack(
        self, path: str, target: str | PathLike[str], prefix: str, live_root: str | PathLike[str]
    ) -> dict[str, Any]:
        """Unpacks an artifact into a directory, verified in the same pass; what was unpacked."""

@final
class BackupContext:
    """What a component backs itself up with: see `restore.BackupContext`."""

    @property
    def id(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def cancelled(self) -> bool: ...
    def check_cancelled(self) -> None: ...
    def progress(self, action: str, total: int | None) -> Progress: ...
    def name(self, patterns: list[str]) -> str:
        """The first of the patterns that says one name, with the backup's id in it."""

    def copy(self, source: str | PathLike[str], artifact: str) -> int:
        """Copies a file of this host as an artifact; the artifact's bytes."""

    def write(self, artifact: str, content: bytes, private: bool) -> None:
        """Writes some bytes as an artifact."""

@final
class Progress:
    """Counts what is done of one piece of work."""

    def add(self, bytes: int) -> None:
        """Adds so many bytes."""

    def finish(self) -> None:
        """Tells the present count at once."""

def cancel_all() -> None:
    """Stops all work under way, in whatever thread it is waited for, without waiting."""

def stop_all() -> None:
    """Stops all work under way and waits until it has ended: what a program does at its exit."""
