"""Fills the parameter tables of the packages' READMEs from the declarations.

In each `src/<package>/README.md`, what stands between the line `<!-- parameters -->` and the next
heading of level two is replaced. `--check` changes nothing and fails if a table is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rap_bringup.ros.parameter_tables import package_tables

ROOT = Path(__file__).resolve().parent.parent
MARK = "<!-- parameters -->\n"


def filled(readme: str, tables: str) -> str:
    """Returns a README with its tables replaced."""
    head, _, rest = readme.partition(MARK)
    heading = rest.find("\n## ")
    tail = rest[heading:] if heading >= 0 else ""
    return f"{head}{MARK}\n{tables}{tail}"


def main(arguments: list[str]) -> int:
    """Fills all tables; returns 1 if `--check` finds one that is out of date."""
    stale = []
    for path in sorted(ROOT.glob("src/*/README.md")):
        text = path.read_text(encoding="utf-8")
        if MARK not in text:
            continue
        wanted = filled(text, package_tables(path.parent.name))
        if wanted == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in arguments:
            path.write_text(wanted, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run .venv/bin/python tools/readme_parameters.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
