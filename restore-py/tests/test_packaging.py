"""What is in the wheel and in the source distribution."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import metadata
from pathlib import Path

from conftest import REPOSITORY


def test_the_wheel_says_what_it_is() -> None:
    known = metadata("restore-platform")
    assert known["License-Expression"] == "MIT OR Apache-2.0"
    assert "site.plan" in str(known.json["description"])
    with zipfile.ZipFile(os.environ["RESTORE_WHEEL"]) as wheel:
        names = wheel.namelist()
    for name in ("LICENSE-MIT", "LICENSE-APACHE", "restore/py.typed"):
        assert any(it.endswith(name) for it in names), names


def test_the_wheel_needs_nothing_else(tmp_path: Path) -> None:
    """Only Python's own modules: nothing that the tests' environment has is seen."""
    assert not metadata("restore-platform").get_all("Requires-Dist")
    with zipfile.ZipFile(os.environ["RESTORE_WHEEL"]) as wheel:
        wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import restore; "
        "from restore.__main__ import main; restore.Site; sys.exit(main())"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path), "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("restore "), ran.stdout


def test_the_lock_file_of_the_source_distribution_fits(tmp_path: Path) -> None:
    made = subprocess.run(
        [REPOSITORY / "scripts" / "python-sdist.sh", tmp_path], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    with tarfile.open(made.stdout.strip()) as archive:
        files = {name.partition("/")[2]: name for name in archive.getnames()}
        lock = archive.extractfile(files["Cargo.lock"])
        assert lock is not None and b'name = "restore-benches"' not in lock.read()
    for name in ("README.md", "LICENSE-MIT", "LICENSE-APACHE", "restore-core/Cargo.toml"):
        assert name in files, sorted(files)


def test_the_recipe_of_the_wheel_takes_what_the_sources_ask_for() -> None:
    recipe = (REPOSITORY / "packaging" / "Containerfile.wheel").read_text()
    maturin = tomllib.loads((REPOSITORY / "restore-py" / "pyproject.toml").read_text())
    (requirement,) = maturin["build-system"]["requires"]
    workspace = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]
    assert f"'{requirement}'" in recipe
    assert f"ARG RUST={workspace['rust-version']}\n" in recipe
