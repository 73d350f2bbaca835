"""The `rap-train` command: what its tools raise becomes one line and a non-zero exit status."""

from __future__ import annotations

import sys
from itertools import dropwhile


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
        sys.exit(f"rap-train: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    """Returns what an error says; of one from a loader process, without the traceback in it."""
    text = str(error)
    if "\nOriginal Traceback" in text:
        innermost = text.rpartition('\n  File "')[2].splitlines()
        told = dropwhile(lambda line: line.startswith(" "), innermost[1:])
        text = "\n".join(told).partition(": ")[2] or text
    return " ".join(text.split())
