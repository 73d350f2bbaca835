"""Bags as logs and logs as bags: what a replay recorded comes back as it was."""

from dataclasses import fields, replace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from rap_bringup.bag_adapter import adapt_bag
from rap_bringup.bag_reader import TYPES, messages, open_bag
from rap_bringup.bag_types import (
    CONTROL_MODE_TYPE,
    message,
    serialized,
    time_message,
    typestore,
)
from rap_bringup.bags import (
    BagError,
    camera_info_message,
    extrinsics_message,
    objects_message,
    odometry_message,
    route_message,
    write_bag,
)
from rap_bringup.drives.bag import read_bag
from rap_bringup.drives.recorded_drive import (
    CameraImage,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
    Signal,
)
from rap_bringup.recording import Recording
from rap_evaluation import cli
from rap_evaluation.camera_sim import camera_jpeg
from rap_evaluation.drive_export import recorded_drive, whole_drive
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import Engagement
from rap_planner.route import Command
from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.ego_history import EgoState
from rap_raster.frames import wrap_angle
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, LightState, LineKind, PolygonKind, Shapes

START_NS, STEPS = 1_700_000_000_123_456_789, 30
STEP_NS = 100_000_000
STAMPS = START_NS + np.arange(STEPS, dtype=np.int64) * STEP_NS


def picture(shade):
    return camera_jpeg(np.full((16, 24, 3), shade, np.uint8), 90)


def camera(name, yaw_rad):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(yaw_rad, 0.1), [1.5, 0.3, 1.6]
    lens = Distortion("plumb_bob", (0.1, -0.02, 0.001, 0.002, 0.0))
    model = CameraModel(name, 24, 16, 20.0, 21.0, 11.3, 7.7, pose, lens)
    images = tuple(
        CameraImage(int(stamp) + 31_000_000, picture(8 * row)) for row, stamp in enumerate(STAMPS)
    )
    return RecordedCamera(model, images)


def instant(row, rng):
    """Cars 5 and 70000 and a person who is hidden for two seconds; yaws as bags hold them."""
    hidden = 5 <= row < 25
    numbers = [5, 70000] if hidden else [5, 70000, 2]
    rows = [
        [number, 6 if number == 2 else 1, *rng.normal(0, 15, 2), rng.normal(), 4.5, 1.9, 1.6,
         rng.uniform(-np.pi, np.pi), np.nan, np.nan]
        for number in numbers
    ]  # fmt: skip
    boxes = Boxes.from_rows(rows)
    boxes = replace(boxes, sizes_m=boxes.sizes_m.astype(np.float32).astype(np.float64))
    boxes = replace(boxes, yaws_rad=boxes.yaws_rad.astype(np.float32).astype(np.float64))
    state = LightState.RED if row < 10 else LightState.GREEN
    light = Lights(np.array([state], np.uint8), np.array([[30.0, 4, 5]]), np.ones((1, 3)),
                   np.array([0.5]))  # fmt: skip
    return RecordedObjects(int(STAMPS[row]), boxes, light if row != 17 else Lights.empty())


def straight_map():
    """A road in pieces of 50 m, whose centrelines make lanes again."""
    lines = [(LineKind.LANE_CENTERLINE, [[x, 0, 0], [x + 50, 0, 0]]) for x in range(-200, 400, 50)]
    lines.append((LineKind.ROAD_BOUNDARY, [[-200, 4, 0], [400, 4, 0]]))
    area = [(PolygonKind.DRIVABLE, [[-200, -4, 0], [400, -4, 0], [400, 4, 0], [-200, 4, 0]])]
    return VectorMap("straight", Shapes.from_list(lines), Shapes.from_list(area))


@pytest.fixture(scope="module")
def drive():
    rng = np.random.default_rng(3)
    ego = [
        EgoState(int(START_NS + k * 20_000_000), 0.2 * k, 0.1 * np.sin(0.1 * k), 0.7,
                 0.05 * np.cos(0.1 * k), 10.0, 0.1, 0.02)
        for k in range(5 * STEPS - 4)
    ]  # fmt: skip
    return RecordedDrive(
        name="by hand",
        license="ours",
        map=straight_map(),
        ego=tuple(ego),
        objects=tuple(instant(row, rng) for row in range(STEPS)),
        cameras=(camera("front", 0.0), camera("left", 1.2)),
        route_m=None,
        route_source="none",
        engaged=Signal(STAMPS[[0, 12]], np.array([0, 1], np.uint8)),
    )


