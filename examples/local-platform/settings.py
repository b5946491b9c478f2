"""The platform's settings as the shell scripts know them: ROOT/platform.env."""

import shlex
from pathlib import Path


class Settings:
    """Attributes are the file's keys: `settings.PG_PORT`."""

    PG_HOST = REDIS_HOST = "127.0.0.1"

    def __init__(self, root):
        self.root = Path(root)
        for line in (self.root / "platform.env").read_text().splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.partition("=")
                setattr(self, key, "".join(shlex.split(value)))

    def secret(self, name):
        return (self.root / "secrets" / f"{name}.pass").read_text().strip()
