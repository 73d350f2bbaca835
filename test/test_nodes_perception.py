"""Cameras and objects at the real nodes: what goes wrong is counted, named, and got over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace as Fields

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Quaternion, Vector3
from graph_probe import DOMAIN_ID, START, Probe, Process
from rap_msgs.msg import AlignedFeatures, CameraFrame, TrackedObjects
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import Marker, MarkerArray

from rap_perception.ros import perception_node
from rap_perception.ros.perception_node import PerceptionNode
from rap_raster.camera import optical_rotation
from rap_raster.observations import TrackedObjects as Objects
from rap_raster.ros.conversions import header, objects_msg, packed, stamp_ns, time_msg
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.parameters import ParameterError
from rap_raster.ros.qos import STREAM
from rap_raster.scene import Boxes, Lights

pytestmark = pytest.mark.ros

PERCEPTION = "rap_perception.ros.perception_node"
RASTER = "rap_raster.ros.raster_node"
AHEAD = "[1.5, 0.0, 1.6, -0.5, 0.5, -0.5, 0.5]"
RIGHT = "[1.5, 0.0, 1.6, -0.2308, 0.6691, -0.6691, 0.2308]"
GREY = np.full((64, 128, 3), 100, np.uint8)


def raw_image(stamp: int) -> Image:
    message = Image(height=64, width=128, encoding="rgb8", step=3 * 128, data=packed("B", GREY))
    message.header.stamp = time_msg(stamp)
    return message


def jpeg_image(stamp: int) -> CompressedImage:
    _, data = cv2.imencode(".jpg", GREY)
    message = CompressedImage(format="jpeg", data=packed("B", data))
    message.header.stamp = time_msg(stamp)
    return message


def calibration(focal_px: float = 80.0) -> CameraInfo:
    message = CameraInfo(height=64, width=128, distortion_model="plumb_bob")
    message.header.frame_id = "front_optical"
    message.k = [focal_px, 0.0, 63.5, 0.0, focal_px, 31.5, 0.0, 0.0, 1.0]
    message.d = [0.0] * 5
    return message


@dataclass
class Camera:
    """A camera of the test's own: what it sends may be changed at any time."""

    probe: Probe
    name: str
    image: Callable[[int], Image | CompressedImage] | None = raw_image
    info: CameraInfo = field(default_factory=calibration)

    def __post_init__(self) -> None:
        compressed = self.image is jpeg_image
        topic, kind = f"camera/{self.name}", CompressedImage if compressed else Image
        suffix = "/compressed" if compressed else ""
        self._images = self.probe.node.create_publisher(kind, f"{topic}/image{suffix}", STREAM)
        self._infos = self.probe.node.create_publisher(CameraInfo, f"{topic}/camera_info", STREAM)

    def send(self, stamp: int) -> None:
        self._infos.publish(self.info)
        if self.image is not None:
            self._images.publish(self.image(stamp))


def drive(
    probe: Probe,
    cameras: list[Camera],
    until: Callable[[], object],
    objects: Callable[[int], Objects] | None = None,
) -> None:
    """Feeds odometry, objects and images until a condition holds."""

    def sent_and_done() -> bool:
        now_ns = probe.node.get_clock().now().nanoseconds
        for camera in cameras:
            camera.send(now_ns)
        return bool(until())

    probe.drive_until(sent_and_done, objects=objects)


def one_car(stamp: int) -> Objects:
    row = [7, 1, START[0] + 30.0, START[1], 0.8, 4.5, 1.9, 1.6, 0.0, 0.0, 0.0]
    one = np.ones(1, np.float32)
    return Objects(stamp, Boxes.from_rows([row]), Lights.empty(), 0 * one, one)


class Reports:
    """Diagnostics of one node."""

    def __init__(self, probe: Probe, node: str) -> None:
        self._arrays = probe.watch(DiagnosticArray, "/diagnostics", STREAM)
        self._node = node

    @property
    def latest(self) -> DiagnosticStatus | None:
        found = [s for array in self._arrays for s in array.status if s.name == self._node]
        return found[-1] if found else None

    def says(self, text: str) -> bool:
        return self.latest is not None and text in self.latest.message

    def value(self, key: str) -> int:
        return int({v.key: v.value for v in self.latest.values}[key])


