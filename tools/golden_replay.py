"""Makes `data/golden_drive.json` anew: what the shipped bundle answers on the demo drive.

Run it where the bundle, the drive or the planning changed and should have, and commit the file.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Plays the drive and writes the plans."""
    sys.path.insert(0, str(ROOT / "test"))
    golden = import_module("golden")
    with tempfile.TemporaryDirectory() as folder:
        out = golden.replayed(Path(folder))
        print(f"{golden.GOLDEN}: {golden.write(out)} plans")


if __name__ == "__main__":
    main()
