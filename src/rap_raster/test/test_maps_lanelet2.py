from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_raster.maps.lanelet2 import load_lanelet2
from rap_raster.maps.lanelet2_file import Projection, ProjectionKind
from rap_raster.maps.map_file import load_map
from rap_raster.maps.routing import LaneMatcher
from rap_raster.maps.vector_map import LIGHT_HEIGHT_M
from rap_raster.maps.xml_file import MapError
from rap_raster.scene import LineKind, PolygonKind


def tags(**values):
    return "".join(f"<tag k='{k.replace('__', ':')}' v='{v}'/>" for k, v in values.items())


def node(key, x, y, z=None, **more):
    height = {} if z is None else {"ele": z}
    return f"<node id='{key}' lat='' lon=''>{tags(local_x=x, local_y=y, **height, **more)}</node>"


def way(key, nodes, **values):
    refs = "".join(f"<nd ref='{n}'/>" for n in nodes)
    return f"<way id='{key}'>{refs}{tags(**values)}</way>"


def relation(key, *members, **values):
    parts = "".join(f"<member type='{t}' ref='{r}' role='{role}'/>" for t, r, role in members)
    return f"<relation id='{key}'>{parts}{tags(**values)}</relation>"


def lanelet(key, left, right, *members, **values):
    sides = (("way", left, "left"), ("way", right, "right"))
    return relation(key, *sides, *members, **{"type": "lanelet", "subtype": "road", **values})


def osm(*parts):
    return f"<?xml version='1.0' encoding='UTF-8'?><osm version='0.6'>{''.join(parts)}</osm>"


RULE = ("relation", 90, "regulatory_element")
LIMIT = ("relation", 91, "regulatory_element")


TURN = shapely.Polygon([(40, 0), (47, -5), (47, -20), (43, -20), (43, -6), (40, -3)])


def crossing():
    """Two lanes east, 20 (right) and 21 (left), then 22 straight on and 23 turning right.

    The way between the two lanes runs against them. A light hangs behind the stop line at the end
    of lane 20; the lane that leaves, 24, may be driven both ways. Beside lane 20 is a kerb, then a
    footway.
    """
    places = {
        1: (0, -3), 2: (40, -3), 3: (0, 0), 4: (40, 0), 5: (0, 4), 6: (40, 4),
        7: (60, -3), 8: (60, 0), 9: (43, -20), 10: (47, -20), 11: (90, -3), 12: (90, 0),
        13: (39.5, -3), 14: (39.5, 0), 15: (61, 1), 16: (61, -1), 17: (0, -5), 18: (40, -5),
        19: (46, -3), 26: (43, -6), 27: (47, -5),
    }  # fmt: skip
    nodes = [node(key, *place, z=2.0) for key, place in places.items() if key not in (15, 16)]
    nodes += [node(15, *places[15], z=7.0), node(16, *places[16], z=7.0)]
    return osm(
        *nodes,
        way(30, (1, 2), type="curbstone", subtype="high"),
        way(31, (4, 3), type="line_thin", subtype="dashed"),
        way(32, (5, 6), type="line_thick", subtype="solid"),
        way(33, (2, 19, 7), type="virtual"),
        way(34, (4, 8), type="virtual"),
        way(35, (2, 26, 9), type="road_border"),
        way(36, (4, 27, 10), type="virtual"),
        way(37, (7, 11), type="line_thin", subtype="solid_dashed"),
        way(38, (12, 8), type="road_border"),
        way(39, (13, 14), type="stop_line"),
        way(40, (15, 16), type="traffic_light", height=1.0),
        way(41, (17, 18), type="fence"),
        relation(90, ("way", 40, "refers"), ("way", 39, "ref_line"),
                 type="regulatory_element", subtype="traffic_light"),
        relation(91, type="regulatory_element", subtype="speed_limit", sign_type="20 mph"),
        lanelet(20, 31, 30, RULE, speed_limit="50"),
        lanelet(21, 32, 31, LIMIT, speed_limit="50"),
        lanelet(22, 34, 33),
        lanelet(23, 36, 35),
        lanelet(24, 38, 37, one_way="no"),
        lanelet(25, 30, 41, subtype="walkway"),
        lanelet(26, 33, 35, subtype="crosswalk"),
    )  # fmt: skip


