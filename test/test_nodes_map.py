"""The map node: from a map file to rasters that show the road."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from graph_probe import START, Probe, Process
from rap_msgs.msg import MapPrimitives
from sensor_msgs.msg import Image

from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import map_from_msg
from rap_raster.ros.qos import LATCHED
from rap_raster.scene import Boxes, Lights

pytestmark = pytest.mark.ros

MAP = "rap_raster.ros.map_node"
RASTER = "rap_raster.ros.raster_node"

STRAIGHT_ROAD = f"""<?xml version="1.0"?>
<OpenDRIVE>
  <header revMajor="1" revMinor="4" name="straight"/>
  <road name="r" length="400.0" id="1" junction="-1">
    <planView>
      <geometry s="0.0" x="0.0" y="{START[1] + 1.75}" hdg="0.0" length="400.0"><line/></geometry>
    </planView>
    <lanes><laneSection s="0.0">
      <center><lane id="0" type="none" level="false"/></center>
      <right><lane id="-1" type="driving" level="false">
        <width sOffset="0.0" a="3.5" b="0.0" c="0.0" d="0.0"/>
        <roadMark sOffset="0.0" type="solid" color="standard" width="0.15"/>
      </lane></right>
    </laneSection></lanes>
  </road>
</OpenDRIVE>
"""


@pytest.fixture
def road(tmp_path):
    path = tmp_path / "straight.xodr"
    path.write_text(STRAIGHT_ROAD)
    return path


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
