"""Platforms to restore: a small one of files, and the whole one of examples/local-platform, with
real servers, made once and left by each test as it was found."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import restore

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "examples" / "local-platform"
BACKUP = "20240215-020000"


class Small:
    """A site of a volume and a crontab file in a folder: nothing runs, so a run takes no time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.volume = root / "volume"
        self.volume.mkdir(parents=True)
        (self.volume / "data.txt").write_text("good")
        self.crontab = root / "crontab"
        self.crontab.write_text("1 * * * * good\n")
        self.folder = root / "backups" / BACKUP
        (self.folder / "volumes").mkdir(parents=True)
        (self.folder / "configs").mkdir()
        with tarfile.open(self.folder / "volumes" / f"data-{BACKUP}.tar.gz", "w:gz") as archive:
            archive.add(self.volume, arcname=".")
        shutil.copy(self.crontab, self.folder / "configs" / f"crontab-{BACKUP}.txt")
        self.write_manifest()
        (self.volume / "data.txt").write_text("damaged")
        self.crontab.write_text("2 * * * * damaged\n")

    def write_manifest(self) -> None:
        files = sorted(it for it in self.folder.rglob("*") if it.is_file())
        lines = [
            f"{it.relative_to(self.folder)}|4.0K|{sha256(it.read_bytes()).hexdigest()}"
            for it in files
            if it.name != "MANIFEST.txt"
        ]
        head = [f"Backup ID: {BACKUP}", "Created By: a test", "=== Files ==="]
        tail = ["=== Summary ===", f"Total Files: {len(lines)}"]
        (self.folder / "MANIFEST.txt").write_text("\n".join(head + lines + tail) + "\n")

    def config(self, **components: dict[str, Any]) -> dict[str, Any]:
        return {
            "site": {"name": "small", "state": self.root / "state"},
            "stores": {"main": {"kind": "directory", "path": "backups"}},
            "volumes": {"data": {"path": "volume"}},
            "components": {
                "data": {"kind": "volume", "volume": "data", "stops": []},
                "crontab": {"kind": "crontab", "file": str(self.crontab)},
                **components,
            },
        }

    def site(self) -> restore.Site:
        return restore.Site(self.config(), base=self.root)

    def live(self) -> tuple[str, str]:
        return (self.volume / "data.txt").read_text(), self.crontab.read_text()

    GOOD = ("good", "1 * * * * good\n")
    DAMAGED = ("damaged", "2 * * * * damaged\n")


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


class Platform:
    """The hosting platform of examples/local-platform, backed up, then damaged."""

    ONLY = ("postgres", "redis", "grafana", "crontab")

    def __init__(self, work: Path) -> None:
        self.root = work / "platform"
        self.script("platform", "create", "--rows", "200", "--volume-mb", "1")
        self.at_backup = self.fingerprint()
        self.backup = self.script("backup.sh").strip()
        self.script("damage.sh")
        # What is not restored here stays broken, and would fail the checks of every run.
        site = self.site()
        whole = site.plan("latest").run()
        self.restored = self.fingerprint()
        self.whole = whole
        site.confirm(whole.run)
        for name in self.ONLY:
            self.damage(name)
        self.before = self.fingerprint()

    def damage(self, name: str) -> None:
        """Other data in one component, which works all the same."""
        if name == "crontab":
            (self.root / "crontab").write_text("5 5 * * * damaged\n")
        elif name == "grafana":
            (self.root / "volumes" / "grafana_data" / "damaged").write_text("damaged")
        elif name == "redis":
            self.client("redis-cli", "set", "damaged", "yes")
        else:
            self.client("psql", "-c", "CREATE TABLE damaged AS SELECT 1 AS one")

    def client(self, *args: str) -> None:
        env = dict(
            line.split("=", 1)
            for line in (self.root / "platform.env").read_text().splitlines()
            if "=" in line
        )
        def secret(name: str) -> str:
            return (self.root / "secrets" / name).read_text().strip()

        host = ["-h", "127.0.0.1", "-p"]
        if args[0] == "psql":
            command = [args[0], *host, env["PG_PORT"], "-U", "hosting_user", "hosting_db"]
        else:
            command = [args[0], *host, env["REDIS_PORT"]]
        passwords = {"PGPASSWORD": secret("postgres.pass"), "REDISCLI_AUTH": secret("redis.pass")}
        subprocess.run(
            [*command, *args[1:]], check=True, capture_output=True, env={**os.environ, **passwords}
        )

    def script(self, name: str, *args: str) -> str:
        ran = subprocess.run(
            [SCRIPTS / name, "-d", self.root, *args], capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{name} {args}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def fingerprint(self) -> str:
        return self.script("platform", "fingerprint")

    def site(self) -> restore.Site:
        return restore.Site.open(self.config)

    @property
    def config(self) -> Path:
        return self.root / "restore.toml"

    def plan(self) -> restore.Plan:
        return self.plan_of("latest")

    def plan_of(self, backup: str) -> restore.Plan:
        return self.site().plan(backup, only=self.ONLY)

    def is_as_before(self) -> None:
        """Nothing has changed, nothing is left, nobody is turned away."""
        assert difference(self.before, self.fingerprint()) == []
        site = self.site()
        site.ensure_idle()
        assert [str(check) for check in site.check() if not check] == []
        kept = [component.kept_at for component in site.report().components]
        if any(kept):  # Users had been served: what they wrote is kept until it is confirmed.
            site.confirm()
        left = [str(path) for path in self.root.rglob(".restore-*")]
        assert left == []


def difference(wanted: str, found: str) -> list[str]:
    lines = set(wanted.splitlines()) ^ set(found.splitlines())
    return sorted(lines)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    # The servers run as users of their own, who must reach their folders.
    work = Path(tempfile.mkdtemp(prefix="restore-test."))
    work.chmod(0o755)
    try:
        yield Platform(work)
    finally:
        subprocess.run([SCRIPTS / "platform", "-d", work / "platform", "destroy"], check=False)
        shutil.rmtree(work, ignore_errors=True)
