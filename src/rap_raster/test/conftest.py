"""Makes the reference rasterizer importable: test folders are not on the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "reference_rasterizer"
_SPEC = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name(f"{_NAME}.py"))
sys.modules[_NAME] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules[_NAME])
