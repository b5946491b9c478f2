"""A component of one's own: a search index, which is a SQLite file that an application reads.

    [components.search]
    kind = "search-index"
    file = "/srv/app/search.sqlite"
    service = "app"

    site = restore.Site.open("restore.toml", components=[SearchIndex])

It is staged as a second file beside the live one, checked by SQLite itself, and swapped by renames.
Each method looks at what is there before it acts, so each can be called again after a crash.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Optional

import restore


ARTIFACT = "search/search-{id}.sqlite.gz"
"""What a backup has of it."""


class SearchIndex(restore.Component):
    kind = "search-index"

    def __init__(self, name: str, options: Mapping[str, Any], base: Path) -> None:
        options = dict(options)
        try:
            self.file: Path = base / options.pop("file")
        except KeyError:
            raise restore.ConfigError("needs the key `file`", code="config.missing_key") from None
        self.service = options.pop("service", None)
        super().__init__(name, options, base)

    def stops(self) -> Iterable[str]:
        return [self.service] if self.service else []

    def artifacts(self, backup: restore.Backup) -> Iterable[str]:
        return backup.find(ARTIFACT)

    def back_up(self, cx: restore.BackupContext) -> restore.BackedUp:
        if not self.file.exists():
            finding = restore.Finding(
                "info", "search.none", self.name, f"{self.file} does not exist: nothing to back up"
            )
            return restore.BackedUp(findings=[finding])
        # SQLite copies what is live from one moment, also while the application writes.
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "index"
            live = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)
            target = sqlite3.connect(copy)
            try:
                live.backup(target)
            finally:
                live.close()
                target.close()
            cx.copy(copy, cx.name(ARTIFACT))
            return restore.BackedUp(facts={"documents": self._documents(copy)})

    def inspect(self, cx: restore.RunContext) -> restore.Inspection:
        found = super().inspect(cx)
        found.summary = f"the search index {self.file}"
        found.staged_at = str(self._staged(cx))
        if not self.file.parent.is_dir():
            finding = restore.Finding(
                "error", "search.no_folder", str(self.file.parent), "the folder does not exist"
            )
            found.findings.append(finding)
        else:
            # Compressed, an index of words is about a fifth.
            found.needs.append(restore.Need(self.file.parent, found.read_bytes * 5))
        return found

    def stage(self, cx: restore.RunContext) -> restore.Staged:
        staged = self._staged(cx)
        staged.unlink(missing_ok=True)
        (artifact,) = self.artifacts(cx.backup)
        size = cx.copy(artifact, staged, mode=0o644)
        try:
            documents = self._documents(staged)
        except sqlite3.Error as error:
            staged.unlink()
            raise restore.VerificationError(
                f"{artifact} is not a search index: {error}", code="search.unreadable"
            ) from error
        cx.record("documents", documents)  # For `check`, which may be called in another process.
        return restore.Staged(bytes=size, facts={"documents": documents})

    def cut_over(self, cx: restore.RunContext) -> None:
        if not self._staged(cx).exists():
            return  # Done already.
        # Once the first rename is done, nothing else would tell that there was no index before.
        cx.record("existed", self.file.exists())
        if self.file.exists() and not self._replaced(cx).exists():
            os.rename(self.file, self._replaced(cx))
        os.rename(self._staged(cx), self.file)
        self._sync()

    def undo(self, cx: restore.RunContext) -> None:
        existed = cx.recall("existed")
        if existed is None:
            return  # Nothing was cut over.
        if existed and not self._replaced(cx).exists():
            return  # Undone already, or the first rename was never made.
        if self.file.exists() and not self._staged(cx).exists():
            os.rename(self.file, self._staged(cx))
        if existed:
            os.rename(self._replaced(cx), self.file)
        self._sync()

    def check(self, cx: restore.RunContext) -> Iterable[restore.CheckOutcome]:
        count = self._documents(self.file)
        staged = cx.recall("documents")
        # The application is up and may have added some.
        passed = count >= staged and not self._staged(cx).exists()
        yield restore.CheckOutcome(
            f"{self.name}/documents", passed, f"{count} documents, {staged} were staged"
        )

    def discard(self, cx: restore.RunContext, what: Literal["staged", "replaced"]) -> None:
        path = self._staged(cx) if what == "staged" else self._replaced(cx)
        path.unlink(missing_ok=True)

    def replaced_at(self, cx: restore.RunContext) -> Optional[str]:
        # After an undo, the restored index is where it was staged.
        for path in (self._replaced(cx), self._staged(cx)):
            if path.exists():
                return str(path)
        return None

    def _staged(self, cx: restore.RunContext) -> Path:
        return self.file.with_name(f".{self.file.name}.staged-{cx.run}")

    def _replaced(self, cx: restore.RunContext) -> Path:
        return self.file.with_name(f".{self.file.name}.replaced-{cx.run}")

    def _sync(self) -> None:
        """Renames are durable once their folder is."""
        folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @staticmethod
    def _documents(path: Path) -> int:
        index = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            index.execute("PRAGMA integrity_check")
            return int(index.execute("SELECT count(*) FROM documents").fetchone()[0])
        finally:
            index.close()
