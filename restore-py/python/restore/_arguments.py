"""What is wrong with an argument, said before the native half sees it."""

from __future__ import annotations

from typing import Optional, overload

from ._errors import ConfigError


def wrong(name: str, expected: str, value: object, hint: Optional[str] = None) -> ConfigError:
    """The exception for an argument of a kind or size that makes no sense."""
    return ConfigError(
        f"{name} must be {expected}, not {value!r}", code="python.argument", hint=hint
    )


@overload
def number(name: str, value: int, most: int) -> int: ...
@overload
def number(name: str, value: Optional[int], most: int) -> Optional[int]: ...
def number(name: str, value: Optional[int], most: int) -> Optional[int]:
    """A whole number from 0 to ``most``."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        upper = f"from 0 to {most}" if most < 2**31 else "of 0 or more"
        raise wrong(name, f"a whole number {upper}", value)
    return value
