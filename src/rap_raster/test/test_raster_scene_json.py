"""Scene files: what is accepted, and that every error names its field."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_raster.scene_json import SceneError, load_scene, parse_scene

IDENTITY = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
VALID = {
    "schema": "rap.scene/1",
    "ego": {"position": [10.0, 20.0, 1.0], "yaw": 0.5},
    "boxes": [
        {
            "id": 7,
            "class": "vehicle",
            "center": [20, 1, 0.8],
            "size": [4.6, 1.9, 1.6],
            "yaw": 0.1,
            "velocity": [3, 0],
        },
        {
            "id": 2147483647,
            "class": "cone",
            "center": [5, 1, 0.3],
            "size": [0.3, 0.3, 0.6],
            "yaw": 0,
            "velocity": [0, 0],
        },
    ],
    "polylines": [{"kind": "lane_boundary", "points": [[0, 0, 0], [9, 0, 0]]}],
    "polygons": [{"kind": "crosswalk", "points": [[0, 0, 0], [9, 0, 0], [9, 3, 0]]}],
    "traffic_lights": [{"state": "red", "center": [9, 9, 5], "size": [0.5, 0.5, 1], "yaw": 0}],
    "cameras": [
        {
            "name": "front",
            "width": 1920,
            "height": 1080,
            "intrinsics": [1000, 1000.5, 960, 540],
            "distortion": {"model": "plumb_bob", "coeffs": [0.1, 0, 0, 0, 0]},
            "ego_from_camera": {"rotation": IDENTITY, "translation": [1, 0, 1.5]},
        }
    ],
}
DELETE = object()


def changed(path, value):
    """A copy of the valid scene with one field replaced or deleted."""
    content = copy.deepcopy(VALID)
    *parents, last = path
    node = content
    for key in parents:
        node = node[key]
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    return content


def test_a_valid_scene_is_read_as_written():
    scene, (camera,) = parse_scene(VALID)
    assert (scene.ego.x_m, scene.ego.y_m, scene.ego.z_m, scene.ego.yaw_rad) == (10, 20, 1, 0.5)
    np.testing.assert_array_equal(scene.boxes.ids, [7, 2147483647])
    np.testing.assert_array_equal(scene.boxes.classes, [1, 7])
    np.testing.assert_array_equal(scene.boxes.sizes_m[0], [4.6, 1.9, 1.6])
    assert (list(scene.polylines.kinds), list(scene.polygons.kinds)) == ([10], [20])
    assert list(scene.lights.states) == [30]
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (1000, 1000.5, 960, 540)
    assert camera.distortion.model == "plumb_bob"
    np.testing.assert_array_equal(camera.ego_from_camera[:3, 3], [1, 0, 1.5])


def test_a_scene_may_be_empty():
    empty = {**VALID, "boxes": [], "polylines": [], "polygons": [], "traffic_lights": []}
    scene, cameras = parse_scene({**empty, "cameras": []})
    assert (len(scene.boxes), len(scene.polylines), len(scene.lights), cameras) == (0, 0, 0, [])


@pytest.mark.parametrize("field", list(VALID))
def test_a_missing_section_is_named(field):
    with pytest.raises(SceneError, match=f"^{field}: missing$"):
        parse_scene(changed([field], DELETE))


@pytest.mark.parametrize(
    ("section", "field"),
    [
        (section, field)
        for section in ("boxes", "polylines", "polygons", "traffic_lights", "cameras")
        for field in VALID[section][0]
    ],
)
def test_a_missing_field_is_named_with_its_index(section, field):
    with pytest.raises(SceneError) as error:
        parse_scene(changed([section, 0, field], DELETE))
    assert str(error.value) == f"{section}[0].{field}: missing"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schema"], "rap.scene/2", "schema: must be 'rap.scene/1', got \"rap.scene/2\""),
        (["schema"], 1, "schema: must be 'rap.scene/1', got 1"),
        (["ego", "yaw"], None, "ego.yaw: must be a number, got null"),
        (["ego", "yaw"], float("nan"), "ego.yaw: must be finite, got NaN"),
        (["ego", "position"], [1, 2], "ego.position: must have 3 numbers, got 2"),
        (["ego", "position", 1], "3", "ego.position[1]: must be a number, got a string"),
        (["ego", "position", 0], 1e300, "ego.position[0]: must be within +-1e+09, got 1e+300"),
        (["ego", "position", 0], 10**400, "ego.position[0]: must be finite, got 1"),
        (["boxes"], {}, "boxes: must be an array, got an object"),
        (["boxes", 1], 3, "boxes[1]: must be an object, got a number"),
        (["boxes", 1, "id"], 7, "boxes[1].id: 7 is already used by boxes[0].id"),
        (["boxes", 0, "id"], 0, "boxes[0].id: must be an integer in 1..2147483647, got 0"),
        (["boxes", 0, "id"], 2**31, "boxes[0].id: must be an integer in 1..2147483647, got 214"),
        (["boxes", 0, "id"], 1.5, "boxes[0].id: must be an integer in 1..2147483647, got 1.5"),
        (["boxes", 0, "id"], True, "boxes[0].id: must be a number, got a boolean"),
        (["boxes", 0, "class"], "car", 'boxes[0].class: unknown "car", expected one of vehicle,'),
        (["boxes", 0, "class"], 1, "boxes[0].class: must be a string, got a number"),
        (["boxes", 1, "size", 1], -2, "boxes[1].size[1]: must be > 0, got -2.0"),
        (["boxes", 1, "size", 2], 0, "boxes[1].size[2]: must be > 0, got 0.0"),
        (["boxes", 0, "center", 2], float("inf"), "boxes[0].center[2]: must be finite, got Inf"),
        (["boxes", 0, "velocity", 0], True, "boxes[0].velocity[0]: must be a number, got a bool"),
        (["polylines", 0, "kind"], "crosswalk", 'polylines[0].kind: unknown "crosswalk", expected'),
        (["polygons", 0, "kind"], "route", 'polygons[0].kind: unknown "route", expected one of cr'),
        (["polygons", 0, "points", 1], [1], "polygons[0].points[1]: must have 3 numbers, got 1"),
        (["polylines", 0, "points", 1, 2], None, "polylines[0].points[1][2]: must be a number"),
        (["traffic_lights", 0, "state"], "blue", 'traffic_lights[0].state: unknown "blue", expe'),
        (["traffic_lights", 0, "size", 0], 0, "traffic_lights[0].size[0]: must be > 0, got 0.0"),
        (["cameras", 0, "width"], 0, "cameras[0].width: must be > 0, got 0.0"),
        (["cameras", 0, "height"], -5, "cameras[0].height: must be > 0, got -5.0"),
        (["cameras", 0, "width"], 10.5, "cameras[0].width: must be an integer in 1..8192, got 10."),
        (["cameras", 0, "width"], 10**7, "cameras[0].width: must be an integer in 1..8192, got 1"),
        (["cameras", 0, "intrinsics", 1], 0, "cameras[0].intrinsics[1]: must be > 0, got 0.0"),
        (["cameras", 0, "intrinsics"], [1, 1, 1], "cameras[0].intrinsics: must have 4 numbers, g"),
        (["cameras", 0, "name"], "a/b", "cameras[0].name: must be usable as a file name, got"),
        (["cameras", 0, "name"], "..", "cameras[0].name: must be usable as a file name, got"),
        (["cameras", 0, "name"], "a\\b", "cameras[0].name: must be usable as a file name, got"),
        (["cameras", 0, "name"], "a\n", "cameras[0].name: must be usable as a file name, got"),
        (["cameras", 0, "name"], "", "cameras[0].name: must be usable as a file name, got"),
        (
            ["cameras", 0, "distortion", "model"],
            "kannala",
            'cameras[0].distortion.model: unknown "kannala", expected one of plumb_bob, rational',
        ),
        (
            ["cameras", 0, "distortion", "coeffs"],
            [0.1],
            "cameras[0].distortion.coeffs: plumb_bob needs 4 or 5 coefficients, got 1",
        ),
        (
            ["cameras", 0, "distortion", "coeffs", 1],
            1e300,
            "cameras[0].distortion.coeffs[1]: must be within +-1e+06, got 1e+300",
        ),
        (
            ["cameras", 0, "distortion"],
            "none",
            "cameras[0].distortion: must be an object, got a string",
        ),
        (
            ["cameras", 0, "ego_from_camera", "rotation", 0, 0],
            2.0,
            "cameras[0].ego_from_camera.rotation: must be a rotation matrix",
        ),
        (
            ["cameras", 0, "ego_from_camera", "rotation", 0, 0],
            -1.0,
            "cameras[0].ego_from_camera.rotation: must be a rotation matrix",
        ),
        (
            ["cameras", 0, "ego_from_camera", "rotation"],
            IDENTITY[:2],
            "cameras[0].ego_from_camera.rotation: must have 3 rows, got 2",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_index(path, value, message):
    with pytest.raises(SceneError) as error:
        parse_scene(changed(path, value))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_two_cameras_of_one_name_are_refused():
    content = copy.deepcopy(VALID)
    content["cameras"].append(copy.deepcopy(content["cameras"][0]))
    with pytest.raises(SceneError, match=r'^cameras\[1\].name: "front" is already used$'):
        parse_scene(content)


def test_short_shapes_are_skipped_with_a_warning_each(capsys):
    content = changed(["polylines", 0, "points"], [[0, 0, 0]])
    content["polygons"][0]["points"] = [[0, 0, 0], [1, 0, 0]]
    scene, _ = parse_scene(content)
    assert (len(scene.polylines), len(scene.polygons)) == (0, 0)
    assert capsys.readouterr().err.splitlines() == [
        "warning: polylines[0]: skipped, needs at least 2 points, got 1",
        "warning: polygons[0]: skipped, needs at least 3 points, got 2",
    ]


def test_points_of_a_skipped_shape_are_still_checked():
    with pytest.raises(SceneError, match=r"^polylines\[0\].points\[0\]\[1\]: must be finite"):
        parse_scene(changed(["polylines", 0, "points"], [[0, float("inf"), 0]]))


def test_a_rounded_rotation_is_made_exact():
    rounded = [[0.866, -0.5, 0.0], [0.5, 0.866, 0.0], [0.0, 0.0, 1.0]]
    path = ["cameras", 0, "ego_from_camera", "rotation"]
    _, (camera,) = parse_scene(changed(path, rounded))
    rotation = camera.ego_from_camera[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation, rounded, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "scene: must be an object, got an array"),
        ('{"schema": ' + "9" * 5000 + "}", "schema: must be 'rap.scene/1', got Infinity"),
    ],
)
def test_an_unreadable_file_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "scene.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SceneError) as error:
        load_scene(path)
    assert str(error.value).startswith(f"{path}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_or_not_there_is_refused(tmp_path):
    path = tmp_path / "scene.json"
    path.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(SceneError, match=r"scene.json: not valid JSON"):
        load_scene(path)
    with pytest.raises(SceneError, match=r"cannot be read: No such file"):
        load_scene(tmp_path / "nothing.json")
    with pytest.raises(SceneError, match=r"cannot be read: Is a directory"):
        load_scene(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=6,
)
PATHS = [
    ["ego"],
    ["ego", "position", 0],
    ["boxes", 0],
    ["boxes", 0, "id"],
    ["boxes", 0, "size"],
    ["polylines", 0, "points"],
    ["polygons", 0, "points", 1],
    ["traffic_lights", 0, "yaw"],
    ["cameras", 0, "name"],
    ["cameras", 0, "width"],
    ["cameras", 0, "ego_from_camera"],
    ["cameras", 0, "ego_from_camera", "rotation", 1],
    ["cameras", 0, "distortion"],
    ["cameras", 0, "distortion", "coeffs"],
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATHS), JSON)
def test_anything_in_any_place_is_either_accepted_or_a_clear_error(path, value):
    content = json.loads(json.dumps(changed(path, value)))
    reason = None
    try:
        scene, _ = parse_scene(content)
    except SceneError as error:
        reason = str(error)
    if reason is not None:
        assert "\n" not in reason
        assert ": " in reason
    else:
        assert np.isfinite(scene.boxes.centers_m).all()
        assert (scene.boxes.sizes_m > 0).all()
