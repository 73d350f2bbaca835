from __future__ import annotations

import json
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rap_evaluation.logs import log_schema as schema
from rap_evaluation.logs.drive_log import DriveLog, LogError, StoredLog
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.py123d_files import packed
from rap_evaluation.logs.recording import LightTracks, Recording, Tracks
from rap_evaluation.logs.seat_routes import commands_along
from rap_planner.route import Command
from rap_raster.frames import Pose
from rap_raster.maps.vector_map import Lane, TrafficLight, VectorMap
from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind, Shapes

STEPS, DT_S = 100, 0.1


def street():
    """A straight lane, a left turn after 60 m, and lines near and far."""
    angle = np.radians(np.linspace(-90, 0, 20))
    bend = np.stack([60 + 15 * np.cos(angle), 15 + 15 * np.sin(angle), 0 * angle], axis=-1)
    lanes = (
        Lane("a", np.array([[0.0, 0, 0], [60, 0, 0]]), np.array([[0.0, 2, 0], [60, 2, 0]]), None,
             successors=("t",), speed_limit_mps=13.9),
        Lane("t", bend, successors=("v",), in_junction=True),
        Lane("v", np.array([[75.0, 15, 0], [75, 200, 0]])),
    )  # fmt: skip
    polylines = [
        (LineKind.LANE_BOUNDARY, [[0, 2, 0], [60, 2, 0]]),
        (LineKind.STOP_LINE, [[60, -2, 0], [60, 2, 0], [60, 3, 1]]),
        (LineKind.ROAD_BOUNDARY, [[900, 900, 0], [950, 900, 0]]),
    ]
    polygons = [(PolygonKind.CROSSWALK, [[50, -3, 0], [53, -3, 0], [53, 3, 0]])]
    light = TrafficLight("L", np.array([68.0, 5, 5.5]), np.pi, ("t",))
    return VectorMap(
        "street",
        Shapes.from_list(polylines),
        Shapes.from_list(polygons),
        {lane.id: lane for lane in lanes},
        (light,),
    )


def track(first, last, start, velocity, yaw=0.0):
    time = np.arange(last - first + 1)[:, None] * DT_S
    xy = np.asarray(start, float) + time * np.asarray(velocity, float)
    ones = np.ones((len(xy), 1))
    return np.hstack([xy, 0.25 * ones, yaw * ones, ones * velocity, 0 * ones])


def make_recording():
    """Ego 7 drives through, car 9 stands from step 20 on, person 4 walks, car 8 is far away."""
    states = [
        track(0, 99, (0, 0), (6, 0)),
        track(20, 59, (30, 4), (0, 0), np.pi / 2),
        track(0, 99, (20, -5), (1, 0)),
        track(0, 99, (500, 0), (0, 0)),
    ]
    tracks = Tracks(
        ids=np.array([7, 9, 4, 8], np.int32),
        source_ids=np.array([7, 2**40, 4, 7], np.int64),
        classes=np.array(
            [ObjectClass.VEHICLE, ObjectClass.TRUCK, ObjectClass.PEDESTRIAN, ObjectClass.VEHICLE],
            np.uint8,
        ),
        sizes_m=np.array([[5.0, 2, 1.6], [8, 2.5, 3], [0.5, 0.6, 1.8], [4, 2, 1.5]]),
        rear_axles_m=np.array([1.4, 2.5, 0.1, 1.2]),
        first_steps=np.array([0, 20, 0, 0], np.int32),
        last_steps=np.array([99, 59, 99, 99], np.int32),
        states=np.concatenate(states),
        observed=np.arange(340) % 5 == 0,
    )
    light_states = np.full((STEPS, 2), LightState.RED, np.uint8)
    light_states[50:, 0] = LightState.GREEN
    lights = LightTracks(
        lane_ids=("t", ""),
        centers_m=np.array([[68.0, 5, 5.5], [400, 0, 5.5]]),
        sizes_m=np.tile([0.5, 0.5, 1.0], (2, 1)),
        yaws_rad=np.array([np.pi, 0.0]),
        states=light_states,
    )
    stamps = 1_000_000_000 + np.arange(STEPS, dtype=np.int64) * 100_000_000
    return Recording(
        "drive", street(), stamps, tracks, lights, {"source": "by hand"}, "ours", egos=(7,)
    )