def load(folder, text, projection=None):
    path = folder / "town.osm"
    path.write_text(text)
    return load_lanelet2(path, projection)


@pytest.fixture
def town(tmp_path):
    return load(tmp_path, crossing())


def lines_of(vector_map, kind):
    return [vector_map.polylines[i] for i in np.flatnonzero(vector_map.polylines.kinds == kind)]


def areas_of(vector_map, kind):
    return [vector_map.polygons[i] for i in np.flatnonzero(vector_map.polygons.kinds == kind)]


def test_only_lanelets_for_vehicles_are_lanes(town):
    assert set(town.lanes) == {"20", "21", "22", "23", "24", "24:inverted"}


def test_shared_ways_are_turned_into_the_lanes_direction(town):
    """Way 31 runs west and bounds two lanes that are driven east."""
    np.testing.assert_allclose(town.lanes["20"].left_m, [[0, 0, 2], [40, 0, 2]])
    np.testing.assert_allclose(town.lanes["21"].right_m, [[0, 0, 2], [40, 0, 2]])
    np.testing.assert_allclose(town.lanes["20"].centerline_m, [[0, -1.5, 2], [40, -1.5, 2]])


def test_lanes_follow_where_both_end_nodes_are_shared(town):
    found = {key: lane.successors for key, lane in town.lanes.items()}
    assert found == {
        "20": ("22", "23"), "21": (), "22": ("24",), "23": (), "24": (), "24:inverted": ()
    }  # fmt: skip


def test_neighbors_share_a_bound_in_the_same_direction(town):
    assert town.lanes["20"].left_neighbor == "21"
    assert town.lanes["21"].right_neighbor == "20"
    others = [key for key in town.lanes if key not in ("20", "21")]
    assert {town.lanes[key].left_neighbor for key in others} == {None}
    assert {town.lanes[key].right_neighbor for key in others} == {None}
    assert town.lanes["20"].right_neighbor is None


def test_two_way_lanelet_is_a_lane_in_each_direction(town):
    there, back = town.lanes["24"], town.lanes["24:inverted"]
    np.testing.assert_allclose(there.centerline_m[:, 0], [60, 90])
    np.testing.assert_allclose(back.centerline_m, there.centerline_m[::-1])
    np.testing.assert_allclose(back.left_m, there.right_m[::-1])


def test_overlapping_lanelets_are_a_junction(town):
    assert {key for key, lane in town.lanes.items() if lane.in_junction} == {"22", "23"}
    (area,) = areas_of(town, PolygonKind.INTERSECTION)
    wanted = shapely.box(40, -3, 60, 0).union(TURN)
    assert shapely.Polygon(area[:, :2]).symmetric_difference(wanted).area < 0.5


def test_turn_direction_tags_decide_where_there_are_any(tmp_path):
    text = crossing().replace(
        lanelet(24, 38, 37, one_way="no"), lanelet(24, 38, 37, turn_direction="straight")
    )
    lanes = load(tmp_path, text).lanes
    assert {key for key, lane in lanes.items() if lane.in_junction} == {"24"}


def test_lanelets_over_each_other_are_no_junction(tmp_path):
    """The same place 5 m higher: a bridge."""
    above = {1: (10, -30), 2: (14, -30), 3: (10, 30), 4: (14, 30)}
    nodes = [node(100 + key, *place, z=7.0) for key, place in above.items()]
    extra = [*nodes, way(50, (101, 103)), way(51, (102, 104)), lanelet(27, 50, 51)]
    lanes = load(tmp_path, crossing().replace("</osm>", "".join(extra) + "</osm>")).lanes
    assert not lanes["27"].in_junction
    assert not lanes["20"].in_junction
    flat = crossing().replace("</osm>", "".join(extra) + "</osm>").replace("'7.0'", "'2.0'")
    assert load(tmp_path, flat).lanes["27"].in_junction


