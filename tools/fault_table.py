"""Writes `docs/faults.md` from the table that `test/test_faults.py` tests.

`--check` changes nothing and fails if the page is out of date.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "faults.md"


def main(arguments: list[str]) -> int:
    """Writes the page; returns 1 if `--check` finds it out of date."""
    sys.path.insert(0, str(ROOT / "test"))
    wanted: str = import_module("fault_rows").faults_page()
    if "--check" not in arguments:
        PAGE.write_text(wanted, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != wanted:
        print("out of date: docs/faults.md; run .venv/bin/python tools/fault_table.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
