from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import shapely

from rap_raster.maps.opendrive import MapError, load_opendrive
from rap_raster.scene import LineKind, PolygonKind


def lane(lane_id, kind="driving", width=3.5, mark="broken", link=""):
    outer = f'<width sOffset="0" a="{width}" b="0" c="0" d="0"/>' if lane_id else ""
    return (
        f'<lane id="{lane_id}" type="{kind}"><link>{link}</link>{outer}'
        f'<roadMark sOffset="0" type="{mark}"/></lane>'
    )


def road(key, x, y, heading, length, *, left="", right="", link="", junction="-1", extra=""):
    return (
        f'<road id="{key}" length="{length}" junction="{junction}"><link>{link}</link>'
        f'<planView><geometry s="0" x="{x}" y="{y}" hdg="{heading}" length="{length}"><line/>'
        f'</geometry></planView><lanes><laneSection s="0"><left>{left}</left>'
        f"<center>{lane(0, 'none', mark='solid')}</center><right>{right}</right></laneSection>"
        f"</lanes>{extra}</road>"
    )


def write(folder, body, name="map.xodr"):
    path = folder / name
    path.write_text(f"<OpenDRIVE>{body}</OpenDRIVE>")
    return path


def lines_of(vector_map, kind):
    return [vector_map.polylines[i] for i in np.flatnonzero(vector_map.polylines.kinds == kind)]


def areas_of(vector_map, kind):
    return [vector_map.polygons[i] for i in np.flatnonzero(vector_map.polygons.kinds == kind)]


TWO_WAY = {
    "left": lane(1, mark="none"),
    "right": lane(-1, mark="broken") + lane(-2, mark="none"),
}


@pytest.fixture
def two_way(tmp_path):
    return load_opendrive(write(tmp_path, road("7", 0, 0, 0, 100, **TWO_WAY)))


def test_lanes_run_in_their_driving_direction(two_way):
    """Right-hand traffic: negative lanes along the reference line, positive ones against it."""
    np.testing.assert_allclose(two_way.lanes["7.0.-1"].centerline_m[[0, -1], 1], -1.75)
    np.testing.assert_allclose(two_way.lanes["7.0.-1"].centerline_m[0, 0], 0.0, atol=1e-5)
    np.testing.assert_allclose(two_way.lanes["7.0.1"].centerline_m[-1, :2], [0, 1.75], atol=1e-5)


def test_left_and_right_edges_are_seen_in_driving_direction(two_way):
    for key, left, right in (("7.0.-2", -3.5, -7.0), ("7.0.1", 0.0, 3.5)):
        np.testing.assert_allclose(two_way.lanes[key].left_m[:, 1], left, atol=1e-9)
        np.testing.assert_allclose(two_way.lanes[key].right_m[:, 1], right, atol=1e-9)


def test_neighbors_have_the_same_direction(two_way):
    assert two_way.lanes["7.0.-1"].right_neighbor == "7.0.-2"
    assert two_way.lanes["7.0.-2"].left_neighbor == "7.0.-1"
    assert two_way.lanes["7.0.-1"].left_neighbor is None
    assert two_way.lanes["7.0.1"].left_neighbor is None


def test_marks_decide_between_divider_and_boundary(two_way):
    dividers = lines_of(two_way, LineKind.LANE_DIVIDER)
    boundaries = lines_of(two_way, LineKind.LANE_BOUNDARY)
    assert {round(float(line[0, 1]), 6) for line in dividers} == {-3.5}
    assert {round(float(line[0, 1]), 6) for line in boundaries} == {0.0}


def test_road_boundary_is_the_outer_edge_in_pieces(two_way):
    edges = lines_of(two_way, LineKind.ROAD_BOUNDARY)
    assert {round(float(line[0, 1]), 6) for line in edges} == {3.5, -7.0}
    assert all(np.ptp(line[:, 0]) <= 51.0 for line in edges)
    assert sum(np.ptp(line[:, 0]) for line in edges) == pytest.approx(200.0, abs=1e-3)