@pytest.fixture
def path(tmp_path):
    write_log(tmp_path / "log", make_recording())
    return tmp_path / "log"


@pytest.fixture
def log(path):
    return DriveLog.open(path)


def test_log_reads_back_what_was_written(log):
    wanted = make_recording()
    assert log.name == "drive"
    assert log.dt_s == DT_S
    np.testing.assert_array_equal(log.stamps_ns, wanted.stamps_ns)
    for field in fields(Tracks):
        found, true = getattr(log.tracks, field.name), getattr(wanted.tracks, field.name)
        np.testing.assert_array_equal(found, true, strict=True)
    np.testing.assert_array_equal(log.lights.states, wanted.lights.states)
    assert log.lights.lane_ids == wanted.lights.lane_ids


def test_map_reads_back_what_was_written(log):
    wanted = street()
    assert log.map.name == wanted.name
    for field in ("polylines", "polygons"):
        for part in ("kinds", "offsets", "points_m"):
            found = getattr(getattr(log.map, field), part)
            np.testing.assert_array_equal(found, getattr(getattr(wanted, field), part))
    assert list(log.map.lanes) == list(wanted.lanes)
    for key, lane in wanted.lanes.items():
        found = log.map.lanes[key]
        np.testing.assert_array_equal(found.centerline_m, lane.centerline_m)
        assert (found.left_m is None) == (lane.left_m is None)
        plain = ("successors", "left_neighbor", "in_junction", "speed_limit_mps")
        assert all(getattr(found, name) == getattr(lane, name) for name in plain)
    (light,) = log.map.traffic_lights
    assert (light.id, light.lane_ids, light.yaw_rad) == ("L", ("t",), np.pi)


def test_big_arrays_are_views_of_the_file(log):
    """Memory-mapped, so a hundred logs cost no memory until they are read."""
    for array in (
        log.tracks.states,
        log.tracks.observed,
        log.map.polylines.points_m,
        log.lights.states,
    ):
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_scene_has_everything_around_the_seat_but_the_seat(log):
    scene = log.scene(30, 7)
    assert sorted(scene.boxes.ids.tolist()) == [4, 9]
    truck = scene.boxes.select(scene.boxes.ids == 9)
    np.testing.assert_allclose(truck.centers_m, [[30, 4, 0.25 + 1.5]])
    np.testing.assert_allclose(truck.yaws_rad, [np.pi / 2])
    assert set(scene.polylines.kinds) == {LineKind.LANE_BOUNDARY, LineKind.STOP_LINE}
    assert len(scene.lights) == 1


@pytest.mark.parametrize(("step", "expected"), [(0, [4]), (19, [4]), (20, [4, 9]), (60, [4])])
def test_tracks_are_there_from_their_first_to_their_last_step(log, step, expected):
    assert sorted(log.scene(step, 7).boxes.ids.tolist()) == expected


@pytest.mark.parametrize(("step", "state"), [(49, LightState.RED), (50, LightState.GREEN)])
def test_lights_have_the_state_of_the_step(log, step, state):
    assert log.scene(step, 7).lights.states.tolist() == [state]


def test_ego_is_the_rear_axle_on_the_ground(log):
    """The rear axle of this car is 1.4 m behind the centre; z is the road's."""
    back = 1.4
    pose = log.scene(10, 7).ego
    assert isinstance(pose, Pose)
    assert (pose.x_m, pose.y_m, pose.z_m) == pytest.approx((6.0 - back, 0.0, 0.25))
    state = log.ego_state(10, 7)
    assert state.stamp_ns == 2_000_000_000
    assert (state.vx_mps, state.vy_mps) == pytest.approx((6.0, 0.0))
    np.testing.assert_allclose(log.ego_poses(7)[10], [6.0 - back, 0, 0])


def test_velocity_at_the_rear_axle_is_a_rigid_bodys():
    """A box that spins in place: the rear axle moves sideways, backwards to the left's sense."""
    recording = make_recording()
    states = recording.tracks.states.copy()
    states[:100, 4:6] = 0.0
    states[:100, 6] = 0.5
    spinning = replace(recording, tracks=replace(recording.tracks, states=states))
    log = DriveLog(StoredLog(Path("spinning"), spinning, {}, np.zeros(len(states), np.uint8)))
    assert log.ego_state(5, 7).vy_mps == pytest.approx(-0.5 * 1.4)


