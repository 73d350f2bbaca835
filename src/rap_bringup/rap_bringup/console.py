"""How the command lines report progress: one look for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Report(Protocol):
    """Moves a progress bar."""

    def __call__(self, share: float, note: str = "") -> None:
        """Shows that `share` (0..1) is done, and a note behind the bar's name."""


def silent(share: float, note: str = "") -> None:
    """Reports nothing: for callers without a bar."""


@contextmanager
def progress_bar(what: str) -> Iterator[Report]:
    """Yields the function that moves a bar on stderr.

    The bar appears when it is first moved, so that an error before that stays one line.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True))
    task = bars.add_task(what, total=1.0)

    def report(share: float, note: str = "") -> None:
        bars.start()
        bars.update(task, completed=share, description=f"{what}{note}")

    try:
        yield report
    finally:
        if bars.live.is_started:
            bars.stop()
