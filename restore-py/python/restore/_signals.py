"""Signals that ask a program to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Optional

from ._errors import ConfigError
from ._restore import cancel_all


@contextlib.contextmanager
def stop_on_signals(*signals: int) -> Iterator[None]:
    """Within it, SIGTERM, SIGHUP and SIGQUIT (or ``signals``) stop a run as Ctrl-C does, instead of
    killing it in its middle: it undoes itself, and the program ends with ``SystemExit(128 + signal)``.

    ::

        with restore.stop_on_signals():
            plan.run()

    For ``systemctl stop`` and ``docker stop``. Runs that other threads wait for are stopped too.
    Give the undo more time than the ten seconds of ``docker stop``: ``docker stop --time 600``,
    ``TimeoutStopSec=600`` of a systemd unit. To be entered in the main thread, which alone can
    handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError(
            "signals are handled in the main thread alone",
            code="python.not_main_thread",
            hint="enter restore.stop_on_signals() there, around everything else",
        )

    def stop(number: int, frame: Optional[FrameType]) -> None:
        cancel_all()
        raise SystemExit(128 + number)

    before: dict[int, object] = {}
    try:
        for number in signals or (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            before[number] = signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            # One that was not set from Python cannot be brought back, as `signal` says.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
