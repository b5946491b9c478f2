"""From what the native half gives (what JSON knows) to typed values."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar, Union

T = TypeVar("T")


def moment(text: str) -> datetime:
    """An RFC 3339 moment in UTC, as an aware datetime."""
    whole, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    micros = int(fraction.ljust(6, "0")[:6]) if fraction else 0
    return datetime.fromisoformat(whole).replace(microsecond=micros, tzinfo=timezone.utc)


def decode(cls: type[T], value: dict[str, Any]) -> T:
    """A dataclass from a dict of the same names. Keys that it does not have are left out, so that
    a report that a newer version saved can still be read."""
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    return cls(**{name: _value(hints[name], value[name]) for name in hints if name in value})


@functools.lru_cache(maxsize=None)
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _value(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _value(next(arg for arg in args if arg is not type(None)), value)
    if origin is tuple:
        return tuple(_value(args[0], item) for item in value)
    if hint is Path:
        return Path(value)
    if hint is datetime:
        return moment(value)
    if isinstance(hint, type) and issubclass(hint, BaseException) and isinstance(value, dict):
        from ._errors import make

        return make(**value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value)
    return value