def test_seats_are_vehicles_that_last(log):
    assert log.seats() == [7, 9, 8]
    assert log.seats(min_steps=41) == [7, 8]
    assert log.ego_state(10, 9) is None
    assert log.ego_state(20, 9) is not None


def test_route_and_command_come_from_the_lanes(log):
    """60 m of straight road, then left: the command changes 20 m before it bends away by 2 m."""
    assert log.route_lanes(7) == ["a", "t", "v"]
    np.testing.assert_allclose(log.route(7)[[0, -1], :2], [[0, 0], [75, 200]])
    commands = log.commands(7)
    assert commands[30] == Command.STRAIGHT
    assert commands[95] == Command.LEFT
    assert log.route(8) is None  # It stands: where it would go is not known.
    assert set(log.commands(8)) == {Command.UNKNOWN}


def test_command_on_a_loop_is_that_of_the_present_round():
    """A route that passes a crossing twice, straight the first time and left the second."""
    first = [[0, 0, 0], [100, 0, 0], [100, 60, 0], [40, 60, 0], [0, 60, 0], [-60, 60, 0]]
    route = np.array([*first, [-60, 0, 0], [50, 0, 0], [50, 200, 0]], float)
    steps = np.diff(route, axis=0)
    poses = np.concatenate(
        [
            np.column_stack(
                [*np.linspace(a, b, 120, endpoint=False).T, np.full(120, np.arctan2(*d[1::-1]))]
            )
            for a, b, d in zip(route[:-1], route[1:], steps, strict=True)
        ]
    )
    commands = commands_along(route, poses)
    at_crossing = np.flatnonzero(np.hypot(poses[:, 0] - 38.0, poses[:, 1]) < 0.6)
    assert set(commands[at_crossing[at_crossing < 200]]) == {Command.STRAIGHT}
    assert set(commands[at_crossing[at_crossing > 200]]) == {Command.LEFT}


def test_seat_outside_its_steps_is_an_error(log):
    with pytest.raises(LogError, match="drive: track 9 does not exist at step 5"):
        log.scene(5, 9)
    with pytest.raises(LogError, match="drive: has no track 99"):
        log.states(99)