def test_a_ramp_that_rises_to_a_bridge_is_no_junction_with_the_road_below(tmp_path):
    """As a whole it is as high as the road on average: what counts is where they meet."""
    middle = {1: (10, -60, -6.0), 2: (14, -60, -6.0), 3: (10, 0, 9.0), 4: (14, 0, 9.0)}
    ends = {5: (10, 60, -6.0), 6: (14, 60, -6.0)}
    nodes = [node(100 + key, x, y, z=z) for key, (x, y, z) in (middle | ends).items()]
    ramp = [way(50, (101, 103, 105)), way(51, (102, 104, 106)), lanelet(27, 50, 51)]
    text = crossing().replace("</osm>", "".join(nodes + ramp) + "</osm>")
    assert not load(tmp_path, text).lanes["27"].in_junction
    assert load(tmp_path, text.replace("'9.0'", "'2.0'")).lanes["27"].in_junction


@pytest.mark.parametrize(
    ("said", "both"),
    [
        ({"one_way": "no"}, True),
        ({"one_way": "yes", "one_way:vehicle": "no"}, False),  # As Lanelet2's traffic rules.
        ({"one_way:vehicle": "no"}, True),
        ({}, False),
    ],
)
def test_one_way_alone_decides_where_it_is_set(tmp_path, said, both):
    text = crossing().replace(lanelet(24, 38, 37, one_way="no"), lanelet(24, 38, 37, **said))
    assert ("24:inverted" in load(tmp_path, text).lanes) == both


def test_nodes_that_no_way_goes_through_say_nothing_about_the_projection(tmp_path):
    """Editors leave them behind; without local_x, one of them moved a map by 91 km."""
    left_behind = "<node id='900' lat='35.0' lon='139.0'/>"
    text = crossing().replace("<way id='30'>", left_behind + "<way id='30'>")
    assert load(tmp_path, text).name.endswith("(local)")


def test_a_node_without_height_lies_as_high_as_the_nearest_with_one(tmp_path):
    text = crossing().replace(node(4, 40, 0, z=2.0), node(4, 40, 0))
    vector_map = load(tmp_path, text)
    assert {z for lane in vector_map.lanes.values() for z in lane.centerline_m[:, 2]} == {2.0}


@pytest.mark.parametrize(
    ("text", "limit_mps"),
    [("50 kph", 13.89), ("30 mi/h", 13.41), ("50.", 13.89), ("none", None), ("", None)],
)
def test_a_limit_that_is_no_speed_is_none_and_refuses_no_map(tmp_path, text, limit_mps):
    found = load(tmp_path, crossing().replace("v='50'", f"v='{text}'")).lanes["20"].speed_limit_mps
    assert found == (None if limit_mps is None else pytest.approx(limit_mps, abs=0.01))


def test_lights_of_a_map_that_was_drawn_flat_hang_over_the_road(tmp_path):
    text = crossing().replace("<tag k='ele' v='7.0'/>", "<tag k='ele' v='2.0'/>")
    (light,) = load(tmp_path, text).traffic_lights
    assert light.center_m[2] == pytest.approx(2.0 + LIGHT_HEIGHT_M)


def test_speed_limit_of_a_rule_goes_before_that_of_the_tag(town):
    assert town.lanes["20"].speed_limit_mps == pytest.approx(50 / 3.6)
    assert town.lanes["21"].speed_limit_mps == pytest.approx(20 * 0.44704)
    assert town.lanes["22"].speed_limit_mps is None


@pytest.mark.parametrize(
    ("sign", "kmh"), [("de274-60", 60), ("274.1-20", 20), ("de274.1", 30), ("10 km/h", 10)]
)
def test_speed_signs(tmp_path, sign, kmh):
    text = crossing().replace("20 mph", sign)
    assert load(tmp_path, text).lanes["21"].speed_limit_mps == pytest.approx(kmh / 3.6)


def test_light_governs_the_lanes_behind_the_stop_line(town):
    """It is 1 m high on a bar at 7 m and faces the traffic, which comes from the west."""
    (light,) = town.traffic_lights
    assert light.lane_ids == ("22", "23")
    assert abs(light.yaw_rad) == pytest.approx(np.pi)
    np.testing.assert_allclose(light.center_m, [61, 0, 7.5])


def test_light_with_a_stop_line_at_the_start_governs_the_lanelet_itself(tmp_path):
    text = crossing().replace("v='39.5'", "v='0.5'")
    (light,) = load(tmp_path, text).traffic_lights
    assert light.lane_ids == ("20",)


