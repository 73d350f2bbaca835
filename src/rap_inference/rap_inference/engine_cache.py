"""Built engines on disk: found again only where they fit, and never half written.

An engine file begins with one line of JSON that says what the engine was built from and for, and
the hash of what follows. Another network, library version, GPU or precision makes it stale.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine is for; any difference asks for a new one.

    Attributes:
        model: Name of the ONNX file without suffix; part of the file name, for people.
        model_sha256: Of the ONNX file: a retrained network of the same shape is another one.
        library: tensorrt or tensorrt-rtx.
        library_version: Engines run with the version that built them.
        gpu: Name and compute capability; "any" where the library decides at run time.
        precision: tf32 or fp32.
        batch: Longest first axis of the inputs.
    """

    model: str
    model_sha256: str
    library: str
    library_version: str
    gpu: str
    precision: str
    batch: int

    @property
    def file_name(self) -> str:
        """One per network, library and GPU: a new version takes the place of the old one."""
        gpu = "".join(letter if letter.isalnum() else "_" for letter in self.gpu)
        return f"{self.model}-{self.model_sha256[:12]}-{self.library}-{gpu}.engine"


def default_cache_dir() -> Path:
    """Returns the folder for engines of this user. Source: XDG Base Directory Specification."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rap" / "engines"


def find_engine(folder: Path, key: EngineKey) -> bytes | None:
    """Returns a stored engine, or None if there is none, or a stale or damaged one.

    Raises:
        OSError: If there is one that cannot be read.
    """
    try:
        content = (folder / key.file_name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    head, _, plan = content.partition(b"\n")
    return plan if head == _head(key, plan) else None


def store_engine(folder: Path, key: EngineKey, plan: bytes) -> Path:
    """Stores an engine in one step: others see the old file or the whole new one.

    Returns:
        The file.

    Raises:
        OSError: If the folder cannot be made or written, or the disk is full; nothing is left then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # In a folder of its own, because temporary files are for their owner alone, and so they stay.
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{key.file_name}.") as own:
        path = Path(own) / key.file_name
        with path.open("wb") as file:
            file.write(_head(key, plan) + b"\n" + plan)
            file.flush()
            os.fsync(file.fileno())
        return path.replace(folder / key.file_name)


def _head(key: EngineKey, plan: bytes) -> bytes:
    fields = {**asdict(key), "engine_sha256": hashlib.sha256(plan).hexdigest()}
    return json.dumps(fields, sort_keys=True).encode()
