"""What all values have: a short text, a table for notebooks, and a way into and out of JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Optional, TypeVar

from ._decode import decode
from ._errors import RestoreError
from ._hints import here

V = TypeVar("V", bound="Value")

_LONGEST = 60


class Documented(type):
    """Puts what is written below each field into the class's documentation, once somebody asks: ``help()``
    would not show it."""

    @property
    def __doc__(cls) -> Optional[str]:  # type: ignore[override]
        own: Optional[str] = cls.__dict__.get("__doc__")
        # While `dataclass` works on it there is nothing to show yet.
        if own is None or "__match_args__" not in cls.__dict__:
            return own
        fields = _field_docs(cls)
        if not fields:
            return own
        lines = [f"    {name}: {text}" for name, text in fields.items()]
        return "\n".join([own, "", "    Fields:", *lines])


def _field_docs(cls: type) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return {}
    (made,) = tree.body
    docs: dict[str, str] = {}
    name: Optional[str] = None
    for node in getattr(made, "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if ast.unparse(node.annotation).startswith("ClassVar"):
                name = None
                continue
            name = node.target.id
            docs[name] = ast.unparse(node.annotation)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            docs[name] += f". {' '.join(str(node.value.value).split())}"
            name = None
        else:
            name = None
    return docs


class Value(metaclass=Documented):
    """A value of this module: compared by what it holds, pickled, saved as JSON, shown as a table."""

    def to_dict(self) -> dict[str, Any]:
        """The value as what JSON knows."""
        return {it.name: _plain(getattr(self, it.name)) for it in _fields(self)}

    @classmethod
    def from_dict(cls: type[V], value: Mapping[str, Any]) -> V:
        """A value that :meth:`to_dict` had saved."""
        return decode(cls, dict(value))

    def __repr__(self) -> str:
        shown = (f"{it.name}={_short(getattr(self, it.name))}" for it in _fields(self))
        return f"restore.{type(self).__name__}({', '.join(shown)})"

    def _repr_html_(self) -> str:
        from . import _html

        return _html.value(self)


class Hinted(Value):
    """A value with a hint, which names what one would call here."""

    def __post_init__(self) -> None:
        # Frozen values too.
        object.__setattr__(self, "hint", here(getattr(self, "hint", None)))


def _fields(value: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return value.to_dict()
    if isinstance(value, RestoreError):
        return value.to_dict()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _short(value: Any) -> str:
    if isinstance(value, Value):
        return f"<{type(value).__name__}>"
    if isinstance(value, (tuple, list, dict)) and len(repr(value)) > _LONGEST:
        return f"<{len(value)}>"
    text = str(value) if isinstance(value, (datetime, Path)) else repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
