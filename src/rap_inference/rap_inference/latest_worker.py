"""One worker thread that always takes the newest input and drops what it could not keep up with.

Network calls release the interpreter lock, so a node stays responsive while its worker runs; a
queue would only make every answer older.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """What a worker did since it was started.

    Attributes:
        submitted: Items handed in.
        dropped: Items replaced by a newer one before their turn came.
        finished: Items processed without an error.
        failed: Items whose processing raised.
    """

    submitted: int
    dropped: int
    finished: int
    failed: int


class LatestWorker(Generic[Item]):
    """Runs a function on the newest submitted item, in a thread of its own."""

    def __init__(
        self,
        process: Callable[[Item], None],
        on_error: Callable[[Exception], None],
        *,
        name: str,
    ) -> None:
        """Starts the thread.

        Args:
            process: Called in the worker thread, one item at a time.
            on_error: Called in the worker thread with what `process` raised; work goes on.
            name: Thread name, for debuggers and logs.
        """
        self._process = process
        self._on_error = on_error
        self._changed = threading.Condition()
        self._pending: list[Item] = []
        self._stopping = False
        self._submitted = self._dropped = self._finished = self._failed = 0
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def counts(self) -> WorkerCounts:
        """A consistent copy of the counters."""
        with self._changed:
            return WorkerCounts(self._submitted, self._dropped, self._finished, self._failed)

    def submit(self, item: Item) -> None:
        """Hands in an item; replaces one that is still waiting."""
        with self._changed:
            self._submitted += 1
            self._dropped += len(self._pending)
            self._pending = [item]
            self._changed.notify()

    def stop(self) -> None:
        """Lets the running item finish, drops a waiting one and ends the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or bool(self._pending))
                if self._stopping:
                    return
                item = self._pending.pop()
            self._run(item)

    def _run(self, item: Item) -> None:
        try:
            self._process(item)
        except Exception as error:  # whatever a step raises is reported, and the thread lives on
            with self._changed:
                self._failed += 1
            self._on_error(error)
        else:
            with self._changed:
                self._finished += 1
