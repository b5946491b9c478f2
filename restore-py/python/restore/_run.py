"""A run under way."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Optional

from . import _restore
from ._errors import RestoreError, stopped
from ._events import Event, parse
from ._report import Report
from ._task import news, settle


class Run:
    """A run as something to iterate over: events, one by one, until it has ended.

    ::

        with plan.start() as run:
            for event in run:
                print(event)
        print(run.report)

    It begins with the first event that is asked for. A run that does not end as asked raises at
    the end of the iteration. Leaving the ``with`` block early waits for the end; leaving it by an
    exception stops the run, waits for its undo, and lets the exception go on. A run that nobody
    holds any more undoes itself. ``async with`` and ``async for`` do the same on an asyncio loop.
    """

    def __init__(self, task: _restore.Task) -> None:
        self._task = task
        self._report: Optional[Report] = None
        self._error: Optional[BaseException] = None
        self._over = False
        self._events: list[Event] = []
        self._ending = threading.Lock()

    @property
    def report(self) -> Report:
        """What the run did, once it has ended; raises where it did not end as asked."""
        if self._error is not None:
            raise self._error
        if self._report is None:
            raise RestoreError("the run has not ended", code="python.not_ended")
        return self._report

    def cancel(self) -> None:
        """Stops the run, which then undoes itself: go on iterating, or :meth:`wait`."""
        self._task.cancel()

    def wait(self) -> Report:
        """Waits for the end without looking at further events."""
        for _ in self:
            pass
        return self.report

    async def wait_async(self) -> Report:
        """The same on an asyncio loop."""
        async for _ in self:
            pass
        return self.report

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> Event:
        while not self._over:
            try:
                value = self._task.next()
            except BaseException as error:
                raise self._end(error)
            if value is not None:
                return parse(value)
            self._finish()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def __enter__(self) -> Run:
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
        self._reraise(error, stopped(error, self._error or self._report))

    def __aiter__(self) -> Run:
        return self

    async def __anext__(self) -> Event:
        while not self._events and not self._over:
            try:
                values, over = await news(self._task)
            except BaseException as error:
                self._task.cancel()
                raise self._end(await settle(self._task, error))
            self._events += [parse(value) for value in values]
            if over:
                self._finish()
        if self._events:
            return self._events.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def __aenter__(self) -> Run:
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

    def _finish(self) -> None:
        """Takes what came of it: once, whoever of several that iterate is the first to hear of it."""
        with self._ending:
            if self._over:
                return
            try:
                self._report = self._task.result()
            except RestoreError as error:
                self._error = error
            self._over = True

    def _end(self, error: BaseException) -> BaseException:
        """Ends by an exception."""
        self._over = True
        self._error = error
        return error

    @staticmethod
    def _reraise(error: BaseException, raised: BaseException) -> None:
        """The exception that leaves a ``with`` block goes on by itself, unless it is another."""
        if raised is not error:
            raise raised
