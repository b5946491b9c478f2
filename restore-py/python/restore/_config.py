"""Which configuration is meant, and secrets in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional, Union

from . import _restore
from ._errors import ConfigError, MissingFileError

VARIABLE = "RESTORE_CONFIG"
PLACES = ("./restore.toml", "/etc/restore/restore.toml")


class Secret:
    """A secret for a configuration that is a dict: ``{"password": Secret(vault.read("db"))}`` instead of
    ``password_file`` or ``password_env``. It reaches nothing but what it opens, and shows itself nowhere."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text:
            raise ConfigError("a secret is a text that is not empty", code="python.argument")
        self._text = text

    def __repr__(self) -> str:
        return "Secret('…')"

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled")


def found(path: Union[str, os.PathLike[str], None]) -> Union[str, os.PathLike[str]]:
    """The configuration: as named, else by the environment, else the first of the usual places."""
    if path is not None:
        return path
    named = os.environ.get(VARIABLE)
    if named:
        return named
    for place in PLACES:
        if os.path.exists(place):
            return os.path.abspath(place)
    raise MissingFileError(
        f"no configuration: {VARIABLE} is not set, and there is no {' and no '.join(PLACES)}",
        code="cli.no_config",
        hint=f"Site.open(path) takes its path, or name it in {VARIABLE}",
    )


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as what the native half reads; its secrets are kept there and named in it."""
    table: dict[str, Any] = _value(config, _DEPTH)
    return table


_DEPTH = 64


def _value(value: Any, depth: int) -> Any:
    if depth == 0:
        raise ValueError("a value is nested too deeply")
    if isinstance(value, Mapping):
        table: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(item, Secret):
                table[f"{key}_env"] = _restore.keep_secret(item._text)
            else:
                table[key] = _value(item, depth - 1)
        return table
    if isinstance(value, (list, tuple)):
        return [_value(item, depth - 1) for item in value]
    return value
