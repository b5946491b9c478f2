"""A check of one's own: a file that the application writes once it has its data.

    [checks.ready]
    kind = "fresh-file"
    file = "/run/app/ready"

    site = restore.Site.open("restore.toml", checks=[FreshFile])
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import restore


class FreshFile(restore.Check):
    kind = "fresh-file"

    def __init__(self, name: str, options: Mapping[str, Any], base: Path) -> None:
        options = dict(options)
        self.file: Path = base / options.pop("file")
        super().__init__(name, options, base)

    def run(self, since: Optional[datetime]) -> restore.CheckOutcome:
        # One that is not there yet is an exception, and tried again until the check's timeout is over.
        written = datetime.fromtimestamp(self.file.stat().st_mtime, timezone.utc)
        fresh = since is None or written >= since
        return self.outcome(fresh, f"{self.file} was written at {written:%Y-%m-%d %H:%M:%S} UTC")
