"""Recorded drives as logs: what was sensed must come back from the log, at its own stamps."""

import os
from pathlib import Path

import numpy as np
import pytest

from rap_bringup.drives.nuscenes import read_nuscenes
from rap_bringup.drives.recorded_drive import DriveError, RecordedDrive, RecordedObjects
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.drive_recording import EGO_ID, STEP_NS, recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_raster.ego_history import EgoState
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import Boxes, Lights, Shapes

SPEED_MPS, TURN_RADPS = 8.0, 0.2
LINE = np.column_stack([np.arange(0.0, 200.0), np.zeros(200), np.zeros(200)])
MAP = VectorMap("road", Shapes.from_list([]), Shapes.from_list([]), {"a": Lane("a", LINE)})


def ego_at(stamp_ns):
    """On a circle: speed and yaw rate are constant."""
    t = stamp_ns * 1e-9
    yaw, radius = TURN_RADPS * t, SPEED_MPS / TURN_RADPS
    x, y = radius * np.sin(yaw), radius * (1 - np.cos(yaw))
    return EgoState(stamp_ns, x, y, 0.5, yaw, SPEED_MPS, 0.0, TURN_RADPS)


def objects_at(stamp_ns, number=7):
    t = stamp_ns * 1e-9
    row = [number, 1, 20 + 5 * t, 3, 1.8, 4, 1.8, 1.6, 0.1, 0, 0]
    return RecordedObjects(stamp_ns, Boxes.from_rows([row]), Lights.empty())


def make_drive(*, seconds=4.0, object_stamps=None, vector_map=MAP):
    stamps = np.arange(0, round(seconds * 1e9) + 1, 20_000_000)
    seen = np.arange(0, round(seconds * 1e9) + 1, 500_000_000)
    return RecordedDrive(
        name="a drive",
        license="ours",
        map=vector_map,
        ego=tuple(ego_at(int(stamp)) for stamp in stamps),
        objects=tuple(
            objects_at(int(s)) for s in (seen if object_stamps is None else object_stamps)
        ),
        cameras=(),
        route_m=None,
        route_source="none",
    )


def test_the_ego_comes_back_as_a_seat(tmp_path):
    write_log(tmp_path, recording_of(make_drive()))
    log = DriveLog.open(tmp_path)
    assert log.dt_s == pytest.approx(0.1)
    for step in (5, 20, 35):
        state, true = log.ego_state(step, EGO_ID), ego_at(step * STEP_NS)
        assert state.planar == pytest.approx(true.planar, abs=1e-3)
        assert (state.vx_mps, state.vy_mps) == pytest.approx((SPEED_MPS, 0.0), abs=0.02)
        assert state.yaw_rate_radps == pytest.approx(TURN_RADPS, abs=1e-3)
        assert state.z_m == pytest.approx(0.5)


def test_others_are_filled_in_between_keyframes(tmp_path):
    write_log(tmp_path, recording_of(make_drive()))
    log = DriveLog.open(tmp_path)
    states = log.states(2)
    assert len(states) == 41
    assert states[13, 0] == pytest.approx(20 + 5 * 1.3)
    assert states[13, 4] == pytest.approx(5.0)
    assert states[:, 2] == pytest.approx(1.0)  # The ground: 0.8 m below the centre.


def test_what_is_not_seen_for_long_becomes_another_track():
    stamps = [0, 500_000_000, 2_000_000_000, 2_500_000_000]
    tracks = recording_of(make_drive(object_stamps=stamps)).tracks
    assert tracks.first_steps.tolist() == [0, 0, 20]
    assert tracks.last_steps.tolist() == [40, 5, 25]


def test_drives_without_lanes_or_motion_are_refused():
    with pytest.raises(DriveError, match="has no lanes"):
        recording_of(make_drive(vector_map=None))
    with pytest.raises(DriveError, match="less than a second"):
        recording_of(make_drive(seconds=0.5))


@pytest.mark.data
def test_a_real_drive_keeps_its_odometry(tmp_path):
    folder = Path(os.environ.get("RAP_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real driving data: RAP_DATA is not set and {folder} does not exist")
    drive = read_nuscenes(next((folder / "nuscenes").rglob("scene-0061.npz")))
    write_log(tmp_path, recording_of(drive))
    log = DriveLog.open(tmp_path)
    assert log.route_lanes(EGO_ID)
    stamps = np.array([state.stamp_ns for state in drive.ego])
    for step in range(0, len(log.stamps_ns), 37):
        true = drive.ego[int(np.argmin(np.abs(stamps - log.stamps_ns[step])))]
        assert log.ego_state(step, EGO_ID).planar == pytest.approx(true.planar, abs=0.02)
