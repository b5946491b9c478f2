"""The stubs say what the native half has, and everything is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import restore
from conftest import REPOSITORY

PACKAGE = Path(restore.__file__).parent


def checked(here: Path, *args: object) -> None:
    command = [sys.executable, "-m", *map(str, args)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=here)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_stubs_fit_the_module(tmp_path: Path) -> None:
    checked(tmp_path, "mypy.stubtest", "restore._restore")


def test_the_module_is_typed(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").exists()
    checked(tmp_path, "mypy", "--strict", "--python-version", "3.10", "-p", "restore")


def test_its_users_are_typed(tmp_path: Path) -> None:
    tests = REPOSITORY / "restore-py" / "tests"
    programs = [*tests.glob("*.py"), *(REPOSITORY / "examples" / "python").glob("*.py")]
    assert len(programs) > 8
    checked(tmp_path, "mypy", "--strict", *programs)


def test_everything_public_is_documented() -> None:
    for name in restore.__all__:
        it = getattr(restore, name)
        if isinstance(it, type):
            assert it.__doc__ and not it.__doc__.startswith(f"{name}("), name
            for method, value in vars(it).items():
                if not method.startswith("_") and callable(value):
                    assert value.__doc__ or hasattr(it.__mro__[1], method), f"{name}.{method}"