def test_missing_file_is_named(path, tmp_path):
    (path / schema.LANES).unlink()
    with pytest.raises(LogError, match=r"rap_map_lanes\.arrow: missing"):
        DriveLog.open(path)
    with pytest.raises(LogError, match=r"missing; is .*nowhere a log"):
        DriveLog.open(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", [b"", b"not arrow at all", None])
def test_damaged_file_is_named(path, damage):
    file = path / schema.STATES
    file.write_bytes(file.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(LogError, match=r"rap_states\.arrow: cannot be read") as error:
        DriveLog.open(path)
    assert "\n" not in str(error.value)


def rewrite(path, name, change, metadata=None):
    with pa.OSFile(str(path / name)) as source:
        table = pa.ipc.open_file(source).read_all()
    table = change(table)
    if metadata is not None:
        table = table.replace_schema_metadata(metadata)
    with pa.OSFile(str(path / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def test_missing_or_wrong_column_is_named(path):
    rewrite(path, schema.LIGHTS, lambda table: table.drop_columns(["yaw_rad"]))
    with pytest.raises(LogError, match=r"rap_lights\.arrow: has no column 'yaw_rad'"):
        DriveLog.open(path)
    rewrite(path, schema.LIGHTS, lambda table: table.append_column("yaw_rad", pa.array([1, 2])))
    with pytest.raises(LogError, match="column 'yaw_rad': expected double, got int64"):
        DriveLog.open(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "schema: expected rap.log/2, got None"),
        ({"schema": "rap.log/1"}, "expected rap.log/2, got rap.log/1; make the log again"),
        ({"schema": "rap.log/2", "name": 5}, "metadata field 'name': expected str, got 5"),
    ],
)
def test_wrong_header_is_named(path, header, message):
    metadata = {schema.METADATA_KEY: json.dumps(header).encode()}
    rewrite(path, schema.TRACKS, lambda table: table, metadata)
    with pytest.raises(LogError, match=message):
        DriveLog.open(path)


def test_tracks_that_do_not_fit_their_states_are_named(path):
    rewrite(path, schema.STATES, lambda table: table.slice(0, 10))
    with pytest.raises(LogError, match=r"rap_states\.arrow: state: expected 340 rows, got 10"):
        DriveLog.open(path)


def test_older_files_do_not_survive_rewriting(path):
    (path / "camera.arrow").write_bytes(b"old")
    write_log(path, make_recording())
    assert not (path / "camera.arrow").exists()


PY123D_COLUMNS = {
    "sync.arrow": {
        "sync.uuid": "extension<arrow.uuid>",
        "sync.timestamp_us": "int64",
        "box_detections_se3": "int64",
        "ego_state_se3": "int64",
        "traffic_light_detections": "int64",
    },
    "ego_state_se3.arrow": {
        "ego_state_se3.timestamp_us": "int64",
        "ego_state_se3.imu_se3": "fixed_size_list<item: double>[7]",
        "ego_state_se3.dynamic_state_se3": "fixed_size_list<item: double>[9]",
    },
    "box_detections_se3.arrow": {
        "box_detections_se3.timestamp_us": "int64",
        "box_detections_se3.bounding_box_se3": "list<item: fixed_size_list<item: double>[10]>",
        "box_detections_se3.track_token": "list<item: string>",
        "box_detections_se3.label": "list<item: uint16>",
        "box_detections_se3.velocity_3d": "list<item: fixed_size_list<item: double>[3]>",
        "box_detections_se3.num_lidar_points": "list<item: int32>",
    },
    "traffic_light_detections.arrow": {
        "traffic_light_detections.timestamp_us": "int64",
        "traffic_light_detections.lane_id": "list<item: int32>",
        "traffic_light_detections.status": "list<item: uint8>",
    },
}


@pytest.mark.parametrize("name", PY123D_COLUMNS)
def test_files_have_the_columns_of_py123d(path, name):
    """py123d 0.7, api/scene/arrow/modalities: the names and types that its writers use."""
    with pa.OSFile(str(path / name)) as source:
        columns = pa.ipc.open_file(source).schema
    assert {field.name: str(field.type) for field in columns} == PY123D_COLUMNS[name]
    assert b"metadata" in columns.metadata


def test_py123d_ego_is_the_car_that_drives_and_is_no_box(path):
    with pa.OSFile(str(path / "box_detections_se3.arrow")) as source:
        boxes = pa.ipc.open_file(source).read_all()
    tokens = boxes["box_detections_se3.track_token"]
    assert len(boxes) == STEPS
    assert sorted(tokens[30].as_py()) == ["4", "8", "9"]
    box = dict(zip(tokens[30].as_py(), boxes["box_detections_se3.bounding_box_se3"][30].as_py(),
                   strict=True))["9"]  # fmt: skip
    half = np.sqrt(0.5)
    np.testing.assert_allclose(box, [30, 4, 1.75, half, 0, 0, half, 8, 2.5, 3])


@pytest.mark.filterwarnings("ignore")  # Of py123d and its many dependencies.
def test_py123d_reads_the_log(tmp_path):
    reason = "py123d's full dependencies are not installed"
    for module in ("msgpack", "pandas", "geopandas", "ray"):
        pytest.importorskip(module, reason=reason)
    from py123d.api.scene.arrow.helper import get_filtered_scenes  # noqa: PLC0415
    from py123d.api.scene.scene_filter import SceneFilter  # noqa: PLC0415

    write_log(tmp_path / "logs" / "rap_train" / "drive", make_recording())
    (scene,) = get_filtered_scenes(SceneFilter(), tmp_path)
    ego = scene.get_ego_state_se3_at_iteration(10)
    np.testing.assert_allclose(ego.center_se3.x, 6.0)
    assert len(scene.get_box_detections_se3_at_iteration(30)) == 3
    (light,) = scene.get_traffic_light_detections_at_iteration(60)
    assert (light.lane_id, light.status.name) == (1, "GREEN")


def test_packed_follows_the_msgpack_specification():
    """Byte by byte from the specification's format table."""
    assert packed(None) == b"\xc0"
    assert packed([True, False]) == b"\xdd\x00\x00\x00\x02\xc3\xc2"
    assert packed({"ab": 1.5}) == (
        b"\xdf\x00\x00\x00\x01" + b"\xdb\x00\x00\x00\x02ab" + b"\xcb" + struct.pack(">d", 1.5)
    )
