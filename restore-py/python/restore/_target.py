"""The moment that databases are recovered to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional, Union

from ._arguments import number, wrong
from ._base import Value

Native = tuple[str, str, bool, Optional[int]]
"""A target as the native half takes it: what the text is, the text, and the way there."""


@dataclass(frozen=True, repr=False)
class RecoveryTarget(Value):
    """A moment that a PostgreSQL cluster is recovered to: one of the first four.

    ``RecoveryTarget(time="2024-02-15 10:00:00 UTC")``, ``RecoveryTarget(lsn="1/A2000028")``.
    """

    time: Union[str, datetime, None] = None
    """What had been committed then: a text with its zone, ``latest``, or an aware datetime, which is kept as such a
    text."""
    lsn: Optional[str] = None
    """A place in the write-ahead log."""
    xid: Optional[int] = None
    """The end of a transaction, by its id."""
    name: Optional[str] = None
    """A restore point, made by ``pg_create_restore_point``."""
    inclusive: bool = True
    """Whether what happened exactly there is taken."""
    timeline: Optional[int] = None
    """The timeline to follow; ``None``: the live server's."""

    def __post_init__(self) -> None:
        # What is saved is a text: what comes back is to be the same.
        object.__setattr__(self, "time", _text(self.time))

    def _native(self) -> Native:
        given = {
            "time": self.time,
            "lsn": self.lsn,
            "xid": None if self.xid is None else str(self.xid),
            "name": self.name,
        }
        named = [(kind, text) for kind, text in given.items() if text is not None]
        if len(named) != 1:
            raise ValueError("a recovery target is one of time, lsn, xid and name")
        kind, text = named[0]
        if not isinstance(text, str):
            raise wrong(kind, "a text", text)
        return kind, text, self.inclusive, number("timeline", self.timeline, 2**32 - 1)


Moment = Union[str, datetime, RecoveryTarget]
"""``latest``, a time with its zone, an aware datetime, or a :class:`RecoveryTarget`."""


def native(to: Optional[Moment]) -> Optional[Native]:
    """What the native half is told."""
    if to is None or isinstance(to, RecoveryTarget):
        return None if to is None else to._native()
    return RecoveryTarget(time=to)._native()


def _text(time: Union[str, datetime, None]) -> Optional[str]:
    if not isinstance(time, datetime):
        return time
    # Without a zone the library says what is wrong with it.
    return time.isoformat(sep=" ", timespec="microseconds")
