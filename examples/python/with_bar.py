"""Restores the newest backup with a progress bar: with_bar.py [restore.toml]

The bar is that of tqdm or of rich, whichever is installed; without them, lines.

The smallest of it:

    with plan.start() as run:
        for progress in run.progress():
            bar.update(progress.fraction)
"""

from __future__ import annotations

import sys
from typing import Any

import restore


def with_tqdm(run: restore.Run[Any], tqdm: Any) -> None:
    with tqdm(total=100, unit="%", file=sys.stderr) as bar:
        for progress in run.progress():
            bar.set_description_str(progress.what)
            bar.update(round(progress.fraction * 100) - bar.n)


def with_rich(run: restore.Run[Any], bars: Any) -> None:
    with bars:
        bar = bars.add_task("restore", total=1.0)
        for progress in run.progress():
            bars.update(bar, completed=progress.fraction, description=progress.what)


def with_lines(run: restore.Run[Any]) -> None:
    for progress in run.progress():
        print(progress, file=sys.stderr)


def follow(run: restore.Run[Any]) -> None:
    try:
        from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

        return with_tqdm(run, tqdm)
    except ImportError:
        pass
    try:
        from rich.console import Console  # type: ignore[import-not-found, unused-ignore]
        from rich.progress import Progress  # type: ignore[import-not-found, unused-ignore]

        return with_rich(run, Progress(console=Console(stderr=True)))
    except ImportError:
        return with_lines(run)


if __name__ == "__main__":
    with restore.stop_on_signals(), restore.Site.open(*sys.argv[1:2]).plan("latest").start() as run:
        follow(run)
    print(run.report)
