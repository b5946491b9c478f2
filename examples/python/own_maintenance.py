"""A maintenance mode of one's own, for a web server that shows a page while a file of that name is there.

    [maintenance]
    kind = "flag"
    file = "/srv/www/maintenance.html"

    site = restore.Site.open("restore.toml", maintenance=[Flag])
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import restore


class Flag(restore.Maintenance):
    kind = "flag"

    def __init__(self, name: str, options: Mapping[str, Any], base: Path) -> None:
        options = dict(options)
        self.file: Path = base / options.pop("file")
        super().__init__(name, options, base)

    def on(self, run: str, since: datetime) -> None:
        # A real one asks the web server as a user would, and returns once it gets the page.
        self.file.write_text(f"<p>Back soon (since {since:%H:%M} UTC).</p>\n")

    def off(self, run: str) -> None:
        self.file.unlink(missing_ok=True)
