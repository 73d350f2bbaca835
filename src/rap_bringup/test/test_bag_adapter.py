"""Recordings under other names, with objects of other types, as bags of the ROS contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg
from typer.testing import CliRunner

from rap_bringup.bag_adapter import adapt_bag, parse_renames
from rap_bringup.bag_reader import (
    messages,
    objects_of,
    open_bag,
    read_map,
    read_odometry,
    read_routes,
)
from rap_bringup.bag_types import (
    deserialized,
    header,
    message,
    new_typestore,
    point,
    serialized,
    typestore,
    vector3,
    yaw_quaternion,
)
from rap_bringup.bags import BagError, write_bag
from rap_bringup.cli import app

NAMES = {
    "odometry": "localization/kinematic_state",
    "objects": "perception/tracking/objects",
    "camera/front/image/compressed": "sensing/camera/front/image_raw/compressed",
    "camera/front/camera_info": "sensing/camera/front/camera_info",
}
RENAMES = {recorded: name for name, recorded in NAMES.items()}

AUTOWARE = "autoware_perception_msgs/msg/TrackedObjects"
AUTOWARE_FIELDS = {
    "ObjectClassification": "uint8 label\nfloat32 probability\n",
    "Shape": "uint8 type\ngeometry_msgs/Polygon footprint\ngeometry_msgs/Vector3 dimensions\n",
    "TrackedObjectKinematics": (
        "geometry_msgs/PoseWithCovariance pose_with_covariance\nuint8 orientation_availability\n"
        "geometry_msgs/TwistWithCovariance twist_with_covariance\n"
        "geometry_msgs/AccelWithCovariance acceleration_with_covariance\nbool is_stationary\n"
    ),
    "TrackedObject": (
        "unique_identifier_msgs/UUID object_id\nfloat32 existence_probability\n"
        "ObjectClassification[] classification\nTrackedObjectKinematics kinematics\nShape shape\n"
    ),
    "TrackedObjects": "std_msgs/Header header\nTrackedObject[] objects\n",
}
"""As in the message definitions of autoware_perception_msgs."""


@pytest.fixture
def bag_path(drive, tmp_path):
    write_bag(drive, tmp_path / "own")
    return tmp_path / "own"


def copied(source, target, change=lambda _, raw: raw, plugin=StoragePlugin.SQLITE3):
    """Copies a bag under the names of another stack, with other messages."""
    with Reader(source) as reader, Writer(target, version=9, storage_plugin=plugin) as writer:
        connections = {
            c.topic: writer.add_connection(
                f"/{NAMES.get(c.topic[1:], c.topic[1:])}", c.msgtype, typestore=typestore()
            )
            for c in reader.connections
        }
        for connection, stamp_ns, raw in reader.messages():
            writer.write(connections[connection.topic], stamp_ns, change(connection.topic, raw))
    return target


def with_objects(source, target, type_name, store, convert):
    """Copies a bag with objects of another type, one for each message of objects."""
    with (
        Reader(source) as reader,
        Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {
            c.topic: writer.add_connection(
                c.topic, type_name if c.topic == "/objects" else c.msgtype, typestore=store
            )
            for c in reader.connections
        }
        for connection, stamp_ns, raw in reader.messages():
            if connection.topic == "/objects":
                content = convert(deserialized(raw, connection.msgtype))
                raw = bytes(store.serialize_cdr(content, type_name))  # noqa: PLW2901 - the change
            writer.write(connections[connection.topic], stamp_ns, raw)
    return target


def objects_in(path):
    return [objects_of(item.raw) for item in messages(open_bag(path), {"objects"})]


def test_a_renamed_bag_is_the_same_drive_message_by_message(drive, bag_path, tmp_path):
    recorded = copied(bag_path, tmp_path / "recorded")
    adapted = adapt_bag(recorded, tmp_path / "out", RENAMES)
    assert list(messages(open_bag(tmp_path / "out"))) == list(messages(open_bag(bag_path)))
    assert adapted.left_out == ()
    assert adapted.counts["odometry"] == len(drive.ego)


def test_outputs_of_the_nodes_are_kept_and_what_nobody_reads_is_not(bag_path, tmp_path):
    state, packet = "std_msgs/msg/Bool", {"msgdef": "uint8 x", "rihs01": "RIHS01_" + 64 * "0"}
    with (
        Reader(bag_path) as reader,
        Writer(tmp_path / "more", version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        others = [
            writer.add_connection("/rap/state", state, typestore=typestore()),
            writer.add_connection("/lights", state, typestore=typestore()),
            writer.add_connection("/rap/vendor", "vendor_msgs/msg/Packet", **packet),
        ]
        copies = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=typestore())
            for c in reader.connections
        }
        for connection, stamp_ns, raw in reader.messages():
            writer.write(copies[connection.topic], stamp_ns, raw)
            for other in others:
                writer.write(other, stamp_ns, b"\0\1\0\0\1")
    counts = adapt_bag(tmp_path / "more", tmp_path / "out", {}).counts
    assert set(counts) == {*open_bag(bag_path).topics, "rap/state"}


def test_a_part_begins_with_what_was_latched_before_it(drive, bag_path, tmp_path):
    adapt_bag(bag_path, tmp_path / "out", {}, start_s=0.2, duration_s=0.25)
    part = open_bag(tmp_path / "out")
    stamps = [state.stamp_ns for state in read_odometry(part)]
    assert stamps == [state.stamp_ns for state in drive.ego][2:5]
    np.testing.assert_array_equal(next(read_routes(part)), drive.route_m)
    assert read_map(part).name == drive.map.name
    assert set(part.cameras) == {camera.model.name for camera in drive.cameras}
    assert {item.stamp_ns for item in messages(part)} == set(stamps)


def test_of_several_routes_a_part_begins_with_the_one_that_held(bag_path, tmp_path):
    """A vehicle that gets a new route while it records."""

    def shifted(topic, raw):
        if topic != "/route":
            return raw
        content = deserialized(raw, "nav_msgs/msg/Path")
        for pose in content.poses:
            pose.pose.position.x += 1000.0
        return serialized(content)

    other = copied(bag_path, tmp_path / "other", shifted)
    later = open_bag(bag_path).start_ns + 150_000_000
    with (
        Reader(bag_path) as reader,
        Reader(other) as others,
        Writer(tmp_path / "two", version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=typestore())
            for c in reader.connections
        }
        for connection, stamp_ns, raw in reader.messages():
            writer.write(connections[connection.topic], stamp_ns, raw)
        routes = [c for c in others.connections if c.topic == "/route"]
        for _, _, raw in others.messages(routes):
            writer.write(connections["/route"], later, raw)
    adapt_bag(tmp_path / "two", tmp_path / "before", {}, duration_s=0.15)
    adapt_bag(tmp_path / "two", tmp_path / "after", {}, start_s=0.2)
    before, after = (next(read_routes(open_bag(tmp_path / name))) for name in ("before", "after"))
    np.testing.assert_allclose(after[:, 0], before[:, 0] + 1000.0)


def made(store, name, **fields):
    return store.types[f"autoware_perception_msgs/msg/{name}"](**fields)


def autoware_kinematics(store, content, row):
    """The motion of an object of ours, along the axes of its own frame."""
    x, y, z = content.centers.reshape(-1, 3)[row]
    vx, vy = content.velocities.reshape(-1, 2)[row]
    yaw, unknown, nothing = content.yaws[row], np.zeros(36), vector3(0.0, 0.0, 0.0)
    ahead = np.cos(yaw) * vx + np.sin(yaw) * vy
    left = -np.sin(yaw) * vx + np.cos(yaw) * vy
    parts = {
        "pose": ("Pose", {"position": point(x, y, z), "orientation": yaw_quaternion(yaw)}),
        "twist": ("Twist", {"linear": vector3(ahead, left, 0.0), "angular": nothing}),
        "accel": ("Accel", {"linear": nothing, "angular": nothing}),
    }
    pose, twist, accel = (
        message(
            f"geometry_msgs/msg/{kind}WithCovariance",
            covariance=unknown,
            **{name: message(f"geometry_msgs/msg/{kind}", **fields)},
        )
        for name, (kind, fields) in parts.items()
    )
    return made(
        store,
        "TrackedObjectKinematics",
        pose_with_covariance=pose,
        orientation_availability=2,
        twist_with_covariance=twist,
        acceleration_with_covariance=accel,
        is_stationary=False,
    )


def autoware_objects(store):
    """Returns a function that turns the first of our objects into Autoware's."""

    def converted(content):
        shape = made(
            store,
            "Shape",
            type=0,
            footprint=message("geometry_msgs/msg/Polygon", points=[]),
            dimensions=vector3(*content.sizes.reshape(-1, 3)[0]),
        )
        uuid = np.frombuffer(int(content.ids[0]).to_bytes(16, "little"), np.uint8)
        one = made(
            store,
            "TrackedObject",
            object_id=message("unique_identifier_msgs/msg/UUID", uuid=uuid),
            existence_probability=0.5,
            classification=[made(store, "ObjectClassification", label=1, probability=1.0)],
            kinematics=autoware_kinematics(store, content, 0),
            shape=shape,
        )
        return made(store, "TrackedObjects", header=content.header, objects=[one])

    return converted


