"""A long call under way."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Optional, TypeVar, Union

from . import _restore
from ._arguments import wrong
from ._base import Value
from ._decode import decode
from ._errors import RestoreError, stopped
from ._events import Event, EventPhase, parse
from ._task import OnEvent, OnEventAsync, drive, news, settle, wait

if TYPE_CHECKING:
    from ._report import Report
    from ._site_base import SiteBase

T = TypeVar("T")

CallState = Literal["not_begun", "under_way", "stopping", "done", "failed"]
"""How far a call is."""


@dataclass(frozen=True, repr=False)
class RunProgress(Value):
    """How far a call has come."""

    fraction: float
    """From 0 to 1, and never less than before; 1 once it has ended well."""
    left_seconds: Optional[float]
    """About how many seconds it still takes, where that can be told."""
    what: str
    """What is done right now, in a few words."""
    phase: Optional[EventPhase] = None
    """The part of the run that is under way."""

    def __str__(self) -> str:
        left = "" if self.left_seconds is None else f", {self.left_seconds:.0f} s left"
        return f"{self.fraction:.0%}{left} {self.what}".rstrip()


class Run(Generic[T]):
    """A long call: a restore, a drill, a backup, a verification, a fetch, a rollback, a confirmation.

    ::

        with plan.start() as run:
            for event in run:
                print(event)
        print(run.report)

        for progress in run.progress():
            bar.update(progress.fraction)

    It works on its own threads, whoever watches; several may follow it, each hears all from the
    first event on. Iterating over the run itself owns it: leaving a ``with`` block early waits for the
    end; leaving it by an exception stops the run, waits for its undo, and lets the exception go on.
    What only follows, :meth:`events` and :meth:`progress`, stops nothing when it goes away, but Ctrl-C
    always does. A call that did not end as asked raises at the end of an iteration. A run that nobody
    holds any more undoes itself. ``async with`` and ``async for`` do the same on an asyncio loop.
    """

    def __init__(self, task: _restore.Task) -> None:
        self._task = task
        self._result: Optional[T] = None
        self._error: Optional[BaseException] = None
        self._over = False
        self._own: Optional[Events] = None
        self._ending = threading.Lock()

    @classmethod
    def attach(cls, site: SiteBase, run: Union[str, Report, None] = None) -> Run[Report]:
        """Follows a run (``None``: the newest) of whatever process by its journal: see
        :meth:`Site.attach`."""
        from ._site_base import SiteBase

        if not isinstance(site, SiteBase):
            raise wrong("site", "a Site", site, "restore.Run.attach(restore.Site.open(path), run)")
        return site.attach(run)

    @property
    def id(self) -> Optional[str]:
        """The run's id, once there is one; what is no run has none."""
        return self._task.id

    @property
    def state(self) -> CallState:
        """How far it is."""
        state: CallState = self._task.state
        return state

    @property
    def report(self) -> T:
        """What came of it, once it has ended; raises where it did not end as asked."""
        if not self._over and self.state in ("done", "failed"):
            self._finish()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RestoreError("the run has not ended", code="python.not_ended")
        return self._result

    def start(self) -> Run[T]:
        """Begins it, where nobody has; itself."""
        self._task.start()
        return self

    def cancel(self) -> None:
        """Stops the run, which then undoes itself: go on iterating, or :meth:`wait`."""
        self._task.cancel()

    def wait(self) -> T:
        """Waits for the end without looking at events."""
        for _ in Events(self, owns=True):
            pass
        return self.report

    async def wait_async(self) -> T:
        """The same on an asyncio loop."""
        async for _ in Events(self, owns=True):
            pass
        return self.report

    def events(self) -> Events:
        """Its events from the first on, for one more who follows."""
        return Events(self, owns=False)

    def progress(self) -> ProgressUpdates:
        """How far it has come, from now to its end."""
        return ProgressUpdates(self)

    def progress_now(self) -> RunProgress:
        """How far it has come by now."""
        return decode(RunProgress, self._task.progress())

    def __iter__(self) -> Events:
        return Events(self, owns=True)

    def __aiter__(self) -> Events:
        return Events(self, owns=True)

    def __next__(self) -> Event:
        if self._own is None:
            self._own = Events(self, owns=True)
        return next(self._own)

    def __enter__(self) -> Run[T]:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._over:
            return
        if error is None:
            self.wait()
            return
        self._task.cancel()
        self._task.drain()
        self._finish()
        self._reraise(error, stopped(error, self._error or self._result))

    async def __aenter__(self) -> Run[T]:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._over:
            return
        if error is None:
            await self.wait_async()
            return
        self._task.cancel()
        raised = await settle(self._task, error)
        self._reraise(error, self._end(raised))

    def _wait(self, on_event: Optional[OnEvent] = None) -> T:
        result: T = wait(self._task, on_event)
        return result

    async def _drive(self, on_event: Optional[OnEventAsync] = None) -> T:
        result: T = await drive(self._task, on_event)
        return result

    def _finish(self) -> None:
        """Notes what came of it: whoever of several that follow is the first to hear of it."""
        with self._ending:
            if self._over:
                return
            try:
                self._result = self._task.result()
            except RestoreError as error:
                self._error = error
            self._over = True

    def _end(self, error: BaseException) -> BaseException:
        """Ends by an exception that is for whoever waited, and for nobody else: the others hear what came of the
        call."""
        with contextlib.suppress(Exception):
            if self.state in ("done", "failed"):
                self._finish()
        return error

    @staticmethod
    def _reraise(error: BaseException, raised: BaseException) -> None:
        """The exception that leaves a ``with`` block goes on by itself, unless it is another."""
        if raised is not error:
            raise raised

    def __repr__(self) -> str:
        try:
            return f"<restore.Run {self.id or 'without an id'}: {self.state}>"
        except RestoreError as error:  # A forked child has the handle, and not the run.
            return f"<restore.Run: {error.code}>"