def test_light_no_lane_refers_to_shines_across_its_way(tmp_path):
    """Seen from the west the bar runs from left (north) to right (south)."""
    text = crossing().replace("<member type='relation' ref='90' role='regulatory_element'/>", "")
    (light,) = load(tmp_path, text).traffic_lights
    assert light.lane_ids == ()
    assert abs(light.yaw_rad) == pytest.approx(np.pi)


def test_light_without_heights_hangs_as_high_as_lights_do(tmp_path):
    text = crossing().replace("<tag k='ele' v='7.0'/>", "")
    (light,) = load(tmp_path, text).traffic_lights
    assert light.center_m[2] == pytest.approx(2.0 + LIGHT_HEIGHT_M)


def test_lines_by_type(town):
    """Solid-and-dashed lines bound; virtual lines and the fence of the footway are not drawn."""
    ends = {
        kind: sorted(tuple(line[i, :2]) for line in lines_of(town, kind) for i in (0, -1))
        for kind in LineKind
    }
    assert ends[LineKind.LANE_DIVIDER] == [(0, 0), (40, 0)]
    assert ends[LineKind.LANE_BOUNDARY] == [(0, 4), (40, 4), (60, -3), (90, -3)]
    assert ends[LineKind.STOP_LINE] == [(39.5, -3), (39.5, 0)]
    assert ends[LineKind.ROAD_BOUNDARY] == [
        (0, -3), (40, -3), (40, -3), (43, -20), (60, 0), (90, 0)
    ]  # fmt: skip
    assert len(lines_of(town, LineKind.LANE_CENTERLINE)) == 5


def test_drivable_area_is_that_of_the_lanelets(town):
    rings = areas_of(town, PolygonKind.DRIVABLE)
    area = sum(shapely.Polygon(ring[:, :2]).area for ring in rings)
    assert area == pytest.approx(40 * 3 + 40 * 4 + 20 * 3 + 30 * 3 + TURN.area)
    assert len(areas_of(town, PolygonKind.CROSSWALK)) == 1


def test_long_lanelets_are_cut_for_cropping(tmp_path):
    nodes = [node(i, x, y) for i, (x, y) in enumerate([(0, 0), (200, 0), (0, 3), (200, 3)])]
    text = osm(*nodes, way(1, (0, 1), type="curbstone"), way(2, (2, 3)), lanelet(5, 2, 1))
    vector_map = load(tmp_path, text)
    for shapes in (vector_map.polylines, vector_map.polygons):
        assert max(np.ptp(shapes[i][:, 0]) for i in range(len(shapes))) <= 50.0
    kerbs = lines_of(vector_map, LineKind.ROAD_BOUNDARY)
    assert sum(np.ptp(line[:, 0]) for line in kerbs) == pytest.approx(200.0)


def square(first, x, y, side, **values):
    corners = ((x, y), (x + side, y), (x + side, y + side), (x, y + side))
    nodes = [node(first + i, *corner) for i, corner in enumerate(corners)]
    return "".join(nodes) + way(first, range(first, first + 4), **values)


@pytest.mark.parametrize(
    ("kind", "drawn"),
    [
        ("intersection_area", PolygonKind.INTERSECTION),
        ("speed_bump", PolygonKind.SPEED_BUMP),
        ("parking_lot", PolygonKind.DRIVABLE),
    ],
)
def test_areas_of_autoware(tmp_path, kind, drawn):
    extra = square(200, 100, 100, 10, type=kind, area="yes")
    rings = areas_of(load(tmp_path, crossing().replace("</osm>", extra + "</osm>")), drawn)
    found = [ring for ring in rings if ring[:, 0].min() >= 100]
    assert shapely.Polygon(found[0][:, :2]).area == pytest.approx(100)
    assert len(found) == 1


