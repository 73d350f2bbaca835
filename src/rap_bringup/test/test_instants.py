"""Which of the recorded trajectories the picture of a replay shows."""

from __future__ import annotations

import numpy as np
import pytest
from guard_messages import state_message, trajectory_message

from rap_bringup.bag_types import header, message, serialized
from rap_bringup.instants import trajectory_of_plan
from rap_bringup.recording import OUTPUT_TYPES, RECORDING_NAME, Recording

STAMP_NS = 50_000_000_000
WAITING, NOMINAL = 0, 1


def candidates():
    return message(
        "rap_msgs/msg/TrajectoryCandidates",
        header=header(STAMP_NS, "map"),
        ego_pose=np.zeros(4),
        ego_speed_mps=5.0,
        dt_s=0.5,
        num_candidates=1,
        num_poses=1,
        poses=np.zeros(3),
        scores=np.zeros(1, np.float32),
        uncertainty=0.0,
        command=1,
        command_source="none",
        inference_ms=1.0,
        camera_sources=np.zeros(0, np.uint8),
        alignment_distance=0.0,
    )


@pytest.mark.parametrize("followed", [True, False])
def test_stops_of_the_guard_are_not_what_was_chosen(tmp_path, followed):
    said = [
        ("rap/state", state_message(STAMP_NS, WAITING)),
        ("rap/trajectory", trajectory_message(STAMP_NS, [(2000.0, 0.0)])),
        ("rap/candidates", candidates()),
        ("rap/trajectory", trajectory_message(STAMP_NS, [(2000.0, 0.0)])),
    ]
    if followed:
        said += [
            ("rap/state", state_message(STAMP_NS, NOMINAL)),
            ("rap/trajectory", trajectory_message(STAMP_NS, [(1.0, 0.0), (2.0, 0.0)])),
        ]
    with Recording(tmp_path) as recording:
        for topic, content in said:
            recording.write(STAMP_NS, topic, OUTPUT_TYPES[topic], serialized(content))
    found = trajectory_of_plan(tmp_path / RECORDING_NAME, STAMP_NS)
    assert found.tolist() == ([[1.0, 0.0], [2.0, 0.0]] if followed else [])
