"""What is told about recordings that can hardly be true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rap_evaluation.logs.plausibility import doubts
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.recorder import RecordOptions, record
from rap_evaluation.traffic.towns import map_path
from rap_raster.maps.map_file import load_map


@pytest.fixture(scope="module")
def recording():
    return record(map_path("Town02"), RecordOptions(15.0, 3, 20, 0), default_cache())


def driven(recording, change):
    """The recording, the states of its vehicle changed by a function of (n, 7) states."""
    tracks = recording.tracks
    row = tracks.ids.tolist().index(recording.egos[0])
    states = tracks.states.copy()
    own = slice(tracks.offsets[row], tracks.offsets[row + 1])
    states[own] = change(states[own].copy())
    return replace(recording, tracks=replace(tracks, states=states))


def jumping(states):
    states[len(states) // 2 :, :2] += 3.0
    return states


def without_speeds(states):
    states[:, 4:6] = 0.0
    return states


def test_a_drive_that_can_be_true_has_no_doubts(recording):
    assert doubts(recording) == []


def test_a_jump_of_the_odometry_is_told(recording):
    assert doubts(driven(recording, jumping)) == [
        "jumps in the odometry: 1; samples near them are of no use"
    ]


def test_speeds_that_are_not_those_of_the_poses_are_told(recording):
    (line,) = doubts(driven(recording, without_speeds))
    assert line.startswith("speeds of the odometry differ from its poses by ")


def test_the_map_of_another_town_is_told(recording):
    other = load_map(map_path("Town05"))
    (line,) = doubts(replace(recording, map=other))
    assert line.endswith(
        "% of the drive is off the drivable area: is the map complete, and of this place?"
    )
    assert float(line.split()[0]) > 30.0
    assert np.isfinite(recording.tracks.states).all()
