"""Which code made something."""

from __future__ import annotations

import subprocess
from pathlib import Path


def code_revision() -> str:
    """Returns the commit of this code, with `-dirty` where it was changed; or `unknown`."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # Installed, and no checkout.
    return found.stdout.strip()