def test_parking_area_is_joined_from_ways_and_keeps_its_hole(tmp_path):
    """The outline is two ways, the second one reversed."""
    corners = [(100, 100), (120, 100), (120, 120), (100, 120)]
    parts = [node(300 + i, *corner) for i, corner in enumerate(corners)]
    parts += [way(310, (300, 301, 302)), way(311, (300, 303, 302))]
    parts.append(
        square(320, 105, 105, 5).replace("<nd ref='323'/>", "<nd ref='323'/><nd ref='320'/>")
    )
    members = [("way", 310, "outer"), ("way", 311, "outer"), ("way", 320, "inner")]
    parts.append(relation(330, *members, type="multipolygon", subtype="parking"))
    vector_map = load(tmp_path, crossing().replace("</osm>", "".join(parts) + "</osm>"))
    rings = [r for r in areas_of(vector_map, PolygonKind.DRIVABLE) if r[:, 0].min() >= 100]
    assert sum(shapely.Polygon(r[:, :2]).area for r in rings) == pytest.approx(400 - 25)


def test_given_centerline_is_taken_in_the_lanes_direction(tmp_path):
    extra = node(400, 40, -1, 2) + node(401, 0, -1, 2) + way(402, (400, 401))
    text = (
        crossing()
        .replace("</osm>", "</osm>")
        .replace(
            lanelet(20, 31, 30, RULE, speed_limit="50"),
            extra + lanelet(20, 31, 30, ("way", 402, "centerline")),
        )
    )
    np.testing.assert_allclose(
        load(tmp_path, text).lanes["20"].centerline_m, [[0, -1, 2], [40, -1, 2]]
    )


def test_deleted_elements_are_not_there(tmp_path):
    text = crossing().replace("<relation id='23'>", "<relation id='23' action='delete'>")
    assert "23" not in load(tmp_path, text).lanes


@pytest.mark.parametrize(
    ("override", "driven"),
    [
        ({"participant__vehicle": "yes"}, True),
        ({"participant__vehicle__bus": "yes"}, True),
        ({"participant__vehicle__emergency": "yes"}, False),
        ({"participant__pedestrian": "yes"}, False),
        ({"subtype": "bus_lane"}, True),
        ({"subtype": "bicycle_lane"}, False),
    ],
)
def test_participants_decide_who_drives(tmp_path, override, driven):
    text = crossing().replace(lanelet(23, 36, 35), lanelet(23, 36, 35, **override))
    assert ("23" in load(tmp_path, text).lanes) == driven


# Projections.


def geographic(latitude, longitude, *, step=1e-4):
    """A lanelet of two straight ways: 31 m east of Karlsruhe, say, from a place on."""
    places = [(0, 0), (0, 4 * step), (step / 3, 0), (step / 3, 4 * step)]
    nodes = [
        f"<node id='{i}' lat='{latitude + n!r}' lon='{longitude + e!r}'/>"
        for i, (n, e) in enumerate(places)
    ]
    return osm(*nodes, way(10, (0, 1)), way(11, (2, 3)), lanelet(20, 11, 10))


def test_utm_begins_at_the_first_node(tmp_path):
    """4e-4 degrees of longitude on the ellipsoid, times the scale of the zone there."""
    vector_map = load(tmp_path, geographic(49.0, 8.4))
    right = vector_map.lanes["20"].right_m
    np.testing.assert_allclose(right[0], 0.0, atol=1e-9)
    parallel_m = 6378137 / np.sqrt(1 - 0.00669438 * np.sin(np.radians(49)) ** 2)
    east_m = parallel_m * np.cos(np.radians(49)) * np.radians(4e-4)
    scale = 0.9996 * (1 + (np.radians(0.6) * np.cos(np.radians(49))) ** 2 / 2)
    assert np.hypot(*right[1, :2]) == pytest.approx(east_m * scale, rel=1e-6)
    assert vector_map.name == "town (utm 32N from 49.00000000 8.40000000)"


def test_origin_moves_the_utm_map(tmp_path):
    first = load(tmp_path, geographic(49.0, 8.4)).lanes["20"].right_m
    origin = Projection(ProjectionKind.UTM, (48.99, 8.39))
    moved = load(tmp_path, geographic(49.0, 8.4), origin).lanes["20"].right_m
    np.testing.assert_allclose(moved - moved[0], first, atol=1e-6)
    np.testing.assert_allclose(moved[0, :2], [731, 1112], atol=15)


