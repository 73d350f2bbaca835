"""Every decoder of files and images, fed with damaged input: it answers or refuses in one line.

`make fuzz` runs the same with many more examples.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fuzzing import assert_one_line, damaged, fuzzed
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_bringup.bag_reader import messages, open_bag, read_map, read_odometry
from rap_bringup.bags import BagError, write_bag
from rap_bringup.drives.odometry import densified, states_from_poses
from rap_bringup.drives.recorded_drive import RecordedDrive, RecordedObjects
from rap_inference.bundle import BundleError, load_bundle
from rap_perception.images import RAW_ENCODINGS, ImageError, decode_compressed, decode_raw
from rap_raster.maps.lanelet2 import load_lanelet2
from rap_raster.maps.opendrive import MapError, load_opendrive
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, LineKind, Shapes
from rap_raster.scene_json import SceneError, load_scene, parse_scene

pytestmark = pytest.mark.fuzz

ROOT = Path(__file__).resolve().parents[1]
SCENE = json.loads((ROOT / "docs/examples/scene.json").read_text())
SCENE_TEXT = (ROOT / "docs/examples/scene.json").read_bytes()
MANIFEST = (ROOT / "models/default/bundle.yaml").read_bytes()
ROAD = (
    b'<OpenDRIVE><road id="1" length="20" junction="-1"><planView><geometry s="0" x="0" y="0" '
    b'hdg="0" length="20"><line/></geometry></planView><lanes><laneSection s="0"><right>'
    b'<lane id="-1" type="driving"><width sOffset="0" a="3" b="0" c="0" d="0"/></lane></right>'
    b"</laneSection></lanes></road></OpenDRIVE>"
)
LANELETS = (
    b"<osm>"
    b"<node id='1' lat='49.0' lon='8.4'/><node id='2' lat='49.0' lon='8.4003'/>"
    b"<node id='3' lat='49.00003' lon='8.4'/><node id='4' lat='49.00003' lon='8.4003'/>"
    b"<way id='10'><nd ref='1'/><nd ref='2'/><tag k='type' v='line_thin'/></way>"
    b"<way id='11'><nd ref='3'/><nd ref='4'/><tag k='type' v='road_border'/></way>"
    b"<relation id='20'><member type='way' ref='11' role='left'/>"
    b"<member type='way' ref='10' role='right'/><tag k='type' v='lanelet'/>"
    b"<tag k='subtype' v='road'/><tag k='location' v='urban'/></relation></osm>"
)
_, _ENCODED = cv2.imencode(".jpg", np.full((16, 24, 3), 90, np.uint8))
JPEG = _ENCODED.tobytes()

BAG_COST = 6
"""A bag of several topics takes as long as so many other inputs."""

odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]),
    st.just({}), st.lists(st.floats(), max_size=4),
)  # fmt: skip


def paths(node: object, prefix: tuple = ()) -> list[tuple]:
    """Every place in a JSON document."""
    items = list(enumerate(node)) if isinstance(node, list) else []
    if isinstance(node, dict):
        items = list(node.items())
    return [prefix, *(path for key, child in items for path in paths(child, (*prefix, key)))]


SCENE_PATHS = paths(SCENE)[1:]


@fuzzed
@given(path=st.sampled_from(SCENE_PATHS), value=odd_values)
def test_a_scene_with_an_odd_value_is_drawn_or_refused(path, value):
    scene = json.loads(json.dumps(SCENE))
    node = scene
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    try:
        parse_scene(scene)
    except SceneError as error:
        assert_one_line(error)


@fuzzed
@given(content=damaged(SCENE_TEXT))
def test_a_damaged_scene_file_is_read_or_refused(tmp_path, content):
    (tmp_path / "scene.json").write_bytes(content)
    try:
        load_scene(tmp_path / "scene.json")
    except SceneError as error:
        assert_one_line(error)


@fuzzed
@given(content=damaged(MANIFEST))
def test_a_damaged_manifest_is_refused_for_its_content_or_its_missing_networks(tmp_path, content):
    (tmp_path / "bundle.yaml").write_bytes(content)
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path)
    assert_one_line(caught.value)


@fuzzed
@given(content=damaged(ROAD))
def test_a_damaged_map_is_read_or_refused(tmp_path, content):
    (tmp_path / "map.xodr").write_bytes(content)
    try:
        load_opendrive(tmp_path / "map.xodr")
    except MapError as error:
        assert_one_line(error)


@fuzzed
@given(content=damaged(LANELETS))
def test_a_damaged_lanelet_map_is_read_or_refused(tmp_path, content):
    (tmp_path / "map.osm").write_bytes(content)
    try:
        load_lanelet2(tmp_path / "map.osm")
    except MapError as error:
        assert_one_line(error)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """A drive of three steps."""
    stamps = 5_000_000_000 + 100_000_000 * np.arange(3)
    poses = np.column_stack([np.arange(3.0), np.zeros((3, 3))])
    car = Boxes.from_rows([[3, 1, 40.0, 3.0, 0.8, 4.5, 1.9, 1.6, 0.0, 0.0, 0.0]])
    edge = [[0.0, 2.0, 0.0], [60.0, 2.0, 0.0]]
    lines = Shapes.from_list([(LineKind.LANE_BOUNDARY, edge)])
    drive = RecordedDrive(
        name="short",
        license="none needed",
        map=VectorMap("short", lines, Shapes.from_list([])),
        ego=states_from_poses(*densified(stamps, poses)),
        objects=tuple(RecordedObjects(int(stamp), car, Lights.empty()) for stamp in stamps),
        cameras=(),
        route_m=np.array(edge),
        route_source="made for the test",
    )
    folder = tmp_path_factory.mktemp("fuzz") / "bag"
    write_bag(drive, folder)
    return folder


@settings(fuzzed, max_examples=fuzzed.max_examples // BAG_COST)
@given(data=st.data())
def test_a_damaged_bag_is_read_or_refused(bag, tmp_path, data):
    for file in bag.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    name = data.draw(st.sampled_from(sorted(file.name for file in bag.iterdir())))
    (tmp_path / name).write_bytes(data.draw(damaged((bag / name).read_bytes())))
    try:
        opened = open_bag(tmp_path)
        list(messages(opened))
        read_odometry(opened)
        read_map(opened)
    except BagError as error:
        assert_one_line(error)


@fuzzed
@given(content=damaged(JPEG), reduction=st.sampled_from([1, 2, 4, 8]))
def test_a_damaged_jpeg_is_an_image_or_refused(content, reduction):
    try:
        image = decode_compressed(np.frombuffer(content, np.uint8), reduction)
    except ImageError as error:
        assert_one_line(error)
    else:
        assert image.ndim == 3
        assert image.shape[2] == 3


@fuzzed
@given(
    data=st.binary(max_size=200),
    encoding=st.sampled_from([*RAW_ENCODINGS, "16UC1", ""]),
    size=st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 60)),
)
def test_raw_pixels_are_an_image_of_the_stated_size_or_refused(data, encoding, size):
    width, height, step = size
    try:
        image = decode_raw(np.frombuffer(data, np.uint8), encoding, width, height, step)
    except ImageError as error:
        assert_one_line(error)
    else:
        assert image.shape == (height, width, 3)
