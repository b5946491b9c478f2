#!/usr/bin/env python3
"""Writes the methods of the Python module that call the library: from each method that is marked with
`@long` or `@short`, a blocking one, one for asyncio, and, of a long call, one that gives a handle. So the
three cannot differ.

    scripts/python-calls.py            writes them
    scripts/python-calls.py --check    fails where what is written is not up to date

`_site.py` is written wholly; in other files what is written stands at the end of the class, below a line
that says so.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "restore-py" / "python" / "restore"
LINE = "    # --- written by scripts/python-calls.py from what is marked above -----------------------\n"
WIDTH = 100

SITE = '''"""The way in: a site, its backups, its runs. Written by scripts/python-calls.py from _site_base.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Optional, Union

from ._arguments import Path
from ._backup import Backup, Backups
from ._difference import SiteDifference
from ._members import GetReport, Members
from ._plan import Plan
from ._report import Report
from ._run import Run
from ._site_base import BackupName, RunName, Secrets, SiteBase
from ._status import SiteStatus
from ._store import BackupReport, Compression, FetchReport, PrunePlan
from ._target import Moment
from ._task import OnEvent, OnEventAsync
from ._values import BackupRecovery, CheckOutcome


class Site(SiteBase):
    """One configured platform with its components and its stores: what ``restore.toml`` describes.

    ``Site.open("restore.toml")``, or from a dict of the same shape, whose relative paths are taken
    from ``base``. Neither reads a password, connects to anything or writes anything.
    ``components``, ``checks``, ``stores``, ``hooks`` and ``maintenance`` are classes of your own, which
    sections of their ``kind`` are made with.

    Every slow method has a twin whose name ends in ``_async``, for asyncio, and of a long one
    ``start_…`` begins it and gives a :class:`Run`. Other threads run while they wait. Ctrl-C and
    cancellation stop a run, wait until it has undone itself, and are raised then. ``wait``: so many
    seconds for the lock of another process.
    """

    __slots__ = ()

'''


def signature(head: str, parameters: list[str], result: str) -> str:
    line = f"    {head}({', '.join(parameters)}) -> {result}:\n"
    if len(line) <= WIDTH + 1:
        return line
    inner = ", ".join(parameters)
    if len(inner) <= WIDTH - 8:
        return f"    {head}(\n        {inner}\n    ) -> {result}:\n"
    return f"    {head}(\n" + "".join(f"        {it},\n" for it in parameters) + f"    ) -> {result}:\n"


def parameters(function: ast.FunctionDef) -> tuple[list[str], list[str]]:
    """As they are written, and as they are handed on."""
    given = function.args
    first = len(given.args) - len(given.defaults)

    def text(arg: ast.arg, default: ast.expr | None) -> str:
        assert arg.annotation is not None, f"{function.name}: {arg.arg} has no type"
        value = "" if default is None else " = " + ast.unparse(default).replace("'", '"')
        return f"{arg.arg}: {ast.unparse(arg.annotation)}{value}"

    written, handed = [], []
    for at, arg in enumerate(given.args[1:], 1):
        written.append(text(arg, given.defaults[at - first] if at >= first else None))
        handed.append(arg.arg)
    if given.kwonlyargs:
        written.append("*")
    for arg, default in zip(given.kwonlyargs, given.kw_defaults):
        written.append(text(arg, default))
        handed.append(f"{arg.arg}={arg.arg}")
    return written, handed


def calls(function: ast.FunctionDef, kind: str, source: list[str]) -> str:
    name = function.name.removeprefix("_")
    written, handed = parameters(function)
    returns = function.returns
    assert isinstance(returns, ast.Subscript), f"{function.name} gives no Run[…]"
    result = ast.unparse(returns.slice)
    first = function.body[0]
    assert isinstance(first, ast.Expr) and first.end_lineno, f"{function.name} is not documented"
    doc = "".join(source[first.lineno - 1 : first.end_lineno])
    call = f"self.{function.name}({', '.join(handed)})"
    if len(call) > WIDTH - 30:
        call = f"self.{function.name}(\n" + "".join(f"            {it},\n" for it in handed) + "        )"
    star = [] if "*" in written else ["*"]

    def watched(type_: str) -> list[str]:
        watch = [*star, f"on_event: Optional[{type_}] = None"]
        return ["self", *written, *watch] if kind == "long" else ["self", *written]

    on_event = "on_event" if kind == "long" else ""
    back = "return " if result != "None" else ""
    made = [
        signature(f"def {name}", watched("OnEvent"), result)
        + doc
        + f"        {back}{call}._wait({on_event})\n",
        signature(f"async def {name}_async", watched("OnEventAsync"), result)
        + doc
        + f"        {back}await {call}._drive({on_event})\n",
    ]
    if kind == "long":
        made.append(
            signature(f"def start_{name}", ["self", *written], f"Run[{result}]")
            + doc
            + f"        return {call}.start()\n"
        )
    return "\n".join(made)


def marked(text: str) -> str:
    """What is written from a file: in the order of what is marked in it."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        kinds = [it.id for it in node.decorator_list if isinstance(it, ast.Name)]
        for kind in ("long", "short"):
            if kind in kinds:
                found.append((node.lineno, calls(node, kind, text.splitlines(keepends=True))))
    return "\n".join(text for _, text in sorted(found))


def files() -> dict[Path, str]:
    """The files with what should be in them."""
    wanted = {PACKAGE / "_site.py": SITE + marked((PACKAGE / "_site_base.py").read_text())}
    for name in ("_backup.py", "_plan.py", "_store.py"):
        text = (PACKAGE / name).read_text()
        hand, line, rest = text.partition(LINE)
        assert line, f"{name} does not say where what is written stands"
        _, end, after = rest.partition(LINE.replace("written by", "end of what is written by"))
        assert end, f"{name} does not say where what is written ends"
        wanted[PACKAGE / name] = hand + line + "\n" + marked(hand) + "\n" + end + after
    return wanted


def main() -> int:
    old = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path} is not up to date: run scripts/python-calls.py", file=sys.stderr)
        return 1 if old else 0
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
