"""The wheel in a new virtual environment, the README's example, the examples and the notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from conftest import REPOSITORY, Platform, difference

EXAMPLES = REPOSITORY / "examples" / "python"


def readme() -> str:
    """The Python program of the repository's README."""
    text = (REPOSITORY / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert isinstance(program, str)
    return program


def test_the_wheel_installs_and_the_readme_runs(platform: Platform, tmp_path: Path) -> None:
    wheel = os.environ.get("RESTORE_WHEEL")
    assert wheel, "run the tests with scripts/python-test.sh, which builds the wheel"
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = str(venv / "bin" / "pip")
    subprocess.run([pip, "install", "--quiet", "--no-index", wheel], check=True)
    program = tmp_path / "readme.py"
    program.write_text(readme())
    ran = subprocess.run(
        [venv / "bin" / "python", program], cwd=platform.root, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "Plan: restore backup" in ran.stdout and "Restored and checked" in ran.stdout
    assert difference(platform.restored, platform.fingerprint()) == []
    site = platform.site()
    assert site.report().confirmed
    for name in platform.ONLY:
        platform.damage(name)
    platform.is_as_before()


def program(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, args)], capture_output=True, text=True
    )


def test_the_smallest(platform: Platform) -> None:
    ran = program("smallest.py", platform.config)
    assert ran.returncode == 0, ran.stderr
    assert "Restored and checked" in ran.stdout
    platform.site().rollback()
    platform.is_as_before()


def test_nightly_verification(platform: Platform) -> None:
    ran = program("nightly_verification.py", platform.config)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().endswith("sound")
    folder = platform.root / "backups" / platform.backup
    archive = next((folder / "volumes").glob("grafana-*"))
    good = archive.read_bytes()
    archive.write_bytes(good[: len(good) // 2])
    try:
        ran = program("nightly_verification.py", platform.config)
    finally:
        archive.write_bytes(good)
    assert ran.returncode == 1
    assert archive.name in ran.stderr, ran.stderr
    missing = program("nightly_verification.py", folder / "nothing.toml")
    assert missing.returncode == 1 and "nothing.toml" in missing.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_CONFIG", str(platform.config))
    notebook = nbformat.read(EXAMPLES / "plan_and_report.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    html = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert len(html) == 2
    assert "Plan: restore backup" in html[0]
    assert "Restored and checked" in html[1] and "postgres" in html[1]
    platform.site().confirm()
    platform.is_as_before()
