"""Nodes in this process: transitions, parameters, and input that must not be believed."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from graph_probe import DOMAIN_ID, START
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy
from road_map import write_straight_road
from sensor_msgs.msg import CameraInfo

from rap_inference.bundle import file_sha256
from rap_inference.network import OnnxRuntimeNetwork
from rap_perception.ros.perception_node import PerceptionNode
from rap_planner.ros.guard_node import GuardNode
from rap_planner.ros.planner_node import PlannerNode
from rap_raster.maps.map_file import load_map
from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import map_msg, objects_msg
from rap_raster.ros.diagnostics import ERROR, WARN, Health, Progress
from rap_raster.ros.map_node import MapNode
from rap_raster.ros.node import ConfigureError
from rap_raster.ros.parameters import ParameterError
from rap_raster.ros.raster_node import RasterNode
from rap_raster.scene import Boxes, Lights

pytestmark = pytest.mark.ros

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
AHEAD = [1.5, 0.0, 1.6, -0.5, 0.5, -0.5, 0.5]


@pytest.fixture(autouse=True)
def ros():
    rclpy.init(domain_id=DOMAIN_ID)
    yield
    rclpy.try_shutdown()


@pytest.fixture
def make(ros):
    """Creates nodes and destroys them at the end of the test."""
    nodes = []

    def create(kind: type, **parameters: object):
        overrides = [Parameter(name.replace("__", "."), value=v) for name, v in parameters.items()]
        nodes.append(kind(overrides=overrides))
        return nodes[-1]

    yield create
    for node in nodes:
        node.destroy_node()


def health(node) -> Health:
    report = Health()
    node.problems.report(report)
    node.report(report)
    return report


@pytest.fixture(params=[PerceptionNode, RasterNode, PlannerNode, GuardNode, MapNode])
def make_any(request, make, tiny_bundle, tmp_path):
    """Creates a node of each kind with what it needs to be configured."""
    needed = {GuardNode: {}, MapNode: {"map.path": str(write_straight_road(tmp_path))}}
    default = {"bundle.path": str(tiny_bundle)}
    return partial(make, request.param, **needed.get(request.param, default))


def held(node) -> tuple[int, ...]:
    """How many of everything that a transition may make there are."""
    parts = (node.publishers, node.subscriptions, node.timers)
    return (*(len(list(part)) for part in parts), threading.active_count())


def test_nodes_go_through_all_transitions_twice_and_keep_nothing(make_any):
    node = make_any()
    before = held(node)
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS
        configured = held(node)
        assert node.trigger_activate() == SUCCESS
        assert node.is_active
        assert node.trigger_deactivate() == SUCCESS
        assert not node.is_active
        assert held(node) == configured
        assert node.trigger_cleanup() == SUCCESS
        assert held(node) == before
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert node.trigger_shutdown() == SUCCESS
    assert not node.is_active
    assert held(node) == before


def test_activations_that_fail_leave_nothing_running(make_any):
    """The override is of a topic that the node has not, which shows when it has subscribed."""
    node = make_any(**{"qos_overrides./nowhere.subscription.depth": 3})
    before = held(node)
    assert node.trigger_configure() == SUCCESS
    configured = held(node)
    for _ in range(2):
        assert node.trigger_activate() == FAILURE
        assert held(node) == configured
    assert not node.is_active
    assert node.trigger_cleanup() == SUCCESS
    assert held(node) == before


@pytest.mark.parametrize("kind", [RasterNode, PlannerNode])
def test_clean_up_lets_go_of_the_network(make, tiny_bundle, monkeypatch, kind):
    """At once, not at some collection: on a GPU memory is short while the next one is loaded."""
    networks = []

    class Network(OnnxRuntimeNetwork):
        def __init__(self, path: Path, *, threads: int) -> None:
            super().__init__(path, threads=threads)
            networks.append(weakref.ref(self))

    monkeypatch.setattr("rap_inference.backends.OnnxRuntimeNetwork", Network)
    node = make(kind, bundle__path=str(tiny_bundle))
    node.start_by_itself()
    (network,) = networks
    assert network() is not None
    gc.disable()
    try:
        node.trigger_deactivate()
        node.trigger_cleanup()
        assert network() is None
    finally:
        gc.enable()


LAST_PUBLISHER = {
    PerceptionNode: "/rap/objects",
    RasterNode: "/raster/front_right/image",
    PlannerNode: "/rap/latency/input_age",
    GuardNode: "/rap/latency/end_to_end",
    MapNode: "/rap/map",
}


def test_configurations_that_fail_leave_no_publisher_and_no_thread(make_any):
    topic = LAST_PUBLISHER[make_any.args[0]]
    node = make_any(**{f"qos_overrides.{topic}.publisher.durability": "persistent"})
    before = held(node)
    for _ in range(2):
        assert node.trigger_configure() == FAILURE
        assert held(node) == before
    with pytest.raises(ConfigureError, match="Unexpected QoS override"):
        node.start_by_itself()


@pytest.mark.parametrize("kind", [PerceptionNode, RasterNode, PlannerNode])
def test_a_bundle_that_is_not_there_fails_configure_with_the_real_text(make, tmp_path, kind):
    node = make(kind, bundle__path=str(tmp_path))
    assert node.trigger_configure() == FAILURE
    with pytest.raises(ConfigureError, match=r"bundle\.yaml: cannot be read"):
        node.start_by_itself()


def changed_bundle(source: Path, folder: Path, network: str, content: bytes) -> Path:
    """Copies a bundle with one network replaced and its hash made right."""
    manifest = yaml.safe_load((source / "bundle.yaml").read_text())
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / f"{network}.onnx").write_bytes(content)
    manifest[network]["sha256"] = file_sha256(folder / f"{network}.onnx")
    (folder / "bundle.yaml").write_text(yaml.safe_dump(manifest))
    return folder


@pytest.mark.parametrize(("kind", "network"), [(RasterNode, "encoder"), (PlannerNode, "planner")])
def test_a_file_that_is_no_network_fails_configure(make, tiny_bundle, tmp_path, kind, network):
    bundle = changed_bundle(tiny_bundle, tmp_path, network, b"garbage")
    with pytest.raises(ConfigureError, match=rf"{network}\.onnx: not a usable network"):
        make(kind, bundle__path=str(bundle)).start_by_itself()


@pytest.mark.parametrize(("kind", "network"), [(RasterNode, "encoder"), (PlannerNode, "planner")])
def test_a_network_that_does_not_fit_the_manifest_fails_configure_and_not_the_drive(
    make, tiny_bundle, tmp_path, kind, network
):
    """Each network replaced by the other one: it loads, but does not take the inputs."""
    other = {"encoder": "planner", "planner": "encoder"}[network]
    content = (tiny_bundle / f"{other}.onnx").read_bytes()
    bundle = changed_bundle(tiny_bundle, tmp_path, network, content)
    with pytest.raises(ConfigureError, match=rf"{network}\.onnx: does not run: Required inputs"):
        make(kind, bundle__path=str(bundle)).start_by_itself()


def test_a_bundle_whose_candidates_the_guard_would_refuse_fails_configure(
    make, tiny_bundle, tmp_path
):
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    file = tmp_path / "bundle" / "bundle.yaml"
    manifest = yaml.safe_load(file.read_text()) | {"proposals": 256}
    file.write_text(yaml.safe_dump(manifest))
    with pytest.raises(ConfigureError, match=r"proposals is 256, the guard takes 1 to 128"):
        make(PlannerNode, bundle__path=str(tmp_path / "bundle")).start_by_itself()


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"),
    [
        (
            GuardNode,
            {"foo": 1},
            "foo: unknown parameter, guard_node has autostart, autoware",
        ),
        (GuardNode, {"mode": "on"}, "mode: is 'on', expected one of active, shadow"),
        (GuardNode, {"rate_hz": 20}, "rate_hz"),
        (PerceptionNode, {"cameras__names": ["a"]}, "cameras.extrinsics.a: is not set"),
    ],
)
def test_bad_parameters_are_refused(make, kind, parameters, expected):
    with pytest.raises(ParameterError, match=expected):
        make(kind, **parameters)


def test_extrinsics_that_are_no_pose_are_refused(make):
    parameters = {"cameras__names": ["a"], "cameras__extrinsics__a": [0.0] * 7}
    with pytest.raises(ValueError, match=r"cameras\.extrinsics\.a: quaternion has length 0"):
        make(PerceptionNode, **parameters)


def test_the_map_node_names_the_parameter_it_lacks(make):
    with pytest.raises(ConfigureError, match=r"map\.path: is not set"):
        make(MapNode).start_by_itself()


def test_parameters_tell_their_range_and_choices_and_are_refused_while_driving(make):
    node = make(GuardNode)
    node.start_by_itself()
    (rate,) = node.describe_parameters(["rate_hz"])
    limits = rate.floating_point_range[0]
    assert (limits.from_value, limits.to_value, rate.read_only) == (20.0, 100.0, True)
    (mode,) = node.describe_parameters(["mode"])
    assert mode.additional_constraints == "active | shadow"
    for name in ("mode", "rate_hz", "frames.map"):
        (result,) = node.set_parameters([node.get_parameter(name)])
        assert not result.successful
        assert "read-only" in result.reason
    with pytest.raises(ParameterNotDeclaredException):
        node.set_parameters([Parameter("unknown", value=1)])


def test_every_node_can_run_on_simulated_time(make):
    node = make(GuardNode, use_sim_time=True)
    assert node.now_ns() == 0


ROUTE_DURABILITY = "qos_overrides./route.subscription.durability"


def durability(node) -> DurabilityPolicy:
    (route,) = node.get_subscriptions_info_by_topic("/route")
    return route.qos_profile.durability


def test_a_profile_is_overridden_for_one_node_and_for_no_other(make, tiny_bundle):
    parameters = {"bundle.path": str(tiny_bundle), ROUTE_DURABILITY: "volatile"}
    node = make(PlannerNode, **parameters)
    for _ in range(2):
        node.start_by_itself()
        assert durability(node) == DurabilityPolicy.VOLATILE
        node.trigger_deactivate()
        node.trigger_cleanup()
    other = make(PlannerNode, bundle__path=str(tiny_bundle))
    other.start_by_itself()
    assert durability(other) == DurabilityPolicy.TRANSIENT_LOCAL


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "qos_overrides./rout.subscription.depth",
            3,
            "unknown parameter, planner_node has .*/route",
        ),
        (ROUTE_DURABILITY, "persistent", "Unexpected QoS override .* `persistent`"),
    ],
)
def test_a_bad_override_of_a_profile_fails_activation(make, tiny_bundle, name, value, expected):
    node = make(PlannerNode, **{"bundle.path": str(tiny_bundle), name: value})
    with pytest.raises(ConfigureError, match=expected):
        node.start_by_itself()


def test_diagnostics_say_what_runs_the_networks(make, tiny_bundle):
    node = make(PlannerNode, bundle__path=str(tiny_bundle), inference__backend="cpu")
    node.start_by_itself()
    assert health(node).values["inference backend"] == "cpu"


def test_a_backend_that_is_not_here_fails_configure_with_the_real_text(
    make, tiny_bundle, monkeypatch
):
    monkeypatch.setattr("rap_inference.cuda_device.DRIVER", "libcuda-not-there.so")
    node = make(PlannerNode, bundle__path=str(tiny_bundle), inference__backend="cuda")
    with pytest.raises(ConfigureError, match=r"cuda: no CUDA GPU .* libcuda-not-there\.so"):
        node.start_by_itself()


def test_malformed_objects_are_dropped_counted_and_reported(make, tiny_bundle):
    node = make(PerceptionNode, bundle__path=str(tiny_bundle))
    received = []
    node.connect(lambda _: None, received.append)
    node.start_by_itself()
    message = TrackedObjectsMsg()
    message.header.frame_id = "map"
    node._on_objects(message)
    assert len(received) == 1
    message.ids = [1]
    node._on_objects(message)
    node._on_objects(message)
    assert len(received) == 1
    report = health(node)
    assert (WARN, "objects: classes: 0 values, expected 1 (1 for each of the 1 ids)") in (
        report.problems
    )
    assert report.values["objects: problems"] == "2"


def test_one_malformed_object_takes_no_other_with_it(make, tiny_bundle):
    node = make(PerceptionNode, bundle__path=str(tiny_bundle))
    received = []
    node.connect(lambda _: None, received.append)
    node.start_by_itself()
    rows = [[k, 1, 10.0 * k, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0, 0.0, 0.0] for k in (1, 2)]
    one = np.ones(2, np.float32)
    seen = TrackedObjects(0, Boxes.from_rows(rows), Lights.empty(), 0 * one, one)
    message = objects_msg(seen, "map")
    message.sizes[4] = 0.0
    node._on_objects(message)
    assert [objects.boxes.ids.tolist() for objects in received] == [[1]]
    expected = "objects: sizes[4]: is 0.0, expected > 0; left out 1 of 2 objects"
    assert (WARN, expected) in health(node).problems


def test_objects_in_another_frame_are_dropped(make, tiny_bundle):
    node = make(PerceptionNode, bundle__path=str(tiny_bundle))
    received = []
    node.connect(lambda _: None, received.append)
    node.start_by_itself()
    node._on_objects(TrackedObjectsMsg())
    assert received == []
    assert any("frame_id is '', expected 'map'" in text for _, text in health(node).problems)


def test_zero_calibration_is_an_error_until_a_good_one_comes(make, tiny_bundle):
    cameras = {"cameras__names": ["cam"], "cameras__extrinsics__cam": AHEAD}
    node = make(PerceptionNode, bundle__path=str(tiny_bundle), **cameras)
    node.start_by_itself()
    missing = "cam: no camera_info received on /camera/cam/camera_info, its images are not used"
    assert (ERROR, missing) in health(node).problems
    info = CameraInfo(width=128, height=64)
    node._on_info("cam", info)
    assert any("the camera is not calibrated" in text for _, text in health(node).problems)
    good = CameraInfo(width=128, height=64)
    good.k = np.diag([80.0, 80.0, 1.0]).reshape(-1)
    node._on_info("cam", good)
    assert [text for _, text in health(node).problems] == ["camera cam: no image received"]


def test_a_camera_given_in_its_body_frame_is_told_where_the_slot_is_stated(make, tiny_bundle):
    """x ahead instead of z: as good as every driver's own frame."""
    body = [1.5, 0.0, 1.6, 0.0, 0.0, 0.0, 1.0]
    cameras = {"cameras__names": ["cam"], "cameras__slots": ["front"]}
    told = []
    for pose in (AHEAD, body):
        node = make(
            PerceptionNode, bundle__path=str(tiny_bundle), cameras__extrinsics__cam=pose, **cameras
        )
        node.start_by_itself()
        node._on_info(
            "cam", CameraInfo(width=128, height=64, k=[80.0, 0, 0, 0, 80.0, 0, 0, 0, 1.0])
        )
        told.append([text for _, text in health(node).problems if "looks" in text])
        node.destroy_node()
    assert not told[0]
    assert told[1][0].startswith("cam: looks 90 degrees away from slot front; extrinsics (cameras.")


