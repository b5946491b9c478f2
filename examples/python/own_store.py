"""A store of one's own: backups that are filed by year, `ROOT/2024/20240215-020000/…`.

    [stores.years]
    kind = "by-year"
    root = "/srv/backups"

    site = restore.Site.open("restore.toml", stores=[ByYear])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import restore


class ByYear(restore.Store):
    kind = "by-year"

    def __init__(self, name: str, options: Mapping[str, Any], base: Path) -> None:
        options = dict(options)
        self.root: Path = base / options.pop("root")
        super().__init__(name, options, base)

    def ids(self) -> Iterable[str]:
        return [it.name for year in self.root.iterdir() for it in year.glob(f"{year.name}*")]

    def files(self, id: str) -> Iterable[restore.BackupFile]:
        folder = (self.root / id[:4] / id).resolve(strict=True)
        found = [it for it in folder.rglob("*") if it.is_file()]
        return [restore.BackupFile(str(it.relative_to(folder)), it.stat().st_size) for it in found]

    def read(self, id: str, path: str, offset: int) -> BinaryIO:
        file = (self.root / id[:4] / id / path).open("rb")
        file.seek(offset)
        return file
