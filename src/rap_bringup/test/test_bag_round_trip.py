from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from rap_bringup.bag_reader import (
    LATCHED_TOPICS,
    messages,
    objects_of,
    open_bag,
    read_map,
    read_odometry,
    read_routes,
    step_stamps,
)
from rap_bringup.bag_types import (
    LATCHED,
    RELIABLE,
    deserialized,
    serialized,
    typestore,
    vector3,
    yaw_quaternion,
)
from rap_bringup.bags import BagError, write_bag


@pytest.fixture
def bag_path(drive, tmp_path):
    path = tmp_path / "bag"
    write_bag(drive, path)
    return path


def test_what_was_written_is_read_back_equal(drive, bag_path):
    bag = open_bag(bag_path)
    assert bag.drive == drive.name
    assert bag.duration_s == pytest.approx(0.5)
    odometry = read_odometry(bag)
    assert [state.stamp_ns for state in odometry] == [state.stamp_ns for state in drive.ego]
    for read, written in zip(odometry, drive.ego, strict=True):
        assert read.planar == pytest.approx(written.planar, abs=1e-12)
        assert (read.z_m, read.vx_mps) == pytest.approx((written.z_m, written.vx_mps))
    np.testing.assert_array_equal(next(read_routes(bag)), drive.route_m)
    vector_map = read_map(bag)
    for kind in ("polylines", "polygons"):
        read, written = getattr(vector_map, kind), getattr(drive.map, kind)
        np.testing.assert_array_equal(read.kinds, written.kinds)
        np.testing.assert_array_equal(read.offsets, written.offsets)
        np.testing.assert_array_equal(read.points_m, written.points_m)


def test_objects_and_lights_survive_with_unknown_velocities(drive, bag_path):
    read = [objects_of(item.raw) for item in messages(open_bag(bag_path), {"objects"})]
    assert [step.stamp_ns for step in read] == [step.stamp_ns for step in drive.objects]
    for step, written in zip(read, drive.objects, strict=True):
        np.testing.assert_array_equal(step.boxes.ids, written.boxes.ids)
        np.testing.assert_array_equal(step.boxes.centers_m, written.boxes.centers_m)
        np.testing.assert_allclose(step.boxes.sizes_m, written.boxes.sizes_m, rtol=1e-6)
        np.testing.assert_array_equal(
            step.boxes.velocities_mps, written.boxes.velocities_mps.astype(np.float32)
        )
        np.testing.assert_array_equal(step.lights.states, written.lights.states)


def test_calibration_extrinsics_and_image_bytes_survive(drive, bag_path):
    bag = open_bag(bag_path)
    assert set(bag.cameras) == {camera.model.name for camera in drive.cameras}
    for camera in drive.cameras:
        read = bag.cameras[camera.model.name]
        assert read.model.distortion == camera.model.distortion
        np.testing.assert_allclose(
            read.model.ego_from_camera, camera.model.ego_from_camera, atol=1e-12
        )
        assert read.model.intrinsics.tolist() == camera.model.intrinsics.tolist()
        raw = [item.raw for item in messages(bag, {read.image_topic})]
        images = [deserialized(one, "sensor_msgs/msg/CompressedImage") for one in raw]
        assert [one.data.tobytes() for one in images] == [one.jpeg for one in camera.images]


def test_map_route_and_extrinsics_are_latched_and_nothing_else_is(bag_path):
    with Reader(bag_path) as reader:
        latched = {
            connection.topic.lstrip("/")
            for connection in reader.connections
            for qos in connection.ext.offered_qos_profiles
            if qos.durability == QosDurability.TRANSIENT_LOCAL
        }
    assert latched == set(LATCHED_TOPICS)


def test_route_carries_places_only_and_no_times(bag_path):
    raw = next(messages(open_bag(bag_path), {"route"})).raw
    path = deserialized(raw, "nav_msgs/msg/Path")
    stamps = [path.header.stamp, *(pose.header.stamp for pose in path.poses)]
    assert {(stamp.sec, stamp.nanosec) for stamp in stamps} == {(0, 0)}


