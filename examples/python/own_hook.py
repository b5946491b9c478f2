"""A hook of one's own: a line for each run and backup in a file.

    [hooks.diary]
    kind = "diary"
    file = "/var/log/restore-diary"
    when = ["on-success", "on-failure"]

    site = restore.Site.open("restore.toml", hooks=[Diary])
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import restore


class Diary(restore.Hook):
    kind = "diary"

    def __init__(self, name: str, options: Mapping[str, Any], base: Path) -> None:
        options = dict(options)
        self.file: Path = base / options.pop("file")
        super().__init__(name, options, base)

    def call(self, notice: restore.HookNotice) -> None:
        with self.file.open("a") as diary:
            print(notice.when, notice.subject, notice.text, file=diary)
