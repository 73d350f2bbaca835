"""Arrays on disk that are dear to make, and the same in every evaluation of the same scenes."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Part = str | int | npt.NDArray[Any]
"""What an array depends on."""


class KeptArrays:
    """A folder of arrays, or none; any number of processes may share it.

    An array is found by all that decides it except code: where the code that makes it changes, the
    folder has to be another one.
    """

    def __init__(self, folder: Path | None) -> None:
        """Uses a folder, which is made when the first array is kept; None keeps nothing."""
        self._folder = folder

    def array(
        self,
        kind: str,
        make: Callable[[], npt.NDArray[Any]],
        decisive: Callable[[], Iterable[Part]],
    ) -> npt.NDArray[Any]:
        """Returns what `make` returns, made now or kept.

        Args:
            kind: What it is; names a folder within the folder.
            make: Makes it.
            decisive: Returns all that decides it. Only asked where arrays are kept.
        """
        if self._folder is None:
            return make()
        name = content_digest(decisive())
        path = self._folder / kind / name[:2] / f"{name}.npy"
        try:
            kept: npt.NDArray[Any] = np.load(path)
            return kept
        except (FileNotFoundError, ValueError, EOFError):  # The latter are what power cuts leave.
            made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{name}.{socket.gethostname()}-{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.save(file, made)
        partial.replace(path)
        return made


KEEP_NOTHING = KeptArrays(None)
"""Makes everything anew."""


def content_digest(parts: Iterable[Part]) -> str:
    """Returns the SHA-256 of texts, numbers and arrays in their order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(f"{part!r},".encode())
    return digest.hexdigest()