def test_odometry_comes_before_objects_and_images_of_the_same_stamp(bag_path):
    seen = [item.topic for item in messages(open_bag(bag_path)) if item.topic != "tf_static"]
    assert seen.index("odometry") < seen.index("objects")
    assert seen.index("odometry") < seen.index("camera/front/image/compressed")


def test_steps_are_the_anchor_cameras_images_or_the_objects(drive, bag_path):
    bag = open_bag(bag_path)
    expected = [state.stamp_ns for state in drive.ego]
    assert step_stamps(bag, "front") == step_stamps(bag, None) == expected


def test_sqlite3_bags_read_the_same(bag_path, tmp_path):
    copy = tmp_path / "copy"
    _copy(bag_path, copy, StoragePlugin.SQLITE3)
    first, second = (list(messages(open_bag(path))) for path in (bag_path, copy))
    assert first == second


def test_a_folder_with_something_in_it_is_not_overwritten(drive, tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(BagError, match="not an empty folder"):
        write_bag(drive, tmp_path)
    assert (tmp_path / "keep.txt").read_text() == "mine"


def test_a_file_is_not_a_bag(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(BagError, match=r"notes\.txt: not a rosbag2 folder"):
        open_bag(path)
    with pytest.raises(BagError, match="not a rosbag2 folder"):
        open_bag(tmp_path)


def test_a_bag_without_objects_and_cameras_is_refused(drive, tmp_path):
    write_bag(replace(drive, objects=(), cameras=()), tmp_path / "bag")
    with pytest.raises(BagError, match=r"neither /objects nor /camera/<name>/image"):
        open_bag(tmp_path / "bag")


@pytest.mark.parametrize(
    ("left_out", "text"),
    [
        ("/odometry", "no messages on /odometry"),
        ("/camera/front/camera_info", "camera front: no messages on /camera/front/camera_info"),
        (
            "/tf_static",
            "camera front: /tf_static: no chain of static transforms from 'base_link' to",
        ),
    ],
)
def test_what_is_missing_is_named(bag_path, tmp_path, left_out, text):
    copy = tmp_path / "copy"
    _copy(bag_path, copy, StoragePlugin.MCAP, left_out)
    with pytest.raises(BagError, match=text):
        open_bag(copy)


def test_cameras_may_hang_below_other_frames(bag_path, tmp_path):
    """As those of most vehicles: base_link, sensor kit, camera, optical frame."""
    cameras = open_bag(bag_path).cameras
    copy = tmp_path / "copy"
    _copy(bag_path, copy, StoragePlugin.MCAP, change=_hung_below_a_kit)
    hung = open_bag(copy).cameras
    assert hung.keys() == cameras.keys()
    for name, camera in hung.items():
        expected = cameras[name].model.ego_from_camera + np.outer(
            np.eye(4)[0], np.eye(4)[3]
        )  # 1 m ahead
        np.testing.assert_allclose(camera.model.ego_from_camera, expected, atol=1e-12)


def test_images_of_a_part_of_the_sensor_have_the_camera_that_the_vehicle_sees_them_with(
    bag_path, tmp_path
):
    def binned(topic, raw):
        if not topic.endswith("/camera_info"):
            return raw
        content = deserialized(raw, "sensor_msgs/msg/CameraInfo")
        content.binning_x = content.binning_y = 2
        return serialized(content)

    whole = open_bag(bag_path).cameras["front"].model
    _copy(bag_path, tmp_path / "copy", StoragePlugin.MCAP, change=binned)
    half = open_bag(tmp_path / "copy").cameras["front"].model
    assert (half.width, half.height) == (whole.width // 2, whole.height // 2)
    assert half.fx == pytest.approx(whole.fx / 2)


def test_only_inputs_of_the_contract_count_whatever_else_was_recorded(bag_path, tmp_path):
    """A bag from a vehicle has other topics, the stack's own outputs, and latched ones of old."""
    bag = open_bag(bag_path)
    copy = tmp_path / "copy"
    unknown = {"msgdef": "uint8 x", "rihs01": "RIHS01_" + 64 * "0"}
    with (
        Reader(bag_path) as reader,
        Writer(copy, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        lidar = writer.add_connection("/lidar", "vendor_msgs/msg/Packet", **unknown)
        path_type = "nav_msgs/msg/Path"
        output = writer.add_connection("/rap/trajectory", path_type, typestore=typestore())
        copies = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=typestore())
            for c in reader.connections
        }
        for connection, stamp_ns, raw in reader.messages():
            is_static = connection.topic == "/tf_static"
            writer.write(copies[connection.topic], 0 if is_static else stamp_ns, raw)
            writer.write(lidar, stamp_ns - 1, b"\0\1\0\0\7")
            writer.write(output, stamp_ns, b"none of ours")
    read = open_bag(copy)
    assert set(read.topics) == set(bag.topics)
    assert (read.start_ns, read.end_ns) == (bag.start_ns, bag.end_ns)
    assert next(messages(read)).topic == "tf_static"


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("/odometry", "/odometry is 'odom' -> 'base_link', expected 'map' -> 'base_link'"),
        ("/objects", "/objects are in 'odom', expected 'map'"),
    ],
)
def test_messages_in_another_frame_are_refused_before_anything_starts(
    bag_path, tmp_path, topic, text
):
    copy = tmp_path / "copy"
    with (
        Reader(bag_path) as reader,
        Writer(copy, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        copies = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=typestore())
            for c in reader.connections
        }
        for connection, stamp_ns, raw in reader.messages():
            if connection.topic == topic:
                content = deserialized(raw, connection.msgtype)
                content.header.frame_id = "odom"
                raw = serialized(content)  # noqa: PLW2901 - the one thing that is changed
            writer.write(copies[connection.topic], stamp_ns, raw)
    with pytest.raises(BagError, match=text):
        open_bag(copy)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_damaged_bags_are_read_or_refused_but_nothing_else_is_raised(damaged_copies, data):
    folder, originals = damaged_copies
    path = data.draw(st.sampled_from(sorted(originals)))
    content = bytearray(originals[path])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with suppress(ValueError):  # what the command line turns into one line; BagError is one
        bag = open_bag(folder)
        read_odometry(bag)
        list(messages(bag))
    path.write_bytes(originals[path])


@pytest.fixture(scope="module")
def damaged_copies(drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "bag"
    write_bag(replace(drive, cameras=drive.cameras[:1]), folder)
    return folder, {path: path.read_bytes() for path in folder.iterdir()}


def test_objects_of_another_type_are_refused_with_both_types(tmp_path):
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/objects", "std_msgs/msg/UInt8", typestore=typestore())
        content = typestore().types["std_msgs/msg/UInt8"](data=1)
        writer.write(connection, 1, typestore().serialize_cdr(content, "std_msgs/msg/UInt8"))
    with pytest.raises(BagError, match="std_msgs/msg/UInt8, expected rap_msgs/msg/TrackedObjects"):
        open_bag(tmp_path / "bag")


def _hung_below_a_kit(topic, raw):
    """Moves the cameras by 1 m, with the frame they hang below; other messages stay."""
    if topic != "/tf_static":
        return raw
    content = deserialized(raw, "tf2_msgs/msg/TFMessage")
    kit = deepcopy(content.transforms[0])
    kit.child_frame_id = "kit"
    kit.transform.translation = vector3(1.0, 0.0, 0.0)
    kit.transform.rotation = yaw_quaternion(0.0)
    for transform in content.transforms:
        transform.header.frame_id = "kit"
    content.transforms.append(kit)
    return serialized(content)


def _copy(source, target, plugin, left_out=None, change=lambda _, raw: raw):
    with (
        Reader(source) as reader,
        Writer(target, version=9, storage_plugin=plugin) as writer,
    ):
        kept = [c for c in reader.connections if c.topic != left_out]
        connections = {
            c.topic: writer.add_connection(
                c.topic,
                c.msgtype,
                typestore=typestore(),
                offered_qos_profiles=[LATCHED if "static" in c.topic else RELIABLE],
            )
            for c in kept
        }
        for connection, stamp_ns, raw in reader.messages(connections=kept):
            content = change(connection.topic, raw)
            writer.write(connections[connection.topic], stamp_ns, content)