def truncated_jpeg(stamp: int) -> CompressedImage:
    message = jpeg_image(stamp)
    message.data = message.data[:-50]
    return message


def depth_image(stamp: int) -> Image:
    message = raw_image(stamp)
    message.encoding = "32FC1"
    return message


@pytest.mark.parametrize(
    ("good", "bad", "text"),
    [
        (raw_image, depth_image, "camera front_cam: encoding '32FC1' is unknown, expected one of"),
        (jpeg_image, truncated_jpeg, "camera front_cam: compressed image: the JPEG is cut off"),
    ],
    ids=["raw", "compressed"],
)
def test_bad_images_are_masked_counted_and_got_over_and_a_new_calibration_is_used_and_reported(
    tiny_bundle, good, bad, text
):
    parameters = [
        f"bundle.path:={tiny_bundle}",
        "cameras.names:=[front_cam]",
        f"cameras.extrinsics.front_cam:={AHEAD}",
        f"cameras.compressed:={str(good is jpeg_image).lower()}",
    ]
    with ExitStack() as stack:
        stack.enter_context(Process(PERCEPTION, parameters))
        probe = stack.enter_context(Probe())
        frames = probe.watch(CameraFrame, "rap/frame")
        reports = Reports(probe, "perception_node")
        camera = Camera(probe, "front_cam", good)
        drive(probe, [camera], lambda: frames and frames[-1].status[0])
        np.testing.assert_allclose(frames[-1].rgb[: 64 * 32 * 3], 100, atol=2)
        focal_px = frames[-1].intrinsics[0]
        camera.image = bad
        drive(probe, [camera], lambda: not frames[-1].status[0] and reports.says(text))
        assert reports.value("camera front_cam: unused, not decoded") > 0
        camera.image = good
        drive(probe, [camera], lambda: frames[-1].status[0])
        camera.info = calibration(160.0)
        drive(probe, [camera], lambda: reports.says("fx, fy changed at run time"))
        expected = pytest.approx(2 * focal_px)
        drive(
            probe,
            [camera],
            lambda: frames[-1].status[0] and frames[-1].intrinsics[0] == expected,
        )
        received = reports.value("camera front_cam: received")
        accounted = ["used", "dropped, late", "dropped, out of order", "dropped, superseded"]
        accounted += ["dropped, time jump"]
        assert received - sum(reports.value(f"camera front_cam: {k}") for k in accounted) <= 4


def test_a_camera_that_stops_is_masked_or_a_raster_depending_on_where_objects_come_from(
    tiny_bundle,
):
    """Two raster nodes see the same; only one may believe that objects are known regardless."""
    bundle, names = f"bundle.path:={tiny_bundle}", "cameras.names:=[front_cam, right_cam]"
    extrinsics = [
        f"cameras.extrinsics.{n}:={v}" for n, v in (("front_cam", AHEAD), ("right_cam", RIGHT))
    ]
    independent = "objects.independent_of_cameras:=true"
    remaps = ["--remap", "__node:=independent", "--remap", "rap/features:=features"]
    with ExitStack() as stack:
        stack.enter_context(Process(PERCEPTION, [bundle, names, *extrinsics]))
        stack.enter_context(Process(RASTER, [bundle, names]))
        stack.enter_context(Process(RASTER, [bundle, names, independent], options=remaps))
        probe = stack.enter_context(Probe())
        masked = probe.watch(AlignedFeatures, "rap/features")
        filled = probe.watch(AlignedFeatures, "features")
        perception, raster = Reports(probe, "perception_node"), Reports(probe, "raster_node")
        front, right = Camera(probe, "front_cam"), Camera(probe, "right_cam")

        def sources(features: list[AlignedFeatures]) -> list[int]:
            return list(features[-1].sources)[::2] if features else []

        camera, from_raster = AlignedFeatures.CAMERA, AlignedFeatures.RASTER
        everything = [front, right]
        drive(
            probe,
            everything,
            lambda: sources(masked) == sources(filled) == [camera] * 2,
            one_car,
        )
        right.image = None
        drive(
            probe,
            everything,
            lambda: (
                sources(masked) == [camera, AlignedFeatures.MISSING]
                and sources(filled) == [camera, from_raster]
                and perception.says("camera right_cam: no image for")
                and raster.says("front_right: neither image nor raster: no other camera sees")
            ),
            one_car,
        )
        assert perception.latest.level == raster.latest.level == DiagnosticStatus.WARN
        width = len(masked[-1].features) // 3
        assert not np.any(masked[-1].features[2 * width :])
        front.image = None
        drive(probe, everything, lambda: sources(filled) == [from_raster] * 2, one_car)
        stopped = len(masked)
        start = len(filled)
        drive(probe, everything, lambda: len(filled) > start + 5, one_car)
        assert len(masked) <= stopped + 1  # no step without images: it has nothing to show
        front.image = right.image = raw_image
        drive(
            probe,
            everything,
            lambda: sources(masked) == sources(filled) == [camera] * 2,
            one_car,
        )


