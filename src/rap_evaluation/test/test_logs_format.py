from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import astuple, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_bringup.drives.recorded_drive import CameraImage, RecordedCamera
from rap_evaluation.logs import log_schema as schema
from rap_evaluation.logs.drive_log import DriveLog, LogError, StoredLog, open_logs
from rap_evaluation.logs.log_reader import read_log
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import UNSEEN_LIGHT, Engagement, LightTracks, Recording, Tracks
from rap_evaluation.logs.seat_routes import commands_along
from rap_planner.route import Command
from rap_raster.camera import CameraModel, Distortion
from rap_raster.frames import Pose
from rap_raster.maps.vector_map import Lane, TrafficLight, VectorMap
from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind, Shapes
from rap_raster.styles import load_style

STEPS, DT_S = 100, 0.1
STEP_NS = 100_000_000


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


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_scenes_between_steps_are_interpolated(log, share):
    """The truth is known: everything moves evenly."""
    stamp_ns = round(1_000_000_000 + (30 + share) * STEP_NS)
    scene = log.scene_at(stamp_ns, 7)
    elapsed_s = (30 + share) * DT_S
    assert astuple(scene.ego) == pytest.approx((6 * elapsed_s - 1.4, 0.0, 0.25, 0.0, 0.0, 0.0))
    person = scene.boxes.select(scene.boxes.ids == 4)
    np.testing.assert_allclose(person.centers_m, [[20 + elapsed_s, -5, 0.25 + 0.9]])
    np.testing.assert_array_equal(scene.boxes.velocities_mps, log.scene(30, 7).boxes.velocities_mps)


@pytest.mark.parametrize("step", [0, 30, 99])
def test_the_scene_at_the_stamp_of_a_step_is_that_of_the_step(log, step):
    found, true = log.scene_at(int(log.stamps_ns[step]), 7), log.scene(step, 7)
    assert found.ego == true.ego
    for part in ("boxes", "lights", "polylines", "polygons"):
        for field in fields(getattr(true, part)):
            one, other = (getattr(getattr(scene, part), field.name) for scene in (found, true))
            np.testing.assert_array_equal(one, other)


