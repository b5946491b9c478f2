"""Hints name what one would type; here that is a call."""

from __future__ import annotations

import re
from typing import Optional

_FLAGS = {
    "--allow-empty": "allow_empty=",
    "--allow-missing": "allow_missing=",
    "--allow-time-gap": "allow_time_gap=True",
    "--allow-unverified": "allow_unverified=True",
    "--as": "as_=",
    "--base": "base=True",
    "--create": "create=True",
    "--deep": "deep=True",
    "--from": "from_store=",
    "--keep": "keep=",
    "--keep-daily": "keep_daily=",
    "--keep-monthly": "keep_monthly=",
    "--keep-weekly": "keep_weekly=",
    "--no-maintenance": "maintenance=False",
    "--no-safety-backup": "safety_backup=False",
    "--node": "nodes=",
    "--older-than": "older_than=",
    "--only": "only=",
    "--over": "over=",
    "--over-unconfirmed": "over_unconfirmed=True",
    "--path": "paths=",
    "--secret": "secrets=",
    "--secrets": "secrets=",
    "--table": "tables=",
    "--timeline": "timeline=",
    "--to": "to=",
}
"""The command line's options and their names here; those with a value end in ``=``."""

_OF_FETCH = {"--to": "to_store="}
"""Those that are called otherwise where a backup is fetched."""

_CALLS = {
    "abandon": "site.abandon({})",
    "backup": "site.back_up({})",
    "check": "site.check({})",
    "confirm": "site.confirm({})",
    "drill": "site.drill({})",
    "fetch": "site.fetch({})",
    "get": "site.get({})",
    "history": "site.history({})",
    "list": "site.backups({})",
    "plan": "site.plan({})",
    "prune": "site.plan_prune({}).run()",
    "report": "site.report({})",
    "resume": "site.resume({})",
    "rollback": "site.rollback({})",
    "run": "site.plan({}).run()",
    "status": "site.status({})",
    "unlock": "site.unlock({})",
}

_LEAST = {"get": "ID, paths, to", "prune": "keep=…", "plan": "ID", "run": "ID", "drill": "ID", "fetch": "ID"}
"""What a call needs that is named without anything."""

_WHOLE = {
    "name it with --config FILE or in RESTORE_CONFIG": "Site.open(path) takes its path",
}
"""Hints that are about the program."""

_PHRASES = {
    "`restore run` does so by itself": "`site.bring(ID)` does so where need be, and opens it",
}
"""What the program does and no call of that name here."""

_SPAN = re.compile(r"`([^`]*)`")
_FLAG = re.compile(
    r"(?<![\w-])(--allow-(?:empty|missing) [^\s;,)]+"
    r"|--(?:as|table|timeline|secrets|keep(?:-[a-z]+)?) [A-Z]+\b"
    r"|--(?:over|timeline) \d[\w-]*"
    r"|--older-than \w+|--secret NAME=FILE|--node [\w.-]+=[\w.-]+\b|--to latest"
    r"|--only (?:[A-Z]+\b|\S+?(?=\)|$))"
    r"|--[a-z][a-z-]*)"
)
"""An option in a sentence, with its value where it is certain that the next word is one."""


def here(hint: Optional[str]) -> Optional[str]:
    """The hint in this module's words; what has none here stays as it is."""
    if hint is None or ("`" not in hint and "--" not in hint):
        return hint
    if hint in _WHOLE:
        return _WHOLE[hint]
    for phrase, words in _PHRASES.items():
        hint = hint.replace(phrase, words)
    fetched = re.search(r"\bfetch\b", hint) is not None
    parts: list[str] = []
    at = 0
    for found in _SPAN.finditer(hint):
        program, *rest = found[1].split() or [""]
        # The command of another program has options of its own.
        call = _call(found[0], rest) if program == "restore" and rest else found[0]
        parts += [_flags(hint[at : found.start()], fetched), call]
        at = found.end()
    return "".join([*parts, _flags(hint[at:], fetched)])


def _flags(text: str, fetched: bool) -> str:
    return _FLAG.sub(lambda found: _flag(fetched, *found[1].split(" ", 1)), text)


def _flag(fetched: bool, flag: str, value: str = "…") -> str:
    # A moment is never a store.
    name = _name(flag, fetched and value != "latest")
    if name is None:
        return flag if value == "…" else f"{flag} {value}"
    return _given(name, value) if name.endswith("=") else name


def _name(flag: str, fetched: bool) -> Optional[str]:
    return (_OF_FETCH.get(flag) if fetched else None) or _FLAGS.get(flag)


def _call(command: str, words: list[str]) -> str:
    verb, *rest = words
    if verb == "page" and rest in (["on"], ["off"]):
        return f"`site.page({rest == ['on']})`"
    if (verb, rest) == ("config", ["check"]):
        return "`Site.check_config(path)`"
    members = verb == "show" and "--files" in rest
    placed: list[str] = []
    named: list[str] = []
    values = iter([word for word in rest if not (members and word == "--files")])
    for word in values:
        if not word.startswith("--"):
            placed.append(_value(word))
            continue
        name = _name(word, verb == "fetch")
        if name is None:
            return command  # It is the command line alone that has this.
        named.append(_given(name, next(values, "…")) if name.endswith("=") else name)
    if verb in ("show", "verify"):
        placed = placed or ["ID"]
        if members:
            return f"`site.members({', '.join([*placed, *named])})`"
        opened = f"site.backup({', '.join(placed)})"
        return f"`{opened}.verify({', '.join(named)})`" if verb == "verify" else f"`{opened}`"
    call = _CALLS.get(verb)
    arguments = ", ".join([*placed, *named]) or _LEAST.get(verb, "")
    return command if call is None else f"`{call.format(arguments)}`"


def _given(name: str, value: str) -> str:
    """An argument with its value."""
    secret, equals, file = value.partition("=")
    if name == "secrets=" and equals:
        return f'secrets={{"{secret}": {file}}}'
    if name == "nodes=" and equals:
        return f"nodes={{{_value(secret)}: {_value(file)}}}"
    days = re.fullmatch(r"(\d+)d", value) if name == "older_than=" else None
    if days is not None:
        return f"older_than=timedelta(days={days[1]})"
    return name + _value(value)


def _value(word: str) -> str:
    """``ID`` and ``…`` stand for something; all else is itself."""
    whole = word.isupper() or word.isdigit() or word == "…" or word.startswith(("'", '"'))
    return word if whole else f'"{word}"'