def test_a_camera_that_looks_where_no_slot_does_is_refused(make, tiny_bundle):
    behind = [0.0, 0.0, 1.6, 0.5, 0.5, -0.5, -0.5]
    cameras = {"cameras__names": ["rear"], "cameras__extrinsics__rear": behind}
    node = make(PerceptionNode, bundle__path=str(tiny_bundle), **cameras)
    with pytest.raises(ConfigureError, match="no camera looks where a bundle slot does"):
        node.start_by_itself()


def test_of_two_cameras_that_look_ahead_the_one_not_used_is_named(make, tiny_bundle):
    names = {"cameras__names": ["near", "far"]}
    aside = [1.5, 0.0, 1.6, -0.4777, 0.5213, -0.5213, 0.4777]
    poses = {"cameras__extrinsics__near": AHEAD, "cameras__extrinsics__far": aside}
    node = make(PerceptionNode, bundle__path=str(tiny_bundle), **names, **poses)
    assert "far" not in str(health(node).problems)
    node.start_by_itself()
    report = health(node)
    assert (WARN, "camera far: no slot is left where it looks, it is not used") in report.problems
    assert report.values["slot front"] == "near"


def test_a_transition_that_the_state_does_not_allow_is_answered(make):
    """rclpy alone raises and answers nothing, so that a lifecycle manager waits for ever."""
    node, asker = make(GuardNode), rclpy.create_node("manager")
    node.start_by_itself()
    client = asker.create_client(ChangeState, "guard_node/change_state")
    executor = SingleThreadedExecutor()
    for each in (node, asker):
        executor.add_node(each)
    configure, activate, deactivate = (
        ChangeState.Request(transition=Transition(id=number))
        for number in (
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
            Transition.TRANSITION_DEACTIVATE,
        )
    )
    answers = []
    try:
        assert client.wait_for_service(10.0)
        for request in (configure, deactivate, deactivate, activate):
            future = client.call_async(request)
            executor.spin_until_future_complete(future, timeout_sec=10.0)
            assert future.done(), "no answer"
            answers.append(future.result().success)
    finally:
        executor.shutdown()
        asker.destroy_node()
    assert answers == [False, True, False, True]


