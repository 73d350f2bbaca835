"""Makes the helpers beside the integration tests importable and provides a tiny bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bundles import write_tiny_bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that continues at constant velocity; see `bundles.py`."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))
