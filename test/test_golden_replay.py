"""The first seconds of the demo drive against committed plans.

`.venv/bin/python tools/golden_replay.py` makes them anew.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden import GOLDEN, plans, replayed, sources, trajectories

pytestmark = pytest.mark.ros

TOLERANCE_M = 0.05
"""Other processors and versions of ONNX Runtime round differently: millimetres in a pose. The
planner's proposals lie decimetres apart, so another choice, calibration, history or time base is
far outside."""

MAX_UNANSWERED = 2
"""Steps at the begin, when the guard may not have received any odometry yet."""

FOLLOWED = 0.9
"""The guard may hold what it follows, or follow the next best candidate, in some steps."""


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def out(golden, tmp_path_factory):
    assert golden["sources"] == sources(), "run .venv/bin/python tools/golden_replay.py"
    return replayed(tmp_path_factory.mktemp("golden"))


def test_every_plan_is_the_golden_one_and_is_what_is_published(golden, out):
    found, published = plans(out), trajectories(out)
    steps = [int(stamp) for stamp in golden["plans"] if int(stamp) in found]
    assert len(steps) >= len(golden["plans"]) - MAX_UNANSWERED
    followed = 0
    for stamp in steps:
        expected = np.array(golden["plans"][str(stamp)])
        away_m = np.linalg.norm(found[stamp] - expected, axis=1)
        assert away_m.max() <= TOLERANCE_M, (stamp, away_m)
        if stamp in published:
            followed += np.linalg.norm(published[stamp] - expected, axis=1).max() <= TOLERANCE_M
    assert followed >= FOLLOWED * len(steps)


def test_every_step_is_answered_in_time(out):
    """Drive time waits for the plan, so these do not depend on how busy the machine is."""
    summary = json.loads((out / "summary.json").read_text())
    assert summary["steps"] == 41
    assert summary["trajectories"] >= 41 - MAX_UNANSWERED
    assert summary["max_gap_s"] <= 0.3
    assert summary["feature_source"]["raster"] == summary["feature_source"]["missing"] == 0
