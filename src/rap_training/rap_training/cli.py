"""The `rap-train` command: what its tools raise becomes one line and a non-zero exit status."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command."""
    try:
        # Imported here, because torch comes with the offline tools only.
        from rap_training.commands import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"rap-train: {error.name} is not installed: run make setup")
    try:
        app()
    except (ValueError, OSError) as error:  # all errors of the project are ValueErrors
        sys.exit(f"rap-train: {' '.join(str(error).split())}")