def test_mgrs_counts_from_the_corner_of_the_square(tmp_path):
    """The place of GeographicLib's manual: 38N 444140.54 3684706.36, 38SMB."""
    vector_map = load(tmp_path, geographic(33.3, 44.4), Projection(ProjectionKind.MGRS))
    place = vector_map.lanes["20"].right_m[0]
    np.testing.assert_allclose(place, [44140.54, 84706.36, 0], rtol=0, atol=0.006)
    assert vector_map.name == "town (mgrs 38SMB)"


def test_mgrs_goes_on_across_the_edge_of_the_square(tmp_path):
    """The square ends at 500 km, which is 45 degrees east; the lanelet crosses it."""
    lane = load(tmp_path, geographic(33.3, 44.9998), Projection(ProjectionKind.MGRS)).lanes["20"]
    assert lane.right_m[0, 0] < 1e5 < lane.right_m[1, 0]
    assert np.hypot(*(lane.right_m[1] - lane.right_m[0])[:2]) == pytest.approx(37.2, abs=0.1)


def test_local_tags_are_used_where_all_nodes_have_them(tmp_path, town):
    assert town.name == "town (local)"
    mixed = crossing().replace("<tag k='local_x' v='0'/>", "", 1)
    with pytest.raises(MapError, match="node 1: has no local_x and local_y, others have"):
        load(tmp_path, mixed)
    with pytest.raises(MapError, match=r"node 0: has no local_x and local_y"):
        load(tmp_path, geographic(49.0, 8.4), Projection(ProjectionKind.LOCAL))


# Errors.

BAD = {
    "no lanelet": (osm(node(1, 0, 0), node(2, 1, 0), way(3, (1, 2))), "has no lanelet"),
    "empty": (osm(), "has no node"),
    "other root": ("<OpenDRIVE/>", "expected the root element osm, got OpenDRIVE"),
    "doctype": ("<!DOCTYPE a><osm/>", "document type declarations are not accepted"),
    "no node": (crossing().replace("<nd ref='2'/>", "<nd ref='99'/>"),
                "way 30: node 99 is missing"),
    "no way": (crossing().replace("ref='31'", "ref='99'"), "relation 20: way 99 is missing"),
    "no rule": (crossing().replace("ref='91'", "ref='92'"),
                "lanelet 21: regulatory element 92 is missing"),
    "one side": (crossing().replace("role='right'", "role='rigth'"),
                 "lanelet 20: expected one right way, got 0"),
    "no number": (crossing().replace("v='39.5'", "v='x'"),
                  "node 13: local_x: expected a number, got 'x'"),
    "far": (crossing().replace("v='39.5'", "v='1e7'"), "node 13: lies more than 1000000.0 m"),
    "point": (crossing().replace("<nd ref='1'/><nd ref='2'/>", "<nd ref='1'/>"),
              "lanelet 20: right: way 30 has no length"),
    "open area": (crossing().replace("</osm>", relation(
        70, ("way", 30, "outer"), type="multipolygon", subtype="parking") + "</osm>"),
        "area 70: outline is open at node 2"),
    "no id": (osm("<node lat='1' lon='1'/>"), "node has no attribute 'id'"),
    "across the world": (geographic(49.0, 8.4).replace("<osm version='0.6'>",
        "<osm version='0.6'><node id='x' lat='0' lon='90'/>" + way(9, ("x", 0))),
        "node 0: lies more than 10.0 degrees"),
    "pole": (geographic(89.0, 8.4), "expected UTM's"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_named_in_one_line(tmp_path, case):
    text, expected = BAD[case]
    with pytest.raises(MapError) as error:
        load(tmp_path, text)
    assert expected in str(error.value)
    assert str(tmp_path / "town.osm") in str(error.value)
    assert "\n" not in str(error.value)


JUNK = st.sampled_from(["", "'", "<", "0", "-", "9e9", "1e308", "nan", "\x00", "ä"])


@st.composite
def damaged(draw):
    """A good file with up to three parts cut out or replaced."""
    text = draw(st.sampled_from([crossing(), geographic(49.0, 8.4)]))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text) - 1))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(JUNK | st.text(max_size=3)) + text[end:]
    return text


def outcome(path):
    """The error's text, or None."""
    try:
        lanes = load_lanelet2(path).lanes
    except MapError as error:
        return str(error)
    assert all(np.isfinite(lane.centerline_m).all() for lane in lanes.values())
    return None