def test_markers_in_the_vehicle_frame_become_tracked_objects_of_the_map(tiny_bundle):
    """The ego drives at 5 m/s towards a parked car, which must stand still in the map."""
    parameters = [
        f"bundle.path:={tiny_bundle}",
        "objects.type:=visualization_msgs/MarkerArray",
    ]
    with ExitStack() as stack:
        # The probe's own publisher of objects has another type.
        remap = ["--remap", "objects:=markers"]
        stack.enter_context(Process(PERCEPTION, parameters, options=remap))
        probe = stack.enter_context(Probe())
        markers = probe.node.create_publisher(MarkerArray, "markers", STREAM)
        objects = probe.watch(TrackedObjects, "rap/objects", STREAM)
        reports = Reports(probe, "perception_node")

        def send_and_count() -> bool:
            if probe.fed:
                markers.publish(parked_car(probe))
            return len([message for message in objects if len(message.ids)]) > 15

        probe.drive_until(send_and_count)
        wrong = parked_car(probe)
        wrong.markers[0].header.frame_id = "lidar"
        text = "frame_id is 'lidar', expected 'map' or 'base_link'"
        probe.drive_until(lambda: markers.publish(wrong) or reports.says(text))
    seen = [message for message in objects if len(message.ids)]
    assert {tuple(message.ids) for message in seen} == {(seen[0].ids[0],)}
    assert stamp_ns(seen[-1].header.stamp) in probe.fed
    for message in seen[5:]:
        np.testing.assert_allclose(message.centers, [START[0] + 60.0, START[1], 0.8], atol=0.1)
        np.testing.assert_allclose(message.velocities, [0.0, 0.0], atol=0.01)


def parked_car(probe: Probe) -> MarkerArray:
    """A car 60 m from where the drive began, seen from where the ego is now."""
    stamp = probe.fed[-1]
    marker = Marker(header=header(stamp, "base_link"), ns="car", type=Marker.CUBE)
    marker.pose.position.x = START[0] + 60.0 - probe.ego_x_m(stamp)
    marker.pose.position.z = 0.8
    marker.pose.orientation.w = 1.0
    marker.scale = Vector3(x=4.5, y=1.9, z=1.6)
    return MarkerArray(markers=[marker])


@pytest.fixture
def make(tiny_bundle):
    """Creates perception nodes in this process."""
    rclpy.init(domain_id=DOMAIN_ID)
    nodes = []

    def create(**parameters: object) -> PerceptionNode:
        parameters |= {"bundle__path": str(tiny_bundle), "autostart": False}
        overrides = [Parameter(name.replace("__", "."), value=v) for name, v in parameters.items()]
        nodes.append(PerceptionNode(overrides=overrides))
        return nodes[-1]

    yield create
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def problems(node: PerceptionNode) -> str:
    health = Health()
    node.problems.report(health)
    node.report(health)
    return "; ".join(text for _, text in health.problems)