def test_drivable_surface_has_the_roads_area(two_way):
    area = sum(
        shapely.Polygon(ring[:, :2]).area for ring in areas_of(two_way, PolygonKind.DRIVABLE)
    )
    assert area == pytest.approx(100 * 10.5, rel=1e-5)


@pytest.mark.parametrize(("mark", "edge"), [("curb", -3.5), ("none", -5.5)])
def test_shoulder_is_drivable_unless_behind_a_kerb(tmp_path, mark, edge):
    right = lane(-1, mark=mark) + lane(-2, "shoulder", 2.0, "none")
    vector_map = load_opendrive(write(tmp_path, road("1", 0, 0, 0, 30, right=right)))
    edges = {round(float(line[0, 1]), 6) for line in lines_of(vector_map, LineKind.ROAD_BOUNDARY)}
    assert edges == {0.0, edge}


def test_left_hand_rule_turns_directions_around(tmp_path):
    path = write(tmp_path, road("1", 0, 0, 0, 30, right=lane(-1)))
    path.write_text(path.read_text().replace("<road ", '<road rule="LHT" '))
    center = load_opendrive(path).lanes["1.0.-1"].centerline_m
    assert center[0, 0] > center[-1, 0]


def light(s, of='<validity fromLane="-1" toLane="-1"/>', kind="1000001", more=""):
    return (
        f'<signals><userData/><signal id="88" s="{s}" t="-5" dynamic="yes" type="{kind}" '
        f'orientation="+" {more}>{of}</signal></signals>'
    )


def crossing(tmp_path, *, before="", on=None):
    """Road 1 leads into junction 9, connector 5 on to road 2; a light governs the connector."""
    to_junction = '<successor elementType="junction" elementId="9"/>'
    links = (
        '<predecessor elementType="road" elementId="1" contactPoint="end"/>'
        '<successor elementType="road" elementId="2" contactPoint="start"/>'
    )
    signals = light(18) if on is None else on
    lane_links = '<predecessor id="-1"/><successor id="-1"/>'
    body = (
        road("1", 0, 0, 0, 50, left=lane(1), right=lane(-1), link=to_junction, extra=before)
        + road("5", 50, 0, 0, 20, right=lane(-1, link=lane_links), link=links, junction="9",
               extra=signals)
        + road("2", 70, 0, 0, 50, right=lane(-1, link='<predecessor id="-1"/>'),
               link='<predecessor elementType="junction" elementId="9"/>')
        + '<junction id="9"><connection id="0" incomingRoad="1" connectingRoad="5" '
        'contactPoint="start"><laneLink from="-1" to="-1"/></connection></junction>'
    )  # fmt: skip
    return load_opendrive(write(tmp_path, body))


def test_lanes_are_linked_through_a_junction(tmp_path):
    lanes = crossing(tmp_path).lanes
    assert lanes["1.0.-1"].successors == ("5.0.-1",)
    assert lanes["5.0.-1"].successors == ("2.0.-1",)
    assert lanes["5.0.-1"].in_junction
    assert not lanes["2.0.-1"].in_junction


def test_junction_has_no_lane_lines_and_no_boundary_across_its_mouths(tmp_path):
    vector_map = crossing(tmp_path)
    painted = lines_of(vector_map, LineKind.LANE_BOUNDARY) + lines_of(
        vector_map, LineKind.LANE_DIVIDER
    )
    assert not any((line[:, 0] > 50.1).all() and (line[:, 0] < 69.9).all() for line in painted)
    for line in lines_of(vector_map, LineKind.ROAD_BOUNDARY):
        middle = shapely.LineString([(30, -1.75), (90, -1.75)])
        assert not shapely.LineString(line[:, :2]).intersects(middle)


def test_light_governs_its_connector_and_makes_a_stop_line(tmp_path):
    vector_map = crossing(tmp_path)
    (light,) = vector_map.traffic_lights
    assert light.lane_ids == ("5.0.-1",)
    assert abs(light.yaw_rad) == pytest.approx(np.pi)
    np.testing.assert_allclose(light.center_m, [68.0, -5.0, 5.5])
    (stop,) = lines_of(vector_map, LineKind.STOP_LINE)
    np.testing.assert_allclose(stop[:, :2], [[50, 0], [50, -3.5]], atol=1e-5)