def test_autostart_off_leaves_the_transitions_to_a_manager(make, tiny_bundle):
    node = make(PlannerNode, bundle__path="/nowhere", autostart=False)
    node.start_by_itself()
    assert node.trigger_configure() == FAILURE


def test_odometry_without_heights_on_a_map_with_some_is_told(make, tiny_bundle, tmp_path):
    node = make(RasterNode, bundle__path=str(tiny_bundle))
    node.start_by_itself()
    road = load_map(write_straight_road(tmp_path))
    message = Odometry(child_frame_id="base_link")
    message.header.frame_id, message.header.stamp.sec = "map", 5
    message.pose.pose.position.x, message.pose.pose.position.y = START[:2]
    message.pose.pose.orientation.w = 1.0
    node.ego.receive(message)
    for height_m, told in (
        (0.0, []),
        (40.0, ["the ego is 40.0 m below the map: it cannot be drawn"]),
    ):
        points_m = road.polylines.points_m.copy()
        points_m[:, 2] += height_m
        lifted = replace(road.polylines, points_m=points_m)
        node._on_map(map_msg(replace(road, polylines=lifted), 0, "map"))
        assert [text for _, text in health(node).problems if "the map" in text] == told
    # A localisation that finds its height does so where the vehicle stands.
    message.header.stamp.sec, message.pose.pose.position.z = 6, 40.0
    node.ego.receive(message)
    assert not [text for _, text in health(node).problems if "the map" in text]


@pytest.mark.parametrize(
    ("kind", "missing"),
    [(RasterNode, "no features made yet"), (PlannerNode, "nothing planned yet")],
)
def test_what_was_made_before_a_pause_is_not_of_after_it(make, tiny_bundle, kind, missing):
    node = make(kind, bundle__path=str(tiny_bundle))
    node.start_by_itself()
    node._last = object()
    assert node.trigger_deactivate() == node.trigger_activate() == SUCCESS
    assert missing in [text for _, text in health(node).problems]


def test_a_node_whose_steps_stop_coming_says_so(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    progress, reports = Progress(), []
    for wait_s in (0.0, 1.0, 9.0):
        progress.stepped()
        now_s[0] += wait_s
        reports.append(Health())
        progress.report(reports[-1])
    assert [report.values["last step, s ago"] for report in reports] == ["0.0", "1.0", "9.0"]
    assert [report.problems for report in reports] == [[], [], [(WARN, "no step for 9 s")]]