@settings(max_examples=150, deadline=None)
@given(text=damaged())
def test_damaged_files_are_refused_in_one_line_or_read(text, tmp_path_factory):
    """No other exception, no warning, no number that is none."""
    path = tmp_path_factory.getbasetemp() / "damaged.osm"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    error = outcome(path)
    assert error is None or (str(path) in error and len(error.splitlines()) == 1)


# The choice of the reader.


def test_map_format_is_told_by_the_suffix(tmp_path):
    path = tmp_path / "town.osm"
    path.write_text(crossing())
    assert load_map(path).name == "town (local)"
    with pytest.raises(
        MapError, match=r"map\.json: suffix: expected one of \.xodr, \.xodr\.gz, \.osm"
    ):
        load_map(tmp_path / "map.json")
    for name in ("a.xodr", "a.xodr.gz"):
        with pytest.raises(MapError, match="cannot be read"):
            load_map(tmp_path / name)


# A real map.


@pytest.fixture(scope="module")
def real_path():
    folder = Path(os.environ.get("RAP_DATA", Path(__file__).parents[4] / "shared" / "data"))
    path = folder / "lanelet2" / "mapping_example.osm"
    if not path.is_file():
        pytest.skip(f"no real Lanelet2 map: RAP_DATA is not set and {path} does not exist")
    return path


@pytest.fixture(scope="module")
def real_map(real_path):
    return load_map(real_path)


EARTH_M = 6_378_137.0
LATITUDE, LONGITUDE = np.radians(49.0035), np.radians(8.4243)


def raw(path):
    """Plain XML: nodes as metres on a plane that touches the ellipsoid, ways, and lanelets."""
    root = ET.parse(path).getroot()
    sin2 = 0.00669438 * np.sin(LATITUDE) ** 2
    east = EARTH_M / np.sqrt(1 - sin2) * np.cos(LATITUDE)
    north = EARTH_M * (1 - 0.00669438) / (1 - sin2) ** 1.5
    nodes = {
        n.get("id"): (east * (np.radians(float(n.get("lon"))) - LONGITUDE),
                      north * (np.radians(float(n.get("lat"))) - LATITUDE))
        for n in root.iter("node")
    }  # fmt: skip
    ways = {w.get("id"): [nd.get("ref") for nd in w.iter("nd")] for w in root.iter("way")}
    lanelets = {}
    for item in root.iter("relation"):
        found = {tag.get("k"): tag.get("v") for tag in item.iter("tag")}
        if found.get("type") == "lanelet":
            sides = {m.get("role"): ways[m.get("ref")] for m in item.iter("member")
                     if m.get("type") == "way"}  # fmt: skip
            lanelets[item.get("id")] = (found, sides["left"], sides["right"])
    return nodes, lanelets


def is_left_of(point, line):
    """The side test of Lanelet2's alignment: signed distance to the nearest segment."""
    best = (np.inf, False)
    for a, b in pairwise(np.array(line)):
        share = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = np.hypot(*(point - a - share * (b - a)))
        side = (b - a)[0] * (point - a)[1] - (b - a)[1] * (point - a)[0] > 0
        best = min(best, (distance, side), key=lambda item: item[0])
    return best[1]


def aligned(nodes, left, right):
    """Both ways in the lanelet's direction, by Lanelet2's rule: the other one's mean decides."""
    left_m, right_m = [nodes[n] for n in left], [nodes[n] for n in right]
    if is_left_of(np.mean(right_m, axis=0), left_m):
        left = left[::-1]
    if not is_left_of(np.mean(left_m, axis=0), right_m):
        right = right[::-1]
    return left, right


DRIVEN = {"road", "highway", "exit", None}