@pytest.mark.parametrize("of", ['<validity fromLane="-1" toLane="-1"/>', ""])
@pytest.mark.parametrize("place", ["on the connector", "before the junction"])
def test_a_light_governs_the_connector_wherever_it_stands(tmp_path, of, place):
    """Without validity it is for all lanes of its direction, not for the one that comes back."""
    if place == "on the connector":
        vector_map = crossing(tmp_path, on=light(18, of))
    else:
        vector_map = crossing(tmp_path, before=light(48, of), on="")
    assert [found.lane_ids for found in vector_map.traffic_lights] == [("5.0.-1",)]
    assert len(lines_of(vector_map, LineKind.STOP_LINE)) == 1


def test_lights_of_pedestrians_are_none_and_a_height_that_is_told_is_taken(tmp_path):
    assert not crossing(tmp_path, on=light(18, kind="1000002")).traffic_lights
    (told,) = crossing(tmp_path, on=light(18, more='zOffset="3.2"')).traffic_lights
    (foot,) = crossing(tmp_path, on=light(18, more='zOffset="-0.5"')).traffic_lights
    assert (told.center_m[2], foot.center_m[2]) == (3.2, 5.5)


def test_crosswalks_in_road_coordinates_and_of_several_outlines(tmp_path):
    def outline(tag, rows, more=""):
        corners = "".join(f"<{tag} {' '.join(row)}/>" for row in rows)
        return f"<outline {more}>{corners}</outline>"

    square = [(0, 0), (2, 0), (2, 2), (0, 2)]
    local = [(f'u="{u}"', f'v="{v}"', 'z="0"') for u, v in square]
    on_road = [(f's="{20 + s}"', f't="{t}"', 'dz="0.1"') for s, t in square]
    item = (
        '<objects><object id="0" type="tree" s="1" t="0" hdg=""/>'
        '<object id="1" type="crosswalk" s="10" t="0"><outlines>'
        + outline("cornerLocal", local) + outline("cornerLocal", local, 'outer="false"')
        + outline("cornerRoad", on_road) + "</outlines></object></objects>"
    )  # fmt: skip
    path = write(tmp_path, road("1", 5, 0, 0, 30, right=lane(-1), extra=item))
    first, second = areas_of(load_opendrive(path), PolygonKind.CROSSWALK)
    np.testing.assert_allclose(first, [(15, 0, 0), (17, 0, 0), (17, 2, 0), (15, 2, 0)])
    np.testing.assert_allclose(second, [(25, 0, 0.1), (27, 0, 0.1), (27, 2, 0.1), (25, 2, 0.1)])


def test_limits_of_a_road_change_along_it_and_unknown_units_are_none(tmp_path):
    kinds = "".join(
        f'<type s="{s}" type="town"><speed max="{limit}" unit="{unit}"/></type>'
        for s, limit, unit in ((0, 50, "kmh"), (15, 30, "mph"), (25, 9, "knots"))
    )
    sections = "".join(
        f'<laneSection s="{s}"><center>{lane(0)}</center><right>{lane(-1)}</right></laneSection>'
        for s in (10, 20, 28)
    )
    body = road("1", 0, 0, 0, 30, right=lane(-1), extra=kinds)
    body = body.replace("</lanes>", f"{sections}</lanes>")
    lanes = load_opendrive(write(tmp_path, body)).lanes
    limits = [lanes[f"1.{index}.-1"].speed_limit_mps for index in range(4)]
    # Where it falls within a lane, the lower one: 30 mph from 15 m on.
    assert limits[:3] == pytest.approx([50 / 3.6, 30 * 0.44704, 30 * 0.44704])
    assert limits[3] is None


def test_direct_junctions_lead_from_road_to_road(tmp_path):
    body = (
        road("1", 0, 0, 0, 50, right=lane(-1),
             link='<successor elementType="junction" elementId="9"/>')
        + road("3", 50, 0, 0, 50, right=lane(-1, "mwyExit"),
               link='<predecessor elementType="junction" elementId="9"/>')
        + '<junction id="9" type="direct"><connection id="0" incomingRoad="1" linkedRoad="3" '
        'contactPoint="start"><laneLink from="-1" to="-1"/></connection></junction>'
    )  # fmt: skip
    lanes = load_opendrive(write(tmp_path, body)).lanes
    assert lanes["1.0.-1"].successors == ("3.0.-1",)