@pytest.fixture(scope="module")
def replayed(drive, tmp_path_factory):
    """The file that a replay leaves, written by what writes it."""
    folder = tmp_path_factory.mktemp("replayed")
    write_bag(drive, folder / "bag")
    bag = open_bag(folder / "bag")
    with Recording(folder) as recording:
        for item in messages(bag):
            recording.write(item.stamp_ns, item.topic, bag.topics[item.topic].type_name, item.raw)
    return folder / "drive.mcap"


def check_same(found, true):
    """Same objects and poses within 1e-6 at the same stamps, and the same images."""
    assert [o.stamp_ns for o in found.objects] == [o.stamp_ns for o in true.objects]
    for step, wanted in zip(found.objects, true.objects, strict=True):
        boxes, expected = (one.boxes.select(np.argsort(one.boxes.ids)) for one in (step, wanted))
        np.testing.assert_array_equal(boxes.ids, expected.ids)
        np.testing.assert_array_equal(boxes.classes, expected.classes)
        for name in ("centers_m", "sizes_m"):
            np.testing.assert_allclose(
                getattr(boxes, name), getattr(expected, name), rtol=0, atol=1e-6
            )
        turns = wrap_angle(boxes.yaws_rad - expected.yaws_rad)
        np.testing.assert_allclose(turns, 0.0, atol=1e-6)
        np.testing.assert_array_equal(step.lights.states, wanted.lights.states)
        np.testing.assert_allclose(step.lights.centers_m, wanted.lights.centers_m, atol=1e-6)
    states = {state.stamp_ns: state for state in true.ego}
    assert [state.stamp_ns for state in found.ego] == [o.stamp_ns for o in true.objects]
    for state in found.ego:
        for part in fields(EgoState):
            wanted = getattr(states[state.stamp_ns], part.name)
            assert getattr(state, part.name) == pytest.approx(wanted, abs=1e-6)
    for one, other in zip(found.cameras, true.cameras, strict=True):
        assert one.model.name == other.model.name
        assert one.model.distortion == other.model.distortion
        pose, true_pose = one.model.ego_from_camera, other.model.ego_from_camera
        np.testing.assert_allclose(pose, true_pose, atol=1e-12)
        shown = [image for image in other.images if image.stamp_ns <= STAMPS[-1]]
        assert list(one.images) == shown


