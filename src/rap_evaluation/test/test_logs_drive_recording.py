"""Recorded drives as logs: what was sensed must come back from the log, at its own stamps."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rap_bringup.drives.argoverse2 import FORD_FUSION, read_argoverse2
from rap_bringup.drives.commonroad import read_commonroad
from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.nuscenes import RENAULT_ZOE, read_nuscenes
from rap_bringup.drives.nuscenes_keyframe import read_keyframe_drive
from rap_bringup.drives.recorded_drive import (
    DriveError,
    RecordedDrive,
    RecordedObjects,
    Signal,
)
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import NO_SOURCE_ID, STEP_NS, UNSEEN_LIGHT, Engagement
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.maps.vector_map import Lane, TrafficLight, VectorMap
from rap_raster.scene import Boxes, Lights, LightState, ObjectClass, Shapes
from rap_raster.vehicle import VehicleDimensions

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


def logged(drive, path):
    write_log(path, recording_of(drive))
    return DriveLog.open(path)


def test_the_ego_comes_back_as_a_seat(tmp_path):
    log = logged(make_drive(), tmp_path)
    (ego,) = log.egos
    assert log.dt_s == pytest.approx(0.1)
    for step in (5, 20, 35):
        state, true = log.ego_state(step, ego), ego_at(step * STEP_NS)
        assert state.planar == pytest.approx(true.planar, abs=1e-9)
        assert (state.vx_mps, state.vy_mps) == pytest.approx((SPEED_MPS, 0.0))
        assert state.yaw_rate_radps == pytest.approx(TURN_RADPS)
        assert state.z_m == pytest.approx(0.5)


def test_the_ego_has_the_size_of_its_vehicle(tmp_path):
    """Its box is where its rear axle and its true dimensions put it."""
    van = VehicleDimensions(6.0, 2.2, 2.5, 2.1)
    log = logged(replace(make_drive(), vehicle=van), tmp_path)
    assert log.dimensions(log.egos[0]) == van
    true = van.box_center(ego_at(10 * STEP_NS).pose)
    np.testing.assert_allclose(log.states(log.egos[0])[10, :2], true[:2])


def test_others_are_filled_in_between_keyframes(tmp_path):
    log = logged(make_drive(), tmp_path)
    states = log.states(7)
    assert len(states) == 41
    assert states[13, 0] == pytest.approx(20 + 5 * 1.3)
    assert states[13, 4] == pytest.approx(5.0)
    assert states[:, 2] == pytest.approx(1.0)  # The ground: 0.8 m below the centre.
    observed = [bool(log.observed(step, np.array([7]))[0]) for step in range(41)]
    assert np.flatnonzero(observed).tolist() == list(range(0, 41, 5))


def test_what_is_not_seen_for_long_becomes_another_track_of_the_same_source():
    nobody = [RecordedObjects(k * 500_000_000, Boxes.empty(), Lights.empty()) for k in (2, 3)]
    seen = [objects_at(k * 500_000_000) for k in (0, 1, 4, 5)]
    objects = sorted([*nobody, *seen], key=lambda instant: instant.stamp_ns)
    recording = recording_of(replace(make_drive(), objects=tuple(objects)))
    tracks = recording.tracks
    assert tracks.first_steps.tolist() == [0, 0, 20]
    assert tracks.last_steps.tolist() == [25, 5, 25]
    assert tracks.source_ids.tolist() == [NO_SOURCE_ID, 7, 7]
    assert tracks.ids.tolist() == [1, 7, 2]  # The first piece has its source's id.
    assert recording.egos == (1,)


def test_an_ego_that_is_lost_is_several_tracks():
    drive = make_drive()
    kept = [s for s in drive.ego if not 1_000_000_000 < s.stamp_ns < 2_000_000_000]
    recording = recording_of(replace(drive, ego=tuple(kept)))
    rows = [recording.tracks.ids.tolist().index(track) for track in recording.egos]
    assert recording.tracks.first_steps[rows].tolist() == [0, 20]
    assert recording.tracks.last_steps[rows].tolist() == [10, 40]


def test_while_nobody_looks_there_is_no_ego_for_whom_the_road_would_be_empty():
    stamps = [*range(0, 15), *range(30, 41)]
    recording = recording_of(make_drive(object_stamps=[STEP_NS * step for step in stamps]))
    tracks = recording.tracks
    rows = [tracks.ids.tolist().index(ego) for ego in recording.egos]
    spans = [(int(tracks.first_steps[k]), int(tracks.last_steps[k])) for k in rows]
    assert spans == [(0, 14), (30, 40)]


def test_steps_are_where_objects_were_seen():
    """Stamps of a real sensor: not at full tenths, and jittering by 2 ms around them."""
    true = 33_333_333 + np.arange(30) * STEP_NS
    jitter = np.random.default_rng(1).integers(-2_000_000, 2_000_000, 30)
    jitter[0] = 0
    recording = recording_of(make_drive(object_stamps=true + jitter))
    np.testing.assert_array_equal(recording.stamps_ns, true)
    row = recording.tracks.ids.tolist().index(7)
    states = recording.tracks.states[recording.tracks.offsets[row] :][:30]
    np.testing.assert_allclose(states[:, 0], 20 + 5 * true * 1e-9, atol=1e-6)
    assert recording.tracks.observed[recording.tracks.offsets[row] :][:30].all()


def test_a_single_sight_is_a_track_with_the_velocity_that_was_told():
    boxes = Boxes.from_rows([[9, 6, 1, 2, 1, 0.5, 0.6, 1.8, 0.3, -1.0, 0.5]])
    drive = make_drive()
    glimpse = replace(drive.objects[3], boxes=boxes)
    objects = (*drive.objects[:3], glimpse, *drive.objects[4:])
    tracks = recording_of(replace(drive, objects=objects)).tracks
    row = tracks.ids.tolist().index(9)
    assert tracks.first_steps[row] == tracks.last_steps[row] == 15
    expected = [1, 2, 0.1, 0.3, -1.0, 0.5, 0.0]
    np.testing.assert_allclose(tracks.states[tracks.offsets[row]], expected)


def lights(*rows):
    """Rows of state, x, y and yaw."""
    return Lights(
        np.array([row[0] for row in rows], np.uint8),
        np.array([[x, y, 5.0] for _, x, y, _ in rows]).reshape(-1, 3),
        np.full((len(rows), 3), 0.4),
        np.array([row[3] for row in rows], float),
    )


def test_lights_are_told_apart_by_place_and_direction():
    """Two heads at one place for two roads, one 0.3 m beside another, one seen later only."""
    red, green = LightState.RED, LightState.GREEN
    first = lights((red, 0, 0, 0.0), (green, 0, 0, 1.57), (red, 9, 0, 0.0), (green, 9.3, 0, 0.0))
    later = lights(
        (red, 9.31, 0, 0.0), (green, 9.02, 0, 0.0), (red, 30, 0, 0.0), (green, 0.1, 0, 0.05)
    )
    drive = make_drive()
    objects = [replace(o, lights=first if k < 4 else later) for k, o in enumerate(drive.objects)]
    found = recording_of(replace(drive, objects=tuple(objects))).lights
    np.testing.assert_allclose(found.centers_m[:, 0], [0, 0, 9, 9.3, 30])
    assert found.states[19].tolist() == [red, green, red, green, UNSEEN_LIGHT]
    assert found.states[20].tolist() == [green, UNSEEN_LIGHT, green, red, red]


def test_lights_next_to_mapped_ones_govern_their_lanes_and_unseen_ones_are_in_no_scene(tmp_path):
    light = TrafficLight("L", np.array([9.5, 0.5, 5.5]), 0.1, ("a", "b"))
    drive = make_drive(vector_map=replace(MAP, traffic_lights=(light,)))
    seen = lights((LightState.RED, 9, 0, 0.0), (LightState.RED, 9, 0, 3.1))
    objects = (replace(drive.objects[0], lights=seen), *drive.objects[1:])
    log = logged(replace(drive, objects=objects), tmp_path)
    assert log.lights.lane_ids == ("a", "")
    assert len(log.scene(4, log.egos[0]).lights) == 2
    assert len(log.scene(5, log.egos[0]).lights) == 0


def test_engagement_holds_until_it_changes(tmp_path):
    changes = Signal(np.array([1_000_000_000, 2_050_000_000]), np.array([1, 0], np.uint8))
    log = logged(replace(make_drive(), engaged=changes), tmp_path)
    unknown, engaged, manual = Engagement.UNKNOWN, Engagement.ENGAGED, Engagement.MANUAL
    assert log.engaged.tolist() == [unknown] * 10 + [engaged] * 11 + [manual] * 20
    assert set(logged(make_drive(), tmp_path).engaged) == {unknown}


def test_commands_come_from_the_drive_where_the_map_gives_no_route(tmp_path):
    """The vehicle circles, which no lane of the map does."""
    told = Signal(np.array([0, 1_000_000_000]), np.array([Command.RIGHT, Command.LEFT], np.uint8))
    log = logged(replace(make_drive(), commands=told), tmp_path)
    expected = [Command.RIGHT] * 10 + [Command.LEFT] * 31
    assert log.route(log.egos[0]) is None
    assert log.commands(log.egos[0]).tolist() == expected
    line = np.array([ego_at(k * STEP_NS).pose for k in range(80)], dtype=object)
    route = np.array([[pose.x_m, pose.y_m, 0.0] for pose in line])
    log = logged(replace(make_drive(), route_m=route), tmp_path)
    assert set(log.commands(log.egos[0])[:20]) == {Command.LEFT}


def test_a_drive_without_a_map_opens_and_has_no_routes(tmp_path):
    log = logged(make_drive(vector_map=None), tmp_path)
    ego = log.egos[0]
    assert log.map.lanes == {}
    assert log.route(ego) is None
    assert set(log.commands(ego)) == {Command.UNKNOWN}
    assert log.scene(0, ego).boxes.ids.tolist() == [7]


def test_drives_without_motion_while_objects_were_seen_are_refused():
    with pytest.raises(DriveError, match="a drive: no ego motion while objects were seen"):
        recording_of(make_drive(object_stamps=[9_000_000_000, 9_100_000_000]))
    for without in ({"ego": ()}, {"ego": (), "objects": ()}):
        with pytest.raises(DriveError, match="a drive: no ego motion"):
            recording_of(replace(make_drive(), **without))


def test_a_clock_that_was_set_while_it_was_recorded_is_told_and_fills_no_memory():
    drive = make_drive()
    early = replace(drive.objects[0], stamp_ns=37_000_000_000 - 1_700_000_000_000_000_000)
    with pytest.raises(DriveError, match="a clock was set while it was recorded"):
        recording_of(replace(drive, objects=(early, *drive.objects)))


@pytest.fixture
def real_data():
    folder = Path(os.environ.get("RAP_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real driving data: RAP_DATA is not set and {folder} does not exist")
    return folder


def check_sights(drive, log):
    """Every box that was seen at a step is in the log as it was seen."""
    steps = {int(stamp): step for step, stamp in enumerate(log.stamps_ns)}
    compared = 0
    for instant in drive.objects:
        if instant.stamp_ns not in steps:
            continue
        boxes, _ = log.all_objects(steps[instant.stamp_ns], log.egos[0])
        sources = log.tracks.source_ids[[log.tracks.ids.tolist().index(i) for i in boxes.ids]]
        order, true = np.argsort(sources), np.argsort(instant.boxes.ids)
        np.testing.assert_array_equal(sources[order], instant.boxes.ids[true])
        np.testing.assert_array_equal(boxes.classes[order], instant.boxes.classes[true])
        np.testing.assert_allclose(
            boxes.centers_m[order][:, :2], instant.boxes.centers_m[true][:, :2], atol=1e-6
        )
        turns = np.angle(np.exp(1j * (boxes.yaws_rad[order] - instant.boxes.yaws_rad[true])))
        np.testing.assert_allclose(turns, 0.0, atol=1e-6)
        compared += len(boxes)
    return compared


@pytest.mark.data
def test_a_real_drive_keeps_its_odometry_and_objects(real_data, tmp_path):
    drive = read_nuscenes(real_data / "nuscenes" / "scenes" / "scene-0061.npz")
    log = logged(drive, tmp_path)
    (ego,) = log.egos
    assert log.route_lanes(ego)
    assert log.dimensions(ego) == RENAULT_ZOE
    stamps = {state.stamp_ns: state for state in drive.ego}
    for step, stamp in enumerate(log.stamps_ns):
        assert log.ego_state(step, ego).planar == pytest.approx(stamps[int(stamp)].planar, abs=1e-6)
    assert check_sights(drive, log) > 5000


@pytest.mark.data
def test_argoverse2_and_commonroad_become_logs(real_data, tmp_path):
    folder = next((real_data / "argoverse2").glob("7fab2350-*"))
    log = logged(read_argoverse2(folder), tmp_path / "argoverse2")
    assert log.dimensions(log.egos[0]) == FORD_FUSION
    assert log.tracks.observed.mean() > 0.95
    for file in sorted((real_data / "commonroad_ngsim").glob("*.xml")):
        drive = read_commonroad(file)
        log = logged(drive, tmp_path / "commonroad")
        assert log.dimensions(log.egos[0]) == drive.vehicle
        assert len(log.seats()) > 5


@pytest.mark.data
def test_dgp_images_come_back_byte_for_byte(real_data, tmp_path):
    """Three frames of six cameras, at stamps of their own between those of the boxes."""
    drive = read_dgp(real_data / "dgp" / "scene_02")
    log = logged(drive, tmp_path)
    assert len(log.cameras) == 6
    for found, true in zip(log.cameras, drive.cameras, strict=True):
        assert found.model.name == true.model.name
        assert found.model.distortion == true.model.distortion
        np.testing.assert_array_equal(found.model.ego_from_camera, true.model.ego_from_camera)
        assert found.stamps_ns.tolist() == [image.stamp_ns for image in true.images]
        assert [found.jpeg(k) for k in range(3)] == [image.jpeg for image in true.images]
    assert check_sights(drive, log) == len(drive.objects[0].boxes)


@pytest.mark.data
def test_a_keyframe_is_a_log_of_one_step(real_data, tmp_path):
    drive = read_keyframe_drive(real_data / "nuscenes" / "frame_scene0061")
    log = logged(drive, tmp_path)
    (ego,) = log.egos
    assert len(log.stamps_ns) == 1
    assert check_sights(drive, log) == 69
    assert len(log.cameras) == 6
    for camera in log.cameras:
        scene = log.scene_at(int(camera.stamps_ns[0]), ego)
        assert len(scene.boxes) > 0
    boxes, _ = log.all_objects(0, ego)
    true = drive.objects[0].boxes
    np.testing.assert_allclose(boxes.velocities_mps, np.nan_to_num(true.velocities_mps))
    assert (boxes.classes == ObjectClass.VEHICLE).any()