class Events:
    """The events of a call, from the first on: an iterator, and one for asyncio."""

    def __init__(self, run: Run[Any], *, owns: bool) -> None:
        self._run = run
        self._owns = owns
        self._follower = run._task.follow()
        self._ready: list[Event] = []

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        if self._ready:
            return self._ready.pop(0)
        if self._run._over and self._run._error is not None and self._owns:
            raise self._run._error
        try:
            value = self._follower.next()
        except BaseException as error:
            raise self._run._end(error)
        if value is not None:
            return parse(value)
        self._raise()
        raise StopIteration

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        over = False
        while not self._ready and not over:
            task = self._run._task if self._owns else None
            try:
                values, over = await news(self._follower, task)
            except BaseException as error:
                if task is None:
                    raise
                task.cancel()
                raise self._run._end(await settle(task, error))
            self._ready += [parse(value) for value in values]
        if self._ready:
            return self._ready.pop(0)
        self._raise()
        raise StopAsyncIteration

    def _raise(self) -> None:
        """At the end: what the call raises."""
        self._run._finish()
        if self._run._error is not None:
            raise self._run._error


class ProgressUpdates:
    """How far a call has come, from now to its end: an iterator, and one for asyncio. Ten a second at
    most."""

    def __init__(self, run: Run[Any]) -> None:
        self._run = run
        self._follower = run._task.follow()
        self._last: Optional[RunProgress] = None
        self._over = False

    def __iter__(self) -> ProgressUpdates:
        return self

    def __next__(self) -> RunProgress:
        while not self._over:
            try:
                value = self._follower.next()
            except BaseException as error:
                raise self._run._end(error)
            _, self._over = self._follower.ready()
            if value is not None and not self._over:
                time.sleep(_PAUSE)
            progress = self._news()
            if progress is not None:
                return progress
        self._raise()
        raise StopIteration

    def __aiter__(self) -> ProgressUpdates:
        return self

    async def __anext__(self) -> RunProgress:
        import asyncio

        while not self._over:
            _, self._over = await news(self._follower)
            if not self._over:
                await asyncio.sleep(_PAUSE)
            progress = self._news()
            if progress is not None:
                return progress
        self._raise()
        raise StopAsyncIteration

    def _news(self) -> Optional[RunProgress]:
        now = self._run.progress_now()
        last = self._last
        if last is not None and (last.fraction, last.what) == (now.fraction, now.what):
            return None
        self._last = now
        return now

    def _raise(self) -> None:
        self._run._finish()
        if self._run._error is not None:
            raise self._run._error


_PAUSE = 0.1
