"""Waiting for the native half's work: blocking, or on an asyncio loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Optional, TypeVar, Union

from . import _restore
from ._arguments import callback
from ._errors import RestoreError, stopped
from ._events import Event, parse

OnEvent = Callable[[Event], object]
"""Takes events in the thread that waits. What it raises stops the run, which is then undone."""

OnEventAsync = Callable[[Event], Union[object, Awaitable[object]]]
"""The same on the loop; may be a coroutine function."""

F = TypeVar("F", bound=Callable[..., Any])


def long(maker: F) -> F:
    """Marks what makes a long call: ``scripts/python-calls.py`` writes from ``_x`` the methods ``x``,
    ``x_async`` and ``start_x``."""
    return maker


def short(maker: F) -> F:
    """Marks what makes a short call: from ``_x`` come the methods ``x`` and ``x_async``."""
    return maker


def wait(task: _restore.Task, on_event: Optional[OnEvent] = None) -> Any:
    """Waits where it stands. Signals are handled meanwhile: Ctrl-C stops the work, and
    ``KeyboardInterrupt`` is raised once it has ended."""
    callback(on_event)
    if on_event is None:
        return task.wait()
    take = on_event
    return task.wait(lambda value: take(parse(value)))


async def drive(task: _restore.Task, on_event: Optional[OnEventAsync] = None) -> Any:
    """Waits on the running loop. A cancelled wait stops the work, and ``CancelledError`` is raised
    once it has ended."""
    callback(on_event)
    follower = task.follow()
    while True:
        try:
            values, over = await news(follower, task)
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


async def news(
    follower: _restore.Follower, owned: Optional[_restore.Task] = None
) -> tuple[Sequence[dict[str, Any]], bool]:
    """Waits for events, begins the task where it is not begun. With the last of them: true. Where the
    loop is closed meanwhile, the task that is ``owned`` by whoever waits is stopped."""
    import asyncio  # Programs without it need not wait for it.

    values, over = follower.ready()
    if values or over:
        return values, over
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(arrived.set)
        except RuntimeError:
            if owned is not None:
                owned.cancel()  # The loop was closed on us: nobody waits any more.

    follower.wake(wake)
    await arrived.wait()
    return follower.ready()


async def settle(task: _restore.Task, reason: BaseException) -> BaseException:
    """Waits for the end of a task that ``reason`` stopped; the exception to raise, which says how
    it ended. An undo is not broken off: to be cancelled once more changes nothing."""
    import asyncio

    follower = task.follow()
    over = False
    while not over:
        try:
            _, over = await news(follower, task)
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
