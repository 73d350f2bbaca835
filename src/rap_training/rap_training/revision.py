"""Which code made something."""

from __future__ import annotations

import subprocess
from pathlib import Path

_PACKAGES = Path(__file__).parents[2]


def code_revision() -> str:
    """Returns the last commit that changed these packages; or `unknown`.

    With `-dirty` where they are changed since. Documents and results beside them do not count.
    """
    try:
        commit = _git("rev-list", "-1", "--abbrev-commit", "--abbrev=12", "HEAD", "--", ".")
        changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # Installed, and no checkout.
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if changes else commit


def _git(*arguments: str) -> str:
    found = subprocess.run(
        ["git", *arguments], cwd=_PACKAGES, check=True, capture_output=True, text=True
    )
    return found.stdout.strip()