def transform(child: str, parent: str, x: float, rotation: Quaternion) -> Fields:
    where = Fields(translation=Vector3(x=x, z=0.8), rotation=rotation)
    return Fields(header=Fields(frame_id=parent), child_frame_id=child, transform=where)


def test_extrinsics_come_from_static_transforms_and_may_change(make, monkeypatch):
    """tf2_msgs is not among the wheels here: its message is stood in for by its fields."""
    monkeypatch.setattr(perception_node, "message_class", lambda _: TrackedObjects)
    node = make(cameras__names=["front_cam"], cameras__slots=["front"])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    node._on_info("front_cam", calibration())
    assert "front_cam: no chain of static transforms from 'base_link' to 'front_opt" in problems(
        node
    )
    optical = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
    level = Quaternion(w=1.0)
    roof = transform("roof", "base_link", 1.0, level)
    node._on_transforms(Fields(transforms=[transform("front_optical", "roof", 0.5, optical), roof]))
    assert problems(node) == "camera front_cam: no image received"
    (slot, *_) = node._calibrated_slots()
    np.testing.assert_allclose(slot.ego_from_camera[:3, 3], [1.5, 0.0, 1.6])
    np.testing.assert_allclose(slot.ego_from_camera[:3, :3], optical_rotation(0.0), atol=1e-12)
    node._on_transforms(Fields(transforms=[transform("roof", "base_link", 1.2, level)]))
    assert "ego_from_camera changed at run time" in problems(node)
    assert node._calibrated_slots()[0].ego_from_camera[0, 3] == pytest.approx(1.7)
    node._on_transforms(Fields(transforms=[transform("roof", "base_link", np.nan, level)]))
    assert "/tf_static: transform from 'base_link' to 'roof' is" in problems(node)
    health = Health()
    node.report(health)
    assert health.values["camera front_cam: extrinsics"] == (
        "/tf_static, base_link to front_optical"
    )


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "cameras.extrinsics.a: is not set; tf2_msgs/TFMessage is not installed: apt install"),
        ({"extrinsics__source": "yaml"}, "cameras.extrinsics.a: is not set"),
    ],
)
def test_a_camera_without_extrinsics_is_refused_with_what_to_do(make, parameters, expected):
    with pytest.raises(ParameterError, match=expected):
        make(cameras__names=["a"], **parameters)


def test_extrinsics_from_transforms_need_slots(make, monkeypatch):
    monkeypatch.setattr(perception_node, "message_class", lambda _: TrackedObjects)
    with pytest.raises(ParameterError, match=r"cameras\.slots: must be set, because the view of a"):
        make(cameras__names=["a"])


def test_an_objects_type_that_is_not_installed_fails_configure_in_one_line(make):
    node = make(objects__type="vision_msgs/Detection3DArray")
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "vision_msgs/Detection3DArray is not installed: apt install ros-" in node._failure


def test_an_image_from_the_future_is_left_out_and_named(make):
    parameters = {"cameras__names": ["cam"], "cameras__extrinsics__cam": [1.5, 0.0, 1.6]}
    parameters["cameras__extrinsics__cam"] += [-0.5, 0.5, -0.5, 0.5]
    node = make(**parameters)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    node._on_image("cam", raw_image(node.now_ns() + 5_000_000_000))
    assert "camera cam: image is stamped 5.0 s in the future" in problems(node)
    health = Health()
    node.report(health)
    assert health.values["camera cam: unused, from the future"] == "1"
    assert health.values["camera cam: received"] == "0"


def test_objects_from_the_future_are_left_out_and_blind_nobody(make, monkeypatch):
    """Taken in, they would have the tracker refuse what comes before that time."""
    node = make(objects__track="on")
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    taken = []
    monkeypatch.setattr(node, "_hand_over_objects", taken.append)
    now_ns = node.now_ns()
    for ahead_ns in (0, 900_000_000, 100_000_000):
        node._on_objects(objects_msg(one_car(now_ns + ahead_ns), "map"))
    assert [objects.stamp_ns - now_ns for objects in taken] == [0, 100_000_000]
    assert "objects: stamped 0.9 s in the future" in problems(node)
