"""Every decoder of outside data, fed with damaged input: it answers or refuses in one line.

`make fuzz` runs the same with many more examples.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rap_inference.bundle import BundleError, load_bundle
from rap_perception.images import RAW_ENCODINGS, ImageError, decode_compressed, decode_raw
from rap_raster.maps.opendrive import MapError, load_opendrive
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
_, _ENCODED = cv2.imencode(".jpg", np.full((16, 24, 3), 90, np.uint8))
JPEG = _ENCODED.tobytes()

fuzzed = settings(
    max_examples=int(os.environ.get("RAP_FUZZ_EXAMPLES", "300")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]),
    st.just({}), st.lists(st.floats(), max_size=4),
)  # fmt: skip


@st.composite
def damaged(draw, original: bytes) -> bytes:
    """The original with some bytes changed, and perhaps cut short."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 5))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


def paths(node: object, prefix: tuple = ()) -> list[tuple]:
    """Every place in a JSON document."""
    items = list(enumerate(node)) if isinstance(node, list) else []
    if isinstance(node, dict):
        items = list(node.items())
    return [prefix, *(path for key, child in items for path in paths(child, (*prefix, key)))]


SCENE_PATHS = paths(SCENE)[1:]


def assert_one_line(error: Exception) -> None:
    assert str(error)
    assert "\n" not in str(error)


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
