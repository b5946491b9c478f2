"""Hints name what one would type; here that is a call."""

from __future__ import annotations

import re
from typing import Optional

_FLAGS = {
    "--allow-empty": "allow_empty=",
    "--allow-missing": "allow_missing=",
    "--allow-time-gap": "allow_time_gap=True",
    "--allow-unverified": "allow_unverified=True",
    "--base": "base=True",
    "--create": "create=True",
    "--deep": "deep=True",
    "--from": "from_store=",
    "--no-maintenance": "maintenance=False",
    "--no-safety-backup": "safety_backup=False",
    "--only": "only=",
    "--over": "over=",
    "--over-unconfirmed": "over_unconfirmed=True",
    "--path": "paths=",
    "--timeline": "timeline=",
    "--to": "to=",
}
"""The command line's options and their names here; those with a value end in ``=``."""

_CALLS = {
    "abandon": "site.abandon({})",
    "backup": "site.back_up({})",
    "check": "site.check({})",
    "confirm": "site.confirm({})",
    "drill": "site.drill({})",
    "fetch": "site.fetch({})",
    "history": "site.history({})",
    "list": "site.backups({})",
    "plan": "site.plan({})",
    "prune": "site.plan_prune(keep=…).run()",
    "report": "site.report({})",
    "resume": "site.resume({})",
    "rollback": "site.rollback({})",
    "run": "site.plan({}).run()",
    "status": "site.status({})",
    "unlock": "site.unlock({})",
}

_WHOLE = {
    "name it with --config FILE or in RESTORE_CONFIG": "Site.open(path) takes its path",
}
"""Hints that are about the program."""

_COMMAND = re.compile(r"`restore ([^`]+)`")
_FLAG = re.compile(
    r"(?<![\w-])(--(?:allow-empty|allow-missing|over|timeline) [^\s;,)]+|--to latest"
    r"|--only (?:[A-Z]+\b|\S+?(?=\)|$))|--[a-z][a-z-]*)"
)
"""An option in a sentence, with its value where it is certain that the next word is one."""


def here(hint: Optional[str]) -> Optional[str]:
    """The hint in this module's words; what has none here stays as it is."""
    if hint is None or ("`" not in hint and "--" not in hint):
        return hint
    if hint in _WHOLE:
        return _WHOLE[hint]
    parts: list[str] = []
    at = 0
    for found in _COMMAND.finditer(hint):
        parts += [_flags(hint[at : found.start()]), _call(found[0], found[1].split())]
        at = found.end()
    return "".join([*parts, _flags(hint[at:])])


def _flags(text: str) -> str:
    return _FLAG.sub(lambda found: _flag(*found[1].split(" ", 1)), text)


def _flag(flag: str, value: str = "…") -> str:
    name = _FLAGS.get(flag)
    if name is None:
        return flag if value == "…" else f"{flag} {value}"
    return name + _value(value) if name.endswith("=") else name


def _call(command: str, words: list[str]) -> str:
    verb, *rest = words
    if verb == "page" and rest in (["on"], ["off"]):
        return f"`site.page({rest == ['on']})`"
    if (verb, rest) == ("config", ["check"]):
        return "`Site.check_config(path)`"
    arguments: list[str] = []
    values = iter(rest)
    for word in values:
        name = _FLAGS.get(word)
        if name is None and word.startswith("--"):
            return command  # It is the command line alone that has this.
        if name is None:
            arguments.append(_value(word))
        elif name.endswith("="):
            arguments.append(name + _value(next(values, "…")))
        else:
            arguments.append(name)
    if verb in ("show", "verify"):
        made, options = arguments[:1] or ["ID"], arguments[1:]
        opened = f"site.backup({', '.join(made)})"
        return f"`{opened}.verify({', '.join(options)})`" if verb == "verify" else f"`{opened}`"
    call = _CALLS.get(verb)
    return command if call is None else f"`{call.format(', '.join(arguments))}`"


def _value(word: str) -> str:
    """``ID`` and ``…`` stand for something; all else is itself."""
    whole = word.isupper() or word.isdigit() or word == "…" or word.startswith(("'", '"'))
    return word if whole else f'"{word}"'
