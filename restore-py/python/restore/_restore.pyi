"""The native half: see the classes of `restore` that hold these."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, final

from ._errors import RestoreError
from ._store import Keep
from ._target import Native

__all__ = [
    "Backup",
    "BackupContext",
    "Follower",
    "Plan",
    "Progress",
    "RunContext",
    "Site",
    "Task",
    "__version__",
    "cancel_all",
    "command_line",
    "keep_secret",
    "stop_all",
]

__version__: str

@final
class Task:
    """Work that is begun by the first `start`, `wait` or `drain`."""

    def then(self, then: Callable[[Any], Any]) -> Task:
        """The same task; its result goes through `then`."""

    def start(self) -> None:
        """Begins it, where nobody has."""

    @property
    def id(self) -> str | None:
        """The run's id, once there is one."""

    @property
    def state(self) -> Any:
        """How far it is: `not_begun`, `under_way`, `stopping`, `done`, `failed`."""

    def progress(self) -> dict[str, Any]:
        """How far it has come by now."""

    def follow(self) -> Follower:
        """Its events from the first on."""

    def wait(self, on_event: Callable[[dict[str, Any]], object] | None = None) -> Any:
        """Begins, waits for the end, and returns the result."""

    def drain(self) -> None:
        """Begins, and waits for the end without looking at the events."""

    def result(self) -> Any:
        """The result of work that has ended, for all who ask."""

    def cancel(self) -> None:
        """Stops the work: a run undoes itself, whatever only reads ends at once."""

@final
class Follower:
    """The events of a task, from the first on: each follower hears all of them."""

    def next(self) -> dict[str, Any] | None:
        """Begins the task, and waits for the next event; `None` at the end."""

    def wake(self, wake: Callable[[], object]) -> None:
        """Begins the task without waiting; `wake` is called once when there is something new."""

    def ready(self) -> tuple[tuple[dict[str, Any], ...], bool]:
        """The events that have come since, and whether they are the last."""

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

    def text(self) -> str:
        """The plan in words."""

    def steps(self) -> list[Any]:
        """The steps with their words and phases."""

    def refusal(self) -> RestoreError | None:
        """The error that running it would give before anything is touched."""

@final
class Site:
    """One configured platform with its components and its stores."""

    def __new__(
        cls, config: str | dict[str, Any], base: str | None, kinds: dict[str, dict[str, Any]]
    ) -> Site:
        """From a file or a table, with the parts that are written in Python: classes by their kinds."""

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
        backup: str | Backup,
        selection: tuple[list[str] | None, list[str] | None, list[str], list[str]],
        words: tuple[bool, ...],
        recovery: tuple[Native | None, bool],
        places: tuple[
            str | None,
            str | None,
            list[str] | None,
            tuple[dict[str, str], str | None],
            dict[str, str],
        ],
        wait: float,
    ) -> Task: ...
    def drill(
        self,
        backup: str | Backup,
        only: list[str] | None,
        allow_unverified: bool,
        recovery: tuple[Native | None, bool],
        wait: float,
    ) -> Task: ...
    def run(self, plan: Plan, wait: float) -> Task: ...
    def resume(self, run: str | None, wait: float) -> Task: ...
    def rollback(self, run: str | None, wait: float) -> Task: ...
    def confirm(self, run: str | None, wait: float) -> Task: ...
    def abandon(self, run: str | None, wait: float) -> Task: ...
    def page(self, up: bool) -> Task: ...
    def preview_rollback(self, run: str | None) -> Task: ...
    def preview_abandon(self, run: str | None) -> Task: ...
    def preview_confirm(self, run: str | None) -> Task: ...
    @staticmethod
    def read_report(value: dict[str, Any]) -> Any:
        """A report that was saved, as the other methods give one."""

    def watch(self, run: str | None) -> Task: ...
    def report(self, run: str | None) -> Task: ...
    def history(self) -> Task: ...
    @staticmethod
    def check_config(path: str, kinds: dict[str, dict[str, Any]]) -> Task: ...
    def status(self) -> Task: ...
    def check(self) -> Task: ...
    def ensure_idle(self) -> Task: ...
    def lock_holder(self) -> Task: ...
    def unlock(self) -> Task: ...
    def back_up(
        self,
        only: list[str] | None,
        to: str | None,
        compression: tuple[str, int | None],
        base: bool,
        wait: float,
    ) -> Task: ...
    def fetch(self, id: str, from_: str | None, to: str | None, wait: float) -> Task: ...
    def bring(self, id: str, wait: float) -> Task:
        """The backup on this host: fetched first, where it is elsewhere or packed."""

    def recoverable(self, backup: str | Backup) -> Task:
        """From when to when each cluster can be recovered from a backup."""

    def members(self, backup: str | Backup, pattern: str | None, only: list[str] | None) -> Task:
        """What is in a backup's artifacts, and the error of those that are not what was backed up."""

    def difference(
        self, backup: str | Backup, only: list[str] | None, paths: list[str] | None, most: int
    ) -> Task:
        """How what a backup has differs from what is live."""

    def get(
        self, backup: str | Backup, paths: list[str], to: str, words: tuple[bool, ...]
    ) -> Task:
        """Brings files out of a backup into a directory."""

    def plan_prune(self, keep: Keep, older_than: int | None, store: str | None) -> Task: ...
    def prune(
        self,
        keep: Keep,
        older_than: int | None,
        store: str | None,
        plan: dict[str, Any],
        wait: float,
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

def command_line(argv: list[str], again: list[str]) -> int:
    """What the program `restore` does with these arguments; its exit code. `again`: what starts it."""

def keep_secret(text: str) -> str:
    """Keeps a secret for a configuration; its name, for a key `…_env`."""