def test_headings_turn_the_short_way_between_steps(tmp_path):
    recording = make_recording()
    states = recording.tracks.states.copy()
    states[100:140, 3] = np.where(np.arange(40) % 2 == 0, np.pi - 0.1, -np.pi + 0.1)
    turning = replace(recording, tracks=replace(recording.tracks, states=states))
    log = DriveLog(StoredLog(Path("turning"), turning, {}, np.zeros(len(states), np.uint8)))
    scene = log.scene_at(int(log.stamps_ns[30]) + STEP_NS // 2, 7)
    (yaw,) = scene.boxes.yaws_rad[scene.boxes.ids == 9]
    assert abs(yaw) == pytest.approx(np.pi)


def test_what_comes_between_two_steps_is_there_from_the_middle_on(log):
    """Truck 9 exists from step 20 to 59, car 7 from 0 to 99."""
    before, after = (int(log.stamps_ns[19]) + part * STEP_NS // 10 for part in (4, 6))
    assert 9 not in log.scene_at(before, 7).boxes.ids
    assert 9 in log.scene_at(after, 7).boxes.ids
    assert log.scene_at(int(log.stamps_ns[19]) + 1, 9) is None
    # The first and the last half step are driven on at the speed of the step beside them.
    for end, sign in ((0, -1), (-1, 1)):
        stamp_ns, away_ns = int(log.stamps_ns[end]), STEP_NS * 4 // 10
        near, far = (log.scene_at(stamp_ns + sign * part * STEP_NS // 10, 7) for part in (4, 6))
        there = log.scene_at(stamp_ns, 7).ego
        moved_m = log.states(7)[end, 4] * sign * away_ns * 1e-9
        assert near.ego.x_m == pytest.approx(there.x_m + moved_m, abs=1e-6)
        assert far is None


@pytest.mark.parametrize(("step", "state"), [(49.4, LightState.RED), (49.6, LightState.GREEN)])
def test_lights_between_steps_have_the_state_of_the_nearer(log, step, state):
    scene = log.scene_at(1_000_000_000 + round(step * STEP_NS), 7)
    assert scene.lights.states.tolist() == [state]


def test_a_log_may_have_one_step_and_no_lanes(tmp_path):
    recording = make_recording()
    first = Tracks(
        **{
            field.name: getattr(recording.tracks, field.name)[:1]
            for field in fields(Tracks)
            if field.name not in ("states", "observed", "last_steps")
        },
        last_steps=np.array([0], np.int32),
        states=recording.tracks.states[:1],
        observed=recording.tracks.observed[:1],
    )
    lights = replace(recording.lights, states=recording.lights.states[:1])
    nothing = Shapes.from_list([])
    single = replace(
        recording,
        map=VectorMap("none", nothing, nothing),
        stamps_ns=recording.stamps_ns[:1],
        tracks=first,
        lights=lights,
    )
    write_log(tmp_path, single)
    log = DriveLog.open(tmp_path)
    assert log.dt_s == DT_S
    assert len(log.scene(0, 7).boxes) == 0
    assert log.scene_at(1_000_000_000, 7) is not None
    assert log.scene_at(1_000_000_000 + STEP_NS, 7) is None
    assert log.geometry(0, 7, load_style("rap")) is not None


def cameras():
    lenses = [None, Distortion("equidistant", (0.1, 0.2, -0.3, 0.4))]
    pose = np.linspace(-1.0, 1.0, 16).reshape(4, 4)
    models = [
        CameraModel(name, 64, 32, 50.1, 50.2, 31.5, 15.5, pose, lens)
        for name, lens in zip(("front", "fisheye"), lenses, strict=True)
    ]
    images = [CameraImage(stamp, bytes([stamp % 251]) * stamp) for stamp in (3, 70_000, 5)]
    return RecordedCamera(models[0], tuple(images[:2])), RecordedCamera(models[1], (images[2],))


def test_images_come_back_byte_for_byte_with_stamps_of_their_own(tmp_path):
    write_log(tmp_path, replace(make_recording(), cameras=cameras()))
    log = DriveLog.open(tmp_path)
    for found, true in zip(log.cameras, cameras(), strict=True):
        for field in fields(CameraModel):
            one, other = getattr(found.model, field.name), getattr(true.model, field.name)
            np.testing.assert_array_equal(one, other)
        assert found.stamps_ns.tolist() == [image.stamp_ns for image in true.images]
        assert [found.jpeg(k) for k in range(len(true.images))] == [i.jpeg for i in true.images]


def test_header_tells_terms_origin_egos_and_engagement(tmp_path):
    engaged = np.tile([Engagement.MANUAL, Engagement.ENGAGED], 50).astype(np.uint8)
    write_log(tmp_path, replace(make_recording(), engaged=engaged))
    log = DriveLog.open(tmp_path)
    assert (log.license, log.provenance, log.egos) == ("ours", {"source": "by hand"}, (7,))
    np.testing.assert_array_equal(log.engaged, engaged)


def test_commands_of_the_source_hold_where_there_is_no_route(tmp_path):
    """Car 7 has a route and car 8, which stands, has none."""
    told = {7: np.full(100, Command.RIGHT), 8: np.full(100, Command.LEFT)}
    write_log(tmp_path, replace(make_recording(), known_commands=told))
    log = DriveLog.open(tmp_path)
    assert Command.RIGHT not in log.commands(7)
    assert set(log.commands(8)) == {Command.LEFT}
    assert set(log.commands(9)) == {Command.UNKNOWN}


@st.composite
def recordings(draw):
    """Any recording the format can hold."""
    steps, count = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spans = np.sort(rng.integers(0, steps, (count, 2)), axis=1).astype(np.int32)
    states = int((spans[:, 1] - spans[:, 0] + 1).sum())
    heads = draw(st.integers(0, 3))
    ids = np.unique(rng.integers(1, 2**31 - 1, count)).astype(np.int32)
    tracks = Tracks(
        ids=ids,
        source_ids=rng.integers(0, 2**62, count),
        classes=rng.integers(1, 10, count).astype(np.uint8),
        sizes_m=rng.uniform(0.05, 20, (count, 3)),
        rear_axles_m=rng.uniform(0, 3, count),
        first_steps=spans[:, 0],
        last_steps=spans[:, 1],
        states=rng.normal(0, 100, (states, 7)),
        observed=rng.random(states) < 0.5,
    )
    lights = LightTracks(
        lane_ids=tuple(draw(st.text(max_size=4)) for _ in range(heads)),
        centers_m=rng.normal(0, 100, (heads, 3)),
        sizes_m=rng.uniform(0.1, 1, (heads, 3)),
        yaws_rad=rng.uniform(-4, 4, heads),
        states=rng.choice(np.array([0, 30, 31, 32, 33], np.uint8), (steps, heads)),
    )
    return Recording(
        name=draw(st.text(max_size=8)),
        map=street(),
        stamps_ns=draw(st.integers(0, 2**60)) + np.arange(steps) * draw(st.integers(10**6, 10**10)),
        tracks=tracks,
        lights=lights,
        provenance=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)),
        license=draw(st.text(max_size=8)),
        egos=tuple(ids[: draw(st.integers(0, count))].tolist()),
        engaged=rng.choice(np.array([0, 1, 255], np.uint8), steps),
    )


@settings(max_examples=30, deadline=None)
@given(recording=recordings())
def test_any_recording_comes_back_as_it_was(tmp_path_factory, recording):
    path = tmp_path_factory.mktemp("log")
    write_log(path, recording)
    found = read_log(path).recording
    for part in ("tracks", "lights"):
        for field in fields(getattr(recording, part)):
            one, other = (getattr(getattr(r, part), field.name) for r in (found, recording))
            np.testing.assert_array_equal(one, other)
    for name in ("name", "provenance", "license", "egos"):
        assert getattr(found, name) == getattr(recording, name)
    for name in ("stamps_ns", "engaged"):
        np.testing.assert_array_equal(getattr(found, name), getattr(recording, name))


@pytest.fixture(scope="module")
def whole_log(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "log"
    write_log(path, replace(make_recording(), cameras=cameras()))
    return path


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(schema.COLUMNS)),
    damage=st.tuples(st.floats(0.0, 1.0), st.binary(max_size=12), st.booleans()),
)
def test_damaged_files_give_log_errors_and_nothing_else(whole_log, tmp_path_factory, name, damage):
    cut, garbage, keep_rest = damage
    path = tmp_path_factory.mktemp("damaged")
    for file in whole_log.iterdir():
        (path / file.name).symlink_to(file)
    content = (whole_log / name).read_bytes()
    at = round(cut * len(content))
    (path / name).unlink()
    rest = content[at + len(garbage) :] if keep_rest else b""
    (path / name).write_bytes(content[:at] + garbage + rest)
    with suppress(LogError):
        log = DriveLog.open(path)
        log.scene(30, int(log.tracks.ids[0]))


def test_traffic_is_told_apart_whatever_rounded_its_last_digits(tmp_path):
    def digest(moved_m):
        recording = make_recording()
        states = recording.tracks.states.copy()
        states[::3, :2] += moved_m
        moved = replace(recording, tracks=replace(recording.tracks, states=states))
        path = tmp_path / f"{moved_m}"
        write_log(path, moved)
        return DriveLog.open(path).traffic_digest

    assert digest(1e-9) == digest(-1e-9) == digest(0.0)
    assert len({digest(0.0), digest(0.02), digest(-0.02)}) == 3


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


def test_a_log_in_place_of_its_folder_says_so(tmp_path):
    write_log(tmp_path / "logs" / "drive", make_recording())
    (tmp_path / "logs" / ".git").mkdir()
    assert len(open_logs(tmp_path / "logs")) == 1
    with pytest.raises(LogError, match="is a log; give the folder"):
        open_logs(tmp_path / "logs" / "drive")


def test_lights_that_are_not_seen_are_not_in_the_files_for_py123d(tmp_path):
    recording = make_recording()
    states = recording.lights.states.copy()
    states[:5] = UNSEEN_LIGHT
    write_log(tmp_path, replace(recording, lights=replace(recording.lights, states=states)))
    with pa.memory_map(str(tmp_path / schema.TRAFFIC_LIGHTS)) as source:
        table = pa.ipc.open_file(source).read_all()
    listed = [len(lanes) for lanes in table["traffic_light_detections.lane_id"].to_pylist()]
    named = sum(lane in recording.map.lanes for lane in recording.lights.lane_ids)
    assert named > 0
    assert listed == [0] * 5 + [named] * (len(listed) - 5)
    found = table["traffic_light_detections.status"].to_pylist()
    assert [len(codes) for codes in found] == listed
