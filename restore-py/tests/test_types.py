"""The stubs say what the native half has, and everything is typed."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import restore
from conftest import REPOSITORY

PACKAGE = Path(restore.__file__).parent


def checked(here: Path, *args: object) -> None:
    command = [sys.executable, "-m", *map(str, args)]
    # Pyright looks for what is installed beside the first Python there.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_stubs_fit_the_module(tmp_path: Path) -> None:
    checked(tmp_path, "mypy.stubtest", "restore._restore")


def test_the_module_is_typed(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").exists()
    checked(tmp_path, "mypy", "--strict", "--python-version", "3.10", "-p", "restore")


def test_every_public_symbol_has_a_type(tmp_path: Path) -> None:
    """As another checker than mypy sees it, which counts."""
    checked(tmp_path, "pyright", "--pythonpath", sys.executable, PACKAGE)
    checked(tmp_path, "pyright", "--verifytypes", "restore", "--ignoreexternal")


def test_its_users_are_typed(tmp_path: Path) -> None:
    tests = REPOSITORY / "restore-py" / "tests"
    programs = [*tests.glob("*.py"), *(REPOSITORY / "examples" / "python").glob("*.py")]
    assert len(programs) > 8
    checked(tmp_path, "mypy", "--strict", *programs)
    examples = [program for program in programs if "examples" in program.parts]
    checked(tmp_path, "pyright", "--pythonpath", sys.executable, *examples)


def test_everything_public_is_documented() -> None:
    for name in restore.__all__:
        it = getattr(restore, name)
        if isinstance(it, type):
            assert it.__doc__ and not it.__doc__.startswith(f"{name}("), name
            for method, value in vars(it).items():
                if not method.startswith("_") and callable(value):
                    assert value.__doc__ or hasattr(it.__mro__[1], method), f"{name}.{method}"


def test_what_is_written_by_a_script_is_up_to_date() -> None:
    script = REPOSITORY / "scripts" / "python-calls.py"
    ran = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_three_ways_to_call_are_alike() -> None:
    """Blocking, asyncio and handle take the same arguments, but for who watches."""
    for cls in (restore.Site, restore.Backup, restore.Plan, restore.PrunePlan):
        for name, method in vars(cls).items():
            if not name.endswith("_async"):
                continue
            def taken(it: Any) -> list[tuple[str, object]]:
                found = inspect.signature(it).parameters.values()
                return [(p.name, p.default) for p in found if p.name != "on_event"]

            blocking = getattr(cls, name.removesuffix("_async"))
            assert taken(method) == taken(blocking), name
            handle = getattr(cls, f"start_{name.removesuffix('_async')}", None)
            assert handle is None or taken(handle) == taken(blocking), name