def test_real_successors_and_neighbors_are_those_of_lanelet2s_rules(real_path, real_map):
    """Derived anew from the XML: alignment, then shared end nodes and shared ways."""
    nodes, lanelets = raw(real_path)
    sides = {key: aligned(nodes, left, right) for key, (_, left, right) in lanelets.items()}
    lanes = {key: lane for key, lane in real_map.lanes.items() if "inverted" not in key}
    following = right_of = 0
    for key, lane in lanes.items():
        left, right = sides[key]
        end = (left[-1], right[-1])
        wanted = {k for k in lanes if k != key and (sides[k][0][0], sides[k][1][0]) == end}
        assert {k for k in lane.successors if "inverted" not in k} == wanted, key
        beside = {k for k in lanes if sides[k][0] == right}
        assert (lane.right_neighbor in beside) if beside else (lane.right_neighbor is None), key
        following, right_of = following + len(wanted), right_of + len(beside)
    assert len(lanes) == 328
    assert following > 300
    assert right_of > 80


def test_real_lanelets_have_their_true_area(real_path, real_map):
    """UTM areas are those on the ellipsoid times the squared scale, 0.99963 at 0.58 degrees."""
    nodes, lanelets = raw(real_path)
    for key, lane in real_map.lanes.items():
        if "inverted" in key or key == "45566":  # One outline crosses itself.
            continue
        left, right = aligned(nodes, *lanelets[key][1:])
        wanted = shapely.Polygon([nodes[n] for n in [*left, *right[::-1]]]).area
        found = shapely.Polygon([*lane.left_m[:, :2], *lane.right_m[::-1, :2]]).area
        assert found == pytest.approx(wanted * 0.99963**2, rel=2e-3, abs=0.3), key


def test_real_lanes_are_as_wide_as_lanes_are(real_map):
    """Those beside another one: a lanelet alone is often a whole road or a place to park."""
    widths = np.array([
        [np.hypot(*(lane.left_m[i] - lane.right_m[i])[:2]) for i in (0, -1)]
        for lane in real_map.lanes.values()
        if lane.left_neighbor or lane.right_neighbor
    ]).mean(axis=1)  # fmt: skip
    assert len(widths) > 100
    assert np.mean((widths >= 2.0) & (widths <= 6.0)) > 0.9


def test_real_lights_hang_near_the_lanes_they_govern(real_map):
    assert len(real_map.traffic_lights) == 10
    for light in real_map.traffic_lights:
        entries = np.array([real_map.lanes[key].centerline_m[0] for key in light.lane_ids])
        assert np.hypot(*(entries - light.center_m)[:, :2].T).min() < 20.0


def test_real_centrelines_lie_on_the_drivable_surface(real_map):
    rings = areas_of(real_map, PolygonKind.DRIVABLE)
    surface = shapely.union_all(
        [shapely.make_valid(shapely.Polygon(ring[:, :2])).buffer(0.05) for ring in rings]
    )
    for lane in real_map.lanes.values():
        line = shapely.LineString(lane.centerline_m[:, :2])
        assert line.difference(surface).length < 0.1 * line.length + 0.5, lane.id


def chains(lanes, count, length_m):
    """Random walks along the lane graph."""
    rng = np.random.default_rng(5)
    keys = sorted(key for key in lanes if "inverted" not in key)
    while count:
        chain = [keys[rng.integers(len(keys))]]
        while lanes[chain[-1]].successors:
            onward = [k for k in lanes[chain[-1]].successors if "inverted" not in k]
            if not onward or onward[0] in chain:
                break
            chain.append(onward[rng.integers(len(onward))])
        line = np.concatenate([lanes[key].centerline_m[:, :2] for key in chain])
        if len(chain) > 2 and np.hypot(*np.diff(line, axis=0).T).sum() > length_m:
            count -= 1
            yield chain, line


def test_drives_along_the_real_map_are_matched_to_their_lanes(real_map):
    """A vehicle on the centrelines, a quarter metre off: the matcher names the lanes driven."""
    matcher = LaneMatcher(real_map.lanes)
    for chain, line in chains(real_map.lanes, 12, 80.0):
        moving = np.concatenate([[True], np.hypot(*np.diff(line, axis=0).T) > 1e-6])
        driven = shapely.segmentize(shapely.LineString(line[moving]), 1.0)
        dense = shapely.get_coordinates(driven)
        yaw = np.unwrap(np.arctan2(*np.gradient(dense, axis=0).T[::-1]))
        off = 0.25 * np.column_stack([-np.sin(yaw), np.cos(yaw)])
        found = matcher.match(np.column_stack([dense + off, yaw]))
        assert found is not None
        assert found[: len(chain)] == chain