def test_namespaces_and_other_encodings_are_read(tmp_path):
    plain = write(tmp_path, road("7", 0, 0, 0, 100, **TWO_WAY))
    text = plain.read_text().replace("<OpenDRIVE>", '<OpenDRIVE xmlns="http://x"><!-- Straße -->')
    other = tmp_path / "other.xodr"
    other.write_bytes(('<?xml version="1.0" encoding="ISO-8859-1"?>' + text).encode("latin-1"))
    assert load_opendrive(other).lanes.keys() == load_opendrive(plain).lanes.keys()
    other.write_bytes(text.encode("latin-1"))
    with pytest.raises(MapError, match="not utf-8 text"):
        load_opendrive(other)
    hidden = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><OpenDRIVE/>'
    other.write_bytes(hidden.encode("utf-16"))
    with pytest.raises(MapError):
        load_opendrive(other)


def test_crosswalk_outline_is_placed_in_the_map(tmp_path):
    corners = "".join(
        f'<cornerLocal u="{u}" v="{v}" z="0"/>' for u, v in ((-2, -1), (2, -1), (2, 1), (-2, 1))
    )
    item = (
        '<objects><object id="1" type="crosswalk" s="10" t="0" zOffset="0" '
        f'hdg="{np.pi / 2}"><outline>{corners}</outline></object></objects>'
    )
    path = write(tmp_path, road("1", 0, 0, 0, 30, right=lane(-1), extra=item))
    (ring,) = areas_of(load_opendrive(path), PolygonKind.CROSSWALK)
    np.testing.assert_allclose(sorted(ring[:, 0]), [9, 9, 11, 11])
    np.testing.assert_allclose(sorted(ring[:, 1]), [-2, -2, 2, 2])


@pytest.mark.parametrize("corners", [True, False])
def test_crosswalks_far_from_the_origin_and_without_outline_keep_their_corners(tmp_path, corners):
    """UTM coordinates are millions: what is metres apart there is not the same point."""
    ring = ((-2, -1), (2, -1), (2, 1), (-2, 1))
    rows = "".join(f'<cornerLocal u="{u}" v="{v}" z="0"/>' for u, v in ring)
    outline = f"<outline>{rows}</outline>" if corners else ""
    item = (
        '<objects><object id="1" type="crosswalk" s="10" t="0" length="4" width="2">'
        f"{outline}</object></objects>"
    )
    path = write(tmp_path, road("1", 500_000, 5_400_000, 0, 30, right=lane(-1), extra=item))
    (found,) = areas_of(load_opendrive(path), PolygonKind.CROSSWALK)
    np.testing.assert_allclose(found[:, :2] - (500_010, 5_400_000), ring)


def test_elevation_and_superelevation_lift_the_edges(tmp_path):
    profile = (
        '<elevationProfile><elevation s="0" a="2" b="0.1" c="0" d="0"/></elevationProfile>'
        '<lateralProfile><superelevation s="0" a="0.1" b="0" c="0" d="0"/></lateralProfile>'
    )
    path = write(tmp_path, road("1", 0, 0, 0, 10, right=lane(-1), extra=profile))
    lanes = load_opendrive(path).lanes
    np.testing.assert_allclose(lanes["1.0.-1"].left_m[-1, 2], 3.0, atol=1e-5)
    np.testing.assert_allclose(lanes["1.0.-1"].right_m[0, 2], 2.0 - 3.5 * np.tan(0.1), atol=1e-5)


def test_gzip_reads_the_same(tmp_path):
    plain = write(tmp_path, road("7", 0, 0, 0, 100, **TWO_WAY))
    packed = tmp_path / "map.xodr.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first, second = load_opendrive(plain), load_opendrive(packed)
    assert first.name == second.name == "map"
    assert (first.polylines.points_m == second.polylines.points_m).all()


