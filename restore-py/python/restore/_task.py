"""Waiting for the native half's work: blocking, or on an asyncio loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Optional, Union

from . import _restore
from ._errors import RestoreError, stopped
from ._events import Event, parse

OnEvent = Callable[[Event], object]
"""Takes events in the thread that waits. What it raises stops the run, which is then undone."""

OnEventAsync = Callable[[Event], Union[object, Awaitable[object]]]
"""The same on the loop; may be a coroutine function."""


def wait(task: _restore.Task, on_event: Optional[OnEvent] = None) -> Any:
    """Waits where it stands. Signals are handled meanwhile: Ctrl-C stops the work, and
    ``KeyboardInterrupt`` is raised once it has ended."""
    if on_event is None:
        return task.wait()
    take = on_event
    return task.wait(lambda value: take(parse(value)))


async def drive(task: _restore.Task, on_event: Optional[OnEventAsync] = None) -> Any:
    """Waits on the running loop. A cancelled wait stops the work, and ``CancelledError`` is raised
    once it has ended."""
    while True:
        try:
            values, over = await news(task)
            for value in values:
                if on_event is not None:
                    answer = on_event(parse(value))
                    if inspect.isawaitable(answer):
                        await answer
        except BaseException as reason:
            task.cancel()
            raise await settle(task, reason)
        if over:
            return task.result()


async def news(task: _restore.Task) -> tuple[Sequence[dict[str, Any]], bool]:
    """Waits for events, begins the task where it is not begun. With the last of them: true."""
    import asyncio  # Programs without it need not wait for it.

    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(arrived.set)
        except RuntimeError:
            task.cancel()  # The loop was closed on us: nobody waits any more.

    task.start(wake)
    await arrived.wait()
    over = task.ended
    return task.events(), over


async def settle(task: _restore.Task, reason: BaseException) -> BaseException:
    """Waits for the end of a task that ``reason`` stopped; the exception to raise, which says how
    it ended. An undo is not broken off: to be cancelled once more changes nothing."""
    import asyncio

    over = False
    while not over:
        try:
            _, over = await news(task)
        except asyncio.CancelledError:
            continue
        except RestoreError as error:
            return error  # It could not even begin.
    outcome: object
    try:
        outcome = task.result()
    except Exception as error:
        outcome = error
    return stopped(reason, outcome)