@pytest.fixture(scope="module")
def autoware_store():
    store = new_typestore()
    types = {}
    for name, fields in AUTOWARE_FIELDS.items():
        types |= get_types_from_msg(fields, f"autoware_perception_msgs/msg/{name}")
    store.register(types)
    return store


def test_objects_of_autoware_are_converted_by_the_definition_in_the_bag(
    drive, bag_path, tmp_path, autoware_store
):
    assert AUTOWARE not in typestore().types
    convert = autoware_objects(autoware_store)
    recorded = with_objects(bag_path, tmp_path / "recorded", AUTOWARE, autoware_store, convert)
    adapt_bag(recorded, tmp_path / "out", {})
    read = objects_in(tmp_path / "out")
    assert [step.stamp_ns for step in read] == [step.stamp_ns for step in drive.objects]
    for step, true in zip(read, drive.objects, strict=True):
        assert list(step.boxes.ids) == [true.boxes.ids[0]]
        np.testing.assert_allclose(step.boxes.centers_m[0], true.boxes.centers_m[0], atol=1e-9)
        np.testing.assert_allclose(
            step.boxes.velocities_mps[0], true.boxes.velocities_mps[0], atol=1e-5
        )


def marker(stamp_ns, x_m, y_m):
    pose = message(
        "geometry_msgs/msg/Pose", position=point(x_m, y_m, 0.8), orientation=yaw_quaternion(0.0)
    )
    nothing = message("std_msgs/msg/ColorRGBA", r=0.0, g=0.0, b=0.0, a=1.0)
    picture = message(
        "sensor_msgs/msg/CompressedImage",
        header=header(0, ""),
        format="",
        data=np.zeros(0, np.uint8),
    )
    return message(
        "visualization_msgs/msg/Marker",
        header=header(stamp_ns, "base_link"),
        ns="car",
        id=0,
        type=1,
        action=0,
        pose=pose,
        scale=vector3(4.5, 1.9, 1.6),
        color=nothing,
        lifetime=message("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=picture,
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=message(
            "visualization_msgs/msg/MeshFile", filename="", data=np.zeros(0, np.uint8)
        ),
        mesh_use_embedded_materials=False,
    )


def test_detections_of_base_link_are_placed_by_odometry_and_tracked(drive, bag_path, tmp_path):
    """A car that stands 30 m ahead of the first pose comes nearer by what the ego drives."""
    start_x = drive.ego[0].x_m

    def ahead(content):
        stamp = int(content.header.stamp.sec) * 10**9 + content.header.stamp.nanosec
        ego = next(state for state in drive.ego if state.stamp_ns == stamp)
        return message(
            "visualization_msgs/msg/MarkerArray",
            markers=[marker(stamp, start_x + 30.0 - ego.x_m, 2.0)],
        )

    recorded = with_objects(
        bag_path, tmp_path / "recorded", "visualization_msgs/msg/MarkerArray", typestore(), ahead
    )
    adapt_bag(recorded, tmp_path / "out", {})
    reported = [step.boxes for step in objects_in(tmp_path / "out") if len(step.boxes)]
    assert len(reported) >= len(drive.objects) - 1  # reported from the second detection on
    assert len({int(boxes.ids[0]) for boxes in reported}) == 1
    for boxes in reported:
        np.testing.assert_allclose(boxes.centers_m[0, :2], [start_x + 30.0, 52.0], atol=0.05)


def test_objects_in_another_frame_are_left_out_and_told(drive, bag_path, tmp_path):
    def elsewhere(topic, raw):
        if topic != "/objects":
            return raw
        content = deserialized(raw, "rap_msgs/msg/TrackedObjects")
        content.header.frame_id = "lidar"
        return serialized(content)

    recorded = copied(bag_path, tmp_path / "recorded", elsewhere)
    adapted = adapt_bag(recorded, tmp_path / "out", RENAMES)
    assert "objects" not in adapted.counts
    (line,) = adapted.left_out
    assert line.startswith(f"/objects: {len(drive.objects)} messages left out")
    assert "frame_id is 'lidar', expected 'map' or 'base_link'" in line


@pytest.mark.parametrize(
    ("renames", "text"),
    [
        ({}, r"no messages on /odometry; --remap /localization/kinematic_state:=/odometry"),
        ({"ego/odom": "odometry"}, "no messages on /ego/odom, which is renamed; there is "),
        (
            RENAMES | {"localization/kinematic_state": "objects"},
            "both /.* and /.* would be /objects",
        ),
        (
            {"localization/kinematic_state": "odometry", "perception/tracking/objects": "engaged"},
            "has type rap_msgs/msg/TrackedObjects, /engaged is std_msgs/msg/Bool",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(bag_path, tmp_path, renames, text):
    recorded = copied(bag_path, tmp_path / "recorded")
    with pytest.raises(BagError, match=text):
        adapt_bag(recorded, tmp_path / "out", renames)
    assert not (tmp_path / "out").exists()


def test_what_a_camera_lacks_is_told_before_anything_is_written(bag_path, tmp_path, monkeypatch):
    recorded = copied(bag_path, tmp_path / "recorded")
    renames = {old: new for old, new in RENAMES.items() if not new.endswith("camera_info")}
    monkeypatch.setattr("rap_bringup.bag_adapter.Writer", None)
    with pytest.raises(BagError, match="cameras need /camera/front/camera_info, which has no"):
        adapt_bag(recorded, tmp_path / "out", renames)


def test_a_bag_that_cannot_be_used_is_taken_away_again(bag_path, tmp_path):
    """The calibration is none, which the whole bag is needed to see."""

    def uncalibrated(topic, raw):
        if not topic.endswith("front/camera_info"):
            return raw
        content = deserialized(raw, "sensor_msgs/msg/CameraInfo")
        return serialized(replace(content, k=np.zeros(9)))

    recorded = copied(bag_path, tmp_path / "recorded", uncalibrated)
    with pytest.raises(BagError, match="the camera is not calibrated"):
        adapt_bag(recorded, tmp_path / "out", RENAMES)
    assert not (tmp_path / "out").exists()


def test_odometry_that_no_node_would_take_is_left_out_and_told(drive, bag_path, tmp_path):
    broken = iter([b"\0\1\0\0", None])

    def changed(topic, raw):
        if topic != "/odometry" or (bad := next(broken, raw)) is raw:
            return raw
        if bad is not None:
            return bad
        content = deserialized(raw, "nav_msgs/msg/Odometry")
        content.pose.pose.orientation.z = content.pose.pose.orientation.w = 0.0
        return serialized(content)

    recorded = copied(bag_path, tmp_path / "recorded", changed)
    adapted = adapt_bag(recorded, tmp_path / "out", RENAMES)
    assert adapted.counts["odometry"] == len(drive.ego) - 2
    assert adapted.left_out[0].startswith("/odometry: 2 messages left out")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/ego/odom", "expected FROM:=TO"),
        ("/ego/odom:=", "expected FROM:=TO"),
        ("/ego/odom:=/speed", "nothing reads /speed"),
    ],
)
def test_a_rename_that_is_none_is_refused(text, reason):
    with pytest.raises(BagError, match=reason):
        parse_renames([text])


def test_the_command_line_renames_and_counts(drive, bag_path, tmp_path):
    recorded = copied(bag_path, tmp_path / "recorded")
    options = [f"--remap=/{old}:=/{new}" for old, new in RENAMES.items()]
    result = CliRunner().invoke(
        app, ["bag", "ros2", str(recorded), *options, "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert f"/odometry: {len(drive.ego)} messages" in result.output
    assert open_bag(tmp_path / "out").topics.keys() == open_bag(bag_path).topics.keys()
    refused = CliRunner().invoke(
        app, ["bag", "ros2", str(recorded), "--out", str(tmp_path / "none")]
    )
    assert refused.exit_code == 1
    assert len(refused.stderr.strip().splitlines()) == 1