BAD = {
    "malformed": ("<OpenDRIVE><road>", "malformed XML"),
    "no road": ("<OpenDRIVE/>", "has no road"),
    "other root": ("<osm/>", "expected the root element OpenDRIVE, got osm"),
    "doctype": ("<!DOCTYPE a><OpenDRIVE/>", "document type declarations are not accepted"),
    "no id": ('<OpenDRIVE><road length="1"/></OpenDRIVE>', "road has no attribute 'id'"),
    "no number": (
        '<OpenDRIVE><road id="3" length="long"/></OpenDRIVE>',
        "road 0 (id 3): road length: expected a number, got 'long'",
    ),
    "infinite": (
        '<OpenDRIVE><road id="3" length="inf"/></OpenDRIVE>',
        "road length: expected a finite number, got 'inf'",
    ),
    "length": ('<OpenDRIVE><road id="3" length="1e12"/></OpenDRIVE>', "length: is 1e+12 m"),
    "single side": (
        '<OpenDRIVE><road id="3" length="9"><lanes><laneSection s="0" singleSide="true"/></lanes>'
        "</road></OpenDRIVE>",
        "laneSection at 0.00 m: singleSide is not supported",
    ),
    "no section": ('<OpenDRIVE><road id="3" length="1"/></OpenDRIVE>', "has no laneSection"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_named_in_one_line(tmp_path, case):
    text, expected = BAD[case]
    path = tmp_path / "bad.xodr"
    path.write_text(text)
    with pytest.raises(MapError) as error:
        load_opendrive(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.xodr", "cut.xodr.gz"])
def test_unreadable_file_is_named(tmp_path, name):
    whole = gzip.compress(b"<OpenDRIVE/>" * 50)
    (tmp_path / "cut.xodr.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MapError, match="cannot be read"):
        load_opendrive(tmp_path / name)


def test_lane_without_width_is_named(tmp_path):
    path = write(tmp_path, road("4", 0, 0, 0, 30, right=lane(-1)))
    path.write_text(path.read_text().replace("<width", "<height"))
    with pytest.raises(MapError, match=r"id 4\).*lane -1: has neither width nor border"):
        load_opendrive(path)


def town(name):
    spec = importlib.util.find_spec("py123d")
    if spec is None:
        pytest.skip("the CARLA towns are not installed (py123d): run make setup")
    folder = Path(spec.submodule_search_locations[0]) / "parser" / "opendrive" / "carla_maps"
    return load_opendrive(folder / f"{name}.xodr.gz")


@pytest.mark.parametrize("name", ["Town01", "Town03"])
def test_town_is_connected_without_gaps(name):
    """A lane ends where its successors begin, and hardly any lane leads nowhere."""
    vector_map = town(name)
    lanes = vector_map.lanes
    gaps = [
        np.linalg.norm(lane.centerline_m[-1] - lanes[key].centerline_m[0])
        for lane in lanes.values()
        for key in lane.successors
    ]
    assert np.percentile(gaps, 95) < 0.05
    assert sum(not lane.successors for lane in lanes.values()) <= 1


@pytest.mark.parametrize("name", ["Town01", "Town03"])
def test_no_boundary_crosses_a_towns_lanes(name):
    """Boundaries open wherever a lane passes: none crosses a centreline's inner part."""
    vector_map = town(name)
    edges = shapely.union_all(
        [shapely.LineString(e[:, :2]) for e in lines_of(vector_map, LineKind.ROAD_BOUNDARY)]
    )
    crossed = [
        key
        for key, lane in vector_map.lanes.items()
        if shapely.LineString(lane.centerline_m[:, :2]).intersects(edges)
    ]
    assert len(crossed) <= 0.02 * len(vector_map.lanes), crossed


def test_centrelines_lie_on_the_drivable_surface():
    vector_map = town("Town01")
    surface = shapely.union_all(
        [shapely.Polygon(r[:, :2]).buffer(0.01) for r in areas_of(vector_map, PolygonKind.DRIVABLE)]
    )
    for lane in vector_map.lanes.values():
        line = shapely.LineString(lane.centerline_m[:, :2])
        assert line.difference(surface).length < 0.5
