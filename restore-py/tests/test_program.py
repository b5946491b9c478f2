"""The command line in the wheel: `python -m restore` and the script `restore`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import restore
from conftest import Small
from test_handles import toml

SCRIPT = Path(sys.executable).with_name("restore")


def program(
    *args: object,
    start: tuple[object, ...] = (sys.executable, "-m", "restore"),
    directory: Optional[Path] = None,
    env: Optional[dict[str, str]] = None,
) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (*start, *args)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=directory,
        env=None if env is None else {**os.environ, **env},
    )


def test_it_is_the_command_line(small: Small) -> None:
    config = toml(small)
    for start in ((sys.executable, "-m", "restore"), (SCRIPT,)):
        ran = program("--version", start=start)
        assert (ran.returncode, ran.stdout) == (0, f"restore {restore.__version__}\n")
        ran = program("--config", config, "list", "--json", start=start)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)
    wrong = program("frob")
    assert wrong.returncode == 2 and "frob" in wrong.stderr
    missing = program("--config", small.root / "missing.toml", "list")
    assert missing.returncode == 2 and "missing.toml" in missing.stderr


def test_a_run_may_outlive_it(small: Small) -> None:
    config = toml(small)
    ran = program("--config", config, "run", "latest", "--yes", "--detach")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    report = restore.Site.open(config).attach().wait()
    assert report.outcome == "restored" and report.run in ran.stdout + ran.stderr


def test_what_lies_in_the_directory_is_not_run(small: Small) -> None:
    config = toml(small)
    here = small.root / "here"
    here.mkdir()
    for name in ("signal", "json", "typing", "restore"):
        (here / f"{name}.py").write_text(f"open({str(small.root / 'ran')!r}, 'w').close()\n")
    ran = program(
        "--config", config, "run", "latest", "--yes", "--detach", start=(SCRIPT,), directory=here
    )
    assert not (small.root / "ran").exists()
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert restore.Site.open(config).attach().wait().outcome == "restored"


def test_a_shell_is_told_words(small: Small) -> None:
    env = {"RESTORE_COMPLETE": "bash", "_CLAP_IFS": "\n", "_CLAP_COMPLETE_INDEX": "1"}
    for start in ((sys.executable, "-m", "restore"), (SCRIPT,)):
        ran = program("--", "restore", "roll", start=start, env=env)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        assert ran.stdout.split() == ["rollback"]
    ids = program(
        "--", "restore", "--config", toml(small), "plan", "", start=(SCRIPT,),
        env={**env, "_CLAP_COMPLETE_INDEX": "4"},
    )
    assert "20240215-020000" in ids.stdout.split(), ids
