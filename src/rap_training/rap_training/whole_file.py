"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Opens a file for writing; until it is closed without an error, a former one stays.

    What is written has a name of its own: on a cluster, a worker that was given up may still be at
    the same file.

    Args:
        path: Its final name.
        durable: Whether it must survive a power cut. Waiting for the disk takes longer than most
            files take to make.
    """
    partial = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    with partial.open("wb") as file:
        yield file
        if durable:
            file.flush()
            os.fsync(file.fileno())
    partial.replace(path)


def remove_partial(path: Path) -> None:
    """Removes what killed processes have left of a file that nobody else writes any more."""
    for left_over in path.parent.glob(f"{path.name}.*.partial"):
        left_over.unlink(missing_ok=True)
