"""The map node: from a map file to rasters that show the road."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from fuzzing import StandIn, break_message, fuzzed
from geometry_msgs.msg import Point, Pose
from graph_probe import DOMAIN_ID, Probe, Process
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Path
from rap_msgs.msg import MapPrimitives
from rclpy.parameter import Parameter
from road_map import write_straight_road
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import map_from_msg
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.map_node import MapNode
from rap_raster.ros.node import ConfigureError
from rap_raster.ros.qos import LATCHED
from rap_raster.scene import Boxes, Lights

pytestmark = pytest.mark.ros

MAP = "rap_raster.ros.map_node"
RASTER = "rap_raster.ros.raster_node"


@pytest.fixture
def road(tmp_path):
    return write_straight_road(tmp_path)


def empty_road(stamp_ns: int) -> TrackedObjects:
    nothing = np.zeros(0, np.float32)
    return TrackedObjects(stamp_ns, Boxes.empty(), Lights.empty(), nothing, nothing)


def test_a_late_joiner_gets_the_map_and_the_raster_shows_the_road(road, tiny_bundle):
    with ExitStack() as stack:
        stack.enter_context(Process(MAP, [f"map.path:={road}"]))
        probe = stack.enter_context(Probe())
        maps = probe.watch(MapPrimitives, "rap/map", LATCHED)
        probe.drive_until(lambda: len(maps) > 0)
        stack.enter_context(Process(RASTER, [f"bundle.path:={tiny_bundle}"]))
        rasters = probe.watch(Image, "raster/front/image")
        # The probe's objects come straight to the raster node, without a perception node.
        probe.redirect_objects("rap/objects")
        probe.drive_until(
            lambda: any(lit_share(image) > 0.1 for image in rasters), objects=empty_road
        )
    received = map_from_msg(maps[0], "map")
    assert received.name == "straight"
    assert len(maps) == 1
    xs = received.polygons.points_m[:, 0]
    assert (xs.min(), xs.max()) == pytest.approx((0.0, 400.0))


def lit_share(message: Image) -> float:
    """Share of pixels that are not black in the lower half, where the road is."""
    pixels = np.asarray(message.data).reshape(message.height, message.width, 3)
    return float((pixels[message.height // 2 :].max(axis=2) > 0).mean())


LANELET = """<osm>
{nodes}
<way id="10"><nd ref="1"/><nd ref="2"/><tag k="type" v="line_thin"/></way>
<way id="11"><nd ref="3"/><nd ref="4"/><tag k="type" v="line_thin"/></way>
<relation id="20">
<member type="way" ref="10" role="left"/><member type="way" ref="11" role="right"/>
<tag k="type" v="lanelet"/><tag k="subtype" v="road"/></relation>
</osm>"""


def test_a_lanelet2_map_is_published(tmp_path):
    path = tmp_path / "lane.osm"
    corners = [(0.0, 3.5), (80.0, 3.5), (0.0, 0.0), (80.0, 0.0)]
    nodes = "".join(
        f'<node id="{number}"><tag k="local_x" v="{x}"/><tag k="local_y" v="{y}"/></node>'
        for number, (x, y) in enumerate(corners, start=1)
    )
    path.write_text(LANELET.format(nodes=nodes))
    with Process(MAP, [f"map.path:={path}"]), Probe() as probe:
        maps = probe.watch(MapPrimitives, "rap/map", LATCHED)
        probe.drive_until(lambda: len(maps) > 0)
    received = map_from_msg(maps[0], "map")
    assert received.name == "lane (local)"
    xs = received.polygons.points_m[:, 0]
    assert (xs.min(), xs.max()) == pytest.approx((0.0, 80.0))


@pytest.fixture
def make_map_node():
    """Creates map nodes in this process."""
    rclpy.init(domain_id=DOMAIN_ID)
    nodes = []

    def create(path, **parameters):
        values = {"map.path": str(path)} | {n.replace("__", "."): v for n, v in parameters.items()}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        nodes.append(MapNode(overrides=overrides))
        return nodes[-1]

    yield create
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def two_lanes(path):
    """Lanelet 20, then 21, each 80 m to the east, on latitude 49."""
    east_deg = 80.0 / (111_320.0 * np.cos(np.radians(49.0)))
    points = [(x, y) for x in (0.0, 80.0, 160.0) for y in (3.5, 0.0)]
    nodes = "".join(
        f'<node id="{k}" lat="{49.0 + y / 111_320.0:.8f}" lon="{8.4 + x / 80.0 * east_deg:.8f}">'
        f'<tag k="local_x" v="{x}"/><tag k="local_y" v="{y}"/></node>'
        for k, (x, y) in enumerate(points)
    )
    ways = "".join(
        f'<way id="{10 + k}"><nd ref="{k}"/><nd ref="{k + 2}"/><tag k="type" v="line_thin"/></way>'
        for k in range(4)
    )
    lanelets = "".join(
        f'<relation id="{20 + k}"><member type="way" ref="{10 + 2 * k}" role="left"/>'
        f'<member type="way" ref="{11 + 2 * k}" role="right"/>'
        '<tag k="type" v="lanelet"/><tag k="subtype" v="road"/></relation>'
        for k in range(2)
    )
    path.write_text(f"<osm>{nodes}{ways}{lanelets}</osm>")
    return path


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "local"),
        ({"map__projection": "local"}, "local"),
        ({"map__projection": "utm"}, "utm 32N from 49.0000"),
        ({"map__projection": "utm", "map__origin_deg": [48.5, 8.5]}, "utm 32N from 48.5000"),
        ({"map__projection": "mgrs"}, "mgrs 32UMV"),
    ],
)
def test_diagnostics_state_the_projection_asked_for(make_map_node, tmp_path, parameters, expected):
    node = make_map_node(two_lanes(tmp_path / "two.osm"), **parameters)
    node.start_by_itself()
    report = Health()
    node.report(report)
    assert report.values["projection"].startswith(expected)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("two.osm", {"map__origin_deg": [49.0, 8.4]}, "goes with projection utm or mgrs, got"),
        ("two.osm", {"map__projection": "utm", "map__origin_deg": [49.0]}, "expected 2 numbers"),
        ("r.xodr", {"map__projection": "utm"}, "OpenDRIVE is in metres already"),
        ("two.osm", {"route__from_lanelets": True}, "LaneletRoute is not installed: apt install"),
    ],
)
def test_a_projection_or_route_that_cannot_be_is_refused_in_one_line(
    make_map_node, tmp_path, name, parameters, expected
):
    node = make_map_node(two_lanes(tmp_path / name), **parameters)
    with pytest.raises(ConfigureError, match=expected):
        node.start_by_itself()


def lanelet_route(*ids, goal=(120.0, 1.0), frame="map"):
    """What is read of an autoware_planning_msgs/LaneletRoute."""
    x, y = goal
    return StandIn(
        header=Header(frame_id=frame, stamp=Time(sec=7)),
        goal_pose=Pose(position=Point(x=x, y=y)),
        segments=[StandIn(preferred_primitive=StandIn(id=i)) for i in ids],
    )


@pytest.fixture
def lanelet_router(make_map_node, tmp_path, monkeypatch):
    """A map node that takes lanelet routes, and the routes of points that it publishes."""
    package = SimpleNamespace(LaneletRoute=Path)  # any message type can be subscribed to
    monkeypatch.setitem(sys.modules, "autoware_planning_msgs.msg", package)
    node = make_map_node(two_lanes(tmp_path / "two.osm"), route__from_lanelets=True)
    node.start_by_itself()
    published = []
    monkeypatch.setattr(node._route, "publish", published.append)
    return node, published


def test_a_lanelet_route_becomes_a_route_of_points(lanelet_router):
    node, published = lanelet_router
    node._on_lanelet_route(lanelet_route(20, 21))
    (route,) = published
    places = [(p.pose.position.x, p.pose.position.y) for p in route.poses]
    assert places[0] == pytest.approx((0.0, 1.75))
    assert places[-1] == pytest.approx((120.0, 1.75))
    assert (route.header.frame_id, route.header.stamp.sec) == ("map", 7)
    for bad, reason in [
        (lanelet_route(20, 99), "lanelet 99 is no lane of the map"),
        (lanelet_route(), "it has no segments"),
        (lanelet_route(20, frame="odom"), "'odom', expected 'map'"),
        (lanelet_route(20, goal=(np.nan, 1.0)), "its goal is not finite"),
        (lanelet_route(20, goal=(1e300, 1.0)), "or beyond 1e+08 m"),
    ]:
        node._on_lanelet_route(bad)
        assert not published[-1].poses, "the route of before leads elsewhere"
        assert published[-1].header.frame_id == "map"
        assert reason in node.health().problems[-1][1]
    node._on_lanelet_route(lanelet_route(20, 21))
    assert len(published[-1].poses) == len(route.poses)
    assert not node.health().problems


@pytest.mark.fuzz
@fuzzed
@given(data=st.data())
def test_a_lanelet_route_with_a_wrong_field_is_published_or_refused_in_one_line(
    lanelet_router, data
):
    node, published = lanelet_router
    published.clear()
    message = lanelet_route(20, 21)
    for _ in range(data.draw(st.integers(1, 2))):
        break_message(data.draw, message)
    node._on_lanelet_route(message)
    (route,) = published
    places = [(p.pose.position.x, p.pose.position.y) for p in route.poses]
    assert np.isfinite(places).all()
    if not places:
        text = node.health().problems[-1][1]
        assert text.startswith("lanelet_route: ")
        assert "\n" not in text


def test_the_published_part_can_be_cropped(road):
    crop = ["map.center_m:=[200.0, 50.0]", "map.radius_m:=20.0"]
    with Process(MAP, [f"map.path:={road}", *crop]), Probe() as probe:
        maps = probe.watch(MapPrimitives, "rap/map", LATCHED)
        probe.drive_until(lambda: len(maps) > 0)
    xs = map_from_msg(maps[0], "map").polygons.points_m[:, 0]
    assert xs.min() > 0.0
    assert xs.max() < 400.0


def test_a_file_that_is_no_map_ends_the_node_with_one_line(tmp_path):
    path = tmp_path / "broken.xodr"
    path.write_text("<OpenDRIVE><road")
    with Process(MAP, [f"map.path:={path}"]) as process:
        status, errors = process.wait()
    assert status == 1
    assert len(errors.splitlines()) == 1
    assert "broken.xodr" in errors
