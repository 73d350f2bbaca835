"""Reading the JSON files of recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rap_bringup.drives.recorded_drive import DriveError

Json = Any


def read_json(path: Path) -> Json:
    """Parses a JSON file.

    Raises:
        DriveError: If it cannot be read or is no JSON; the text names the file in one line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DriveError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DriveError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