def test_a_replay_becomes_a_log_and_a_bag_again(drive, replayed, tmp_path, monkeypatch, capsys):
    arguments = ["log", "bag", str(replayed), "--out", str(tmp_path / "log"), "--license", "ours"]
    monkeypatch.setattr("sys.argv", ["rap-evaluate", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    assert "30 steps, 5 tracks, 1 lights, 60 images" in capsys.readouterr().out
    arguments = ["bag", str(tmp_path / "log"), "--out", str(tmp_path / "bag")]
    monkeypatch.setattr("sys.argv", ["rap-evaluate", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    back = read_bag(tmp_path / "bag")
    check_same(back, drive)
    assert back.license == "ours"
    assert back.engaged.at(STAMPS, 9).tolist() == [0] * 12 + [1] * 18


def test_the_log_of_a_bag_tells_what_the_bag_told(drive, replayed, tmp_path):
    write_log(tmp_path, recording_of(read_bag(replayed)))
    log = DriveLog.open(tmp_path)
    np.testing.assert_array_equal(log.stamps_ns, STAMPS)
    assert log.engaged.tolist() == [Engagement.MANUAL] * 12 + [Engagement.ENGAGED] * 18
    person = log.tracks.source_ids == 2
    assert log.tracks.ids[person].tolist()[0] == 2
    assert log.tracks.first_steps[person].tolist() == [0, 25]
    assert [camera.model.name for camera in log.cameras] == ["front", "left"]
    assert log.cameras[1].jpeg(29) == drive.cameras[1].images[29].jpeg


def test_lanes_are_made_of_the_centrelines_of_the_map(drive, replayed, tmp_path):
    read = read_bag(replayed)
    assert len(read.map.lanes) == 12
    chain = [key for key, lane in read.map.lanes.items() if lane.successors]
    assert len(chain) == 11  # Each leads to the next; the last nowhere.
    write_log(tmp_path, recording_of(read))
    log = DriveLog.open(tmp_path)
    assert set(log.commands(log.egos[0])) == {Command.STRAIGHT}


@pytest.mark.parametrize(("velocity", "lanes"), [(8.0, 12), (-8.0, 0)])
def test_centrelines_that_traffic_drives_against_are_no_lanes(drive, tmp_path, velocity, lanes):
    boxes = Boxes.from_rows([[5, 1, 40, 0.3, 0.8, 4.5, 1.9, 1.6, 0.0, velocity, 0.2]])
    objects = tuple(replace(step, boxes=boxes) for step in drive.objects)
    write_bag(replace(drive, objects=objects), tmp_path / "bag")
    assert len(read_bag(tmp_path / "bag").map.lanes) == lanes


def test_another_seat_sees_the_recording_vehicle_and_no_cameras(drive, tmp_path):
    write_log(tmp_path, recording_of(drive))
    log = DriveLog.open(tmp_path)
    found = recorded_drive(log, 70000, *whole_drive(log, 70000))
    (ego,) = log.egos
    assert ego in found.objects[3].boxes.ids
    assert 70000 not in found.objects[3].boxes.ids
    assert found.cameras == ()
    assert found.engaged is None
    assert found.name == "by-hand track 70000"


def test_what_was_interpolated_is_in_no_bag(drive, tmp_path):
    """Objects seen at 2 Hz: only those sights are sensor data."""
    slow = replace(drive, objects=drive.objects[::5])
    write_log(tmp_path, recording_of(slow))
    log = DriveLog.open(tmp_path)
    found = recorded_drive(log, log.egos[0], *whole_drive(log, log.egos[0]))
    assert [o.stamp_ns for o in found.objects] == [o.stamp_ns for o in slow.objects]


def write_messages(path, items, plugin):
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for topic, stamp_ns, content in items:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, content.__msgtype__, typestore=typestore()
                )
            writer.write(connections[topic], stamp_ns, serialized(content))


def autoware_bag(path, drive, *, plugin=StoragePlugin.SQLITE3, encoding="rgb8", size=(24, 16)):
    """A vehicle's own bag: sqlite3, raw images, Autoware's control mode."""
    front = drive.cameras[0].model
    width, height = size
    items = [("/tf_static", START_NS, extrinsics_message(drive.cameras[:1]))]
    for row, stamp in enumerate(map(int, STAMPS[:5])):
        items.append(("/odometry", stamp, odometry_message(drive.ego[5 * row])))
        items.append(("/objects", stamp, objects_message(drive.objects[row])))
        items.append(("/camera/front/camera_info", stamp, camera_info_message(front, stamp)))
        header = camera_info_message(front, stamp).header
        image = message(
            "sensor_msgs/msg/Image", header=header, height=height, width=width, encoding=encoding,
            is_bigendian=0, step=3 * width, data=np.full(height * width * 3, 90, np.uint8),
        )  # fmt: skip
        items.append(("/camera/front/image", stamp, image))
        mode = message(CONTROL_MODE_TYPE, stamp=time_message(stamp), mode=1 if row > 2 else 4)
        items.append(("/vehicle/status/control_mode", stamp, mode))
        command = message("std_msgs/msg/UInt8", data=7 if row else 0)
        items.append(("/command", stamp, command))
    write_messages(path, items, plugin)
    return path


@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_vehicles_own_bag_tells_engagement_command_and_raw_images(drive, tmp_path, plugin):
    read = read_bag(autoware_bag(tmp_path / "bag", drive, plugin=plugin))
    assert read.engaged.codes.tolist() == [0, 0, 0, 1, 1]
    assert read.commands.codes.tolist() == [Command.LEFT, *[Command.UNKNOWN] * 4]
    assert read.map is None
    write_log(tmp_path / "log", recording_of(read))
    log = DriveLog.open(tmp_path / "log")
    assert log.engaged.tolist() == [Engagement.MANUAL] * 3 + [Engagement.ENGAGED] * 2
    assert log.cameras[0].jpeg(4).startswith(b"\xff\xd8")


def test_unusable_images_are_named(drive, tmp_path):
    path = autoware_bag(tmp_path / "encoding", drive, encoding="32FC1")
    with pytest.raises(BagError, match="encoding: /camera/front/image: encoding '32F"):
        read_bag(path)
    path = autoware_bag(tmp_path / "size", drive, size=(12, 8))
    with pytest.raises(BagError, match="images are 12x8, expected 24x16 as in camera_info"):
        read_bag(path)


def test_what_cannot_be_used_is_left_out_and_told_and_the_rest_is_read(
    drive, tmp_path, monkeypatch, capsys
):
    """A localisation that starts with NaN, a detector with an id twice, clocks not yet set."""
    nan = float("nan")
    items = []
    for row, stamp in enumerate(map(int, STAMPS[:12])):
        items.append(("/odometry", stamp, odometry_message(drive.ego[5 * row])))
        items.append(("/objects", stamp, objects_message(drive.objects[row])))
    turned = odometry_message(drive.ego[1])
    turned.pose.pose.orientation.w = 0.0  # none is set
    items.append(("/odometry", START_NS + 1, turned))
    lost = replace(drive.ego[1], x_m=nan)
    items.append(("/odometry", START_NS, odometry_message(lost)))
    items.append(("/odometry", START_NS, odometry_message(replace(drive.ego[1], stamp_ns=0))))
    boxes = drive.objects[5].boxes
    twice = RecordedObjects(
        int(STAMPS[5]), replace(boxes, ids=np.full_like(boxes.ids, boxes.ids[0])), Lights.empty()
    )
    items.append(("/objects", int(STAMPS[5]) + 1, objects_message(twice)))
    items.append(("/objects", START_NS, objects_message(replace(drive.objects[0], stamp_ns=0))))
    write_messages(tmp_path / "bag", items, StoragePlugin.MCAP)
    assert not log_of(tmp_path / "bag", tmp_path / "log", monkeypatch)
    said = capsys.readouterr().out
    assert "/odometry: 3 messages left out, or in part: " in said
    assert "/objects: 2 messages left out, or in part: " in said
    log = DriveLog.open(tmp_path / "log")
    assert len(log.stamps_ns) == 12
    assert np.isfinite(log.ego_poses(log.egos[0])).all()


def test_a_log_of_an_empty_road_says_that_it_is_one(drive, tmp_path, monkeypatch, capsys):
    items = []
    for row, stamp in enumerate(map(int, STAMPS[:12])):
        nobody = RecordedObjects(stamp, Boxes.empty(), Lights.empty())
        items.append(("/odometry", stamp, odometry_message(drive.ego[5 * row])))
        items.append(("/objects", stamp, objects_message(nobody)))
    write_messages(tmp_path / "bag", items, StoragePlugin.MCAP)
    assert not log_of(tmp_path / "bag", tmp_path / "log", monkeypatch)
    assert "  no objects: rasters and samples show empty roads\n" in capsys.readouterr().out


def test_of_a_drive_in_pieces_the_longest_becomes_a_bag_and_the_others_are_told(
    drive, tmp_path, monkeypatch, capsys
):
    """Odometry stops for a second: from there on its vehicle is another track."""
    ego = tuple(s for k, s in enumerate(drive.ego) if not 20 <= k < 70)
    write_log(tmp_path / "log", recording_of(replace(drive, ego=ego)))
    arguments = ["bag", str(tmp_path / "log"), "--out", str(tmp_path / "bag")]
    monkeypatch.setattr("sys.argv", ["rap-evaluate", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    said = capsys.readouterr().out
    assert "its vehicle is there in 2 pieces; this is the longest, track 3: 1.5 of 1.9 s" in said
    assert len(read_bag(tmp_path / "bag").ego) == 16


def test_topics_under_other_names_are_told(drive, tmp_path):
    images = "sensor_msgs/msg/CompressedImage"
    header = camera_info_message(drive.cameras[0].model, START_NS).header
    image = message(images, header=header, format="jpeg", data=np.zeros(4, np.uint8))
    items = [
        ("/vehicle/odometry", START_NS, odometry_message(drive.ego[0])),
        ("/objects", START_NS, objects_message(drive.objects[0])),
        ("/camera/front/image_raw/compressed", START_NS, image),
    ]
    write_messages(tmp_path / "bag", items, StoragePlugin.MCAP)
    said = r"no messages on /odometry, .*; /vehicle/odometry is not read, /odometry would be"
    with pytest.raises(BagError, match=said):
        open_bag(tmp_path / "bag")
    items.append(("/odometry", START_NS, odometry_message(drive.ego[0])))
    write_messages(tmp_path / "more", items, StoragePlugin.MCAP)
    assert set(open_bag(tmp_path / "more").unread) == {
        "/vehicle/odometry is not read, /odometry would be (rap bag ros2 --remap)",
        "/camera/front/image_raw/compressed is not read, /camera/NAME/image/compressed would be "
        "(rap bag ros2 --remap)",
    }


def test_what_others_publish_under_names_of_ours_that_may_be_missing_is_not_read(drive, tmp_path):
    """Bytes of another type of the same size would be taken for commands and takeovers."""
    foreign = {
        "command": ("std_msgs/msg/Int32", {"data": 1}),
        "engaged": ("std_msgs/msg/UInt8", {"data": 2}),
        "route": ("std_msgs/msg/String", {"data": "to the station"}),
        "rap/map": ("std_msgs/msg/String", {"data": "Town01"}),
    }
    items = [
        ("/odometry", START_NS, odometry_message(drive.ego[0])),
        ("/objects", START_NS, objects_message(drive.objects[0])),
    ]
    own = tmp_path / "own"
    write_messages(own, items, StoragePlugin.MCAP)
    items += [(f"/{name}", START_NS, message(kind, **f)) for name, (kind, f) in foreign.items()]
    write_messages(tmp_path / "bag", items, StoragePlugin.MCAP)
    told = open_bag(tmp_path / "bag").unread
    assert told == tuple(
        f"/{name} is not read: it has type {foreign[name][0]}, expected {TYPES[name]}"
        for name in foreign
    )
    read, alone = read_bag(tmp_path / "bag"), read_bag(own)
    assert read.commands is None
    assert (read.engaged, read.route_m, read.left_out) == (None, None, told)
    assert (read.map is None, len(read.ego)) == (alone.map is None, len(alone.ego))
    assert adapt_bag(tmp_path / "bag", tmp_path / "adapted", {}).left_out == told


def test_routes_to_different_goals_tell_no_command(drive, tmp_path):
    """The first one would label what was driven to the second."""
    items = [
        ("/odometry", START_NS, odometry_message(drive.ego[0])),
        ("/objects", START_NS, objects_message(drive.objects[0])),
    ]
    ways_m = [np.array([[x, 0.0, 0.0], [100.0, y, 0.0]]) for x, y in ((0, 0), (50, 0), (50, 90))]
    for count, left in ((2, ()), (3, ("/route: 2 routes to different goals, none is used",))):
        routes = [("/route", START_NS + k, route_message(ways_m[k])) for k in range(count)]
        write_messages(tmp_path / str(count), items + routes, StoragePlugin.MCAP)
        read = read_bag(tmp_path / str(count))
        assert read.left_out == left
        assert (read.route_m is None) == bool(left)


@pytest.mark.parametrize("late_s", [0.1, 3600.0])
def test_what_has_no_stamp_is_of_the_clock_of_odometry(drive, tmp_path, late_s):
    """Recorded later than it was sent, or with another clock."""
    late_ns = round(late_s * 1e9)
    items = []
    for row, stamp in enumerate(map(int, STAMPS[:12])):
        items.append(("/odometry", stamp + late_ns, odometry_message(drive.ego[5 * row])))
        items.append(("/objects", stamp + late_ns, objects_message(drive.objects[row])))
    engaged = message("std_msgs/msg/Bool", data=True)
    items.append(("/engaged", int(STAMPS[6]) + late_ns, engaged))
    write_messages(tmp_path / "bag", items, StoragePlugin.MCAP)
    read = read_bag(tmp_path / "bag")
    found = read.engaged.at(STAMPS[:12], Engagement.UNKNOWN).tolist()
    assert found == 6 * [Engagement.UNKNOWN] + 6 * [Engagement.ENGAGED]
    told = ("/odometry was recorded 3600.0 s after its stamps: another clock?",)
    assert read.left_out == (told if late_s > 1.0 else ())


def log_of(bag, out, monkeypatch, *options):
    """Runs `rap-evaluate log bag`; returns what the process ends with."""
    arguments = ["log", "bag", str(bag), "--out", str(out), *options]
    monkeypatch.setattr("sys.argv", ["rap-evaluate", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return done.value.code


def test_a_file_that_is_no_bag_is_one_line(tmp_path, monkeypatch):
    file = tmp_path / "drive.mcap"
    file.write_bytes(b"no bag")
    for path in (file, tmp_path / "nothing"):
        said = str(log_of(path, tmp_path / "log", monkeypatch))
        assert said.startswith(f"rap-evaluate: {path}: not a rosbag2 folder")
        assert "\n" not in said


def test_options_replace_what_the_recording_tells(replayed, tmp_path, monkeypatch):
    vehicle = ("--vehicle", "4.6", "1.9", "1.5", "1.4")
    log_of(replayed, tmp_path, monkeypatch, *vehicle)
    log = DriveLog.open(tmp_path)
    ego = log.dimensions(log.egos[0])
    assert (ego.length_m, ego.rear_axle_to_center_m) == (4.6, 1.4)
    said = log_of(replayed, tmp_path, monkeypatch, *vehicle[:-1], "5")
    assert "--vehicle: expected sizes > 0 and the axle within them" in str(said)


def lanelet2_file(path):
    """One lanelet near Karlsruhe, 8.4 degrees east, with local_x and local_y 31 m from nowhere."""
    nodes = "".join(
        f"<node id='{key}' lat='{49.0 + north}' lon='{8.4 + east}'>"
        f"<tag k='local_x' v='{7e4 * east}'/><tag k='local_y' v='{1e5 * north}'/></node>"
        for key, (north, east) in enumerate([(0, 0), (0, 4e-4), (3e-5, 0), (3e-5, 4e-4)])
    )
    path.write_text(
        f"<osm>{nodes}<way id='10'><nd ref='0'/><nd ref='1'/></way>"
        "<way id='11'><nd ref='2'/><nd ref='3'/></way><relation id='20'>"
        "<member type='way' ref='11' role='left'/><member type='way' ref='10' role='right'/>"
        "<tag k='type' v='lanelet'/><tag k='subtype' v='road'/></relation></osm>"
    )
    return path


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--projection", "mgrs"), "town (mgrs 32UMV)"),
        (
            ("--projection", "utm", "--origin", "48.5", "8.5"),
            "town (utm 32N from 48.50000000 8.50000000)",
        ),
    ],
)
def test_a_lanelet2_map_is_read_with_the_projection_that_is_stated(
    replayed, tmp_path, monkeypatch, options, name
):
    """Its name says which; where that puts the lanes is tested with the map's reader."""
    path = lanelet2_file(tmp_path / "town.osm")
    log_of(replayed, tmp_path / "log", monkeypatch, "--map", str(path), *options)
    assert DriveLog.open(tmp_path / "log").map.name == name


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--projection", "utm"), "--projection: is that of a Lanelet2 file; give one with --map"),
        (
            ("--map", "town.osm", "--origin", "48.5", "8.5"),
            "--origin: goes with projection utm or mgrs, got none",
        ),
        (
            ("--map", "town.osm", "--projection", "local", "--origin", "48.5", "8.5"),
            "--origin: goes with projection utm or mgrs, got local",
        ),
        (("--map", "a.xodr", "--projection", "utm"), "OpenDRIVE is in metres already"),
    ],
)
def test_a_projection_that_cannot_be_is_one_line_and_no_log(
    replayed, tmp_path, monkeypatch, options, text
):
    said = str(log_of(replayed, tmp_path / "log", monkeypatch, *options))
    assert text in said
    assert "\n" not in said
    assert not (tmp_path / "log").exists()
