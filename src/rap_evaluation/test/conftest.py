"""Makes the helpers of the tests importable: test folders are not on the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for _name in ("expert_scenes",):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).with_name(f"{_name}.py"))
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])
