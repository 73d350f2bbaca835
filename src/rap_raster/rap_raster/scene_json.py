"""Reads scene files, schema `rap.scene/1` (design contract), and says exactly what is wrong."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from rap_inference.bundle import ROTATION_TOLERANCE
from rap_raster.camera import DISTORTION_MODELS, CameraModel, Distortion
from rap_raster.frames import FloatArray, Pose
from rap_raster.scene import Boxes, Lights, LightState, LineKind, ObjectClass, PolygonKind, Scene
from rap_raster.scene import Shapes as SceneShapes

SCHEMA = "rap.scene/1"

MAX_IMAGE_PX = 8192
"""Largest image side. Real sensors stay below; an absurd number must not exhaust the memory."""

MAX_COORDINATE_M = 1e9
"""Largest length, far beyond any map projection; float64 still resolves 0.1 um there."""

MAX_COEFFICIENT = 1e6
"""Largest lens coefficient, far beyond any calibration; above, powers of it would overflow."""

_JSON_TYPES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}

_Code = TypeVar("_Code", bound=IntEnum)


class SceneError(ValueError):
    """A scene that cannot be drawn; the text names file, field and reason in one line."""


def load_scene(path: Path) -> tuple[Scene, list[CameraModel]]:
    """Reads and validates a scene file.

    Lines of fewer than two points and areas of fewer than three are skipped with a warning on
    stderr.

    Returns:
        The scene in its own map frame, and its cameras in file order.

    Raises:
        SceneError: If the file is not a valid scene.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_int=_integer)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{path}: not valid JSON: {' '.join(str(error).split())}") from error
    try:
        return parse_scene(content)
    except SceneError as error:
        raise SceneError(f"{path}: {error}") from error


def parse_scene(content: object) -> tuple[Scene, list[CameraModel]]:
    """Validates parsed JSON; see `load_scene`.

    Raises:
        SceneError: If a field is missing or wrong; the text starts with the field's path.
    """
    root = _Node("scene", content)
    schema = root.field("schema")
    if schema.value != SCHEMA:
        schema.fail(f"must be {SCHEMA!r}, got {_shown(schema.value)}")
    ego = root.field("ego")
    x_m, y_m, z_m = ego.field("position").numbers(3)
    skipped: list[str] = []
    scene = Scene(
        ego=Pose(x_m, y_m, z_m, ego.field("yaw").angle()),
        boxes=_boxes(root.field("boxes").items()),
        polylines=_shapes(root.field("polylines").items(), LineKind, 2, skipped),
        polygons=_shapes(root.field("polygons").items(), PolygonKind, 3, skipped),
        lights=_lights(root.field("traffic_lights").items()),
    )
    cameras = _cameras(root.field("cameras").items())
    # Only now, because a scene that is refused has its error as the one line on stderr.
    sys.stderr.writelines(f"warning: {reason}\n" for reason in skipped)
    return scene, cameras


def _integer(text: str) -> int | float:
    """Parses a JSON integer; one with thousands of digits becomes infinity, not an exception."""
    return int(text) if len(text) < 400 else math.inf


def _shown(value: object) -> str:
    """Returns a value for an error text, shortened so that the text stays one line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = _JSON_TYPES.get(type(value), "something else")
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Node:
    """A JSON value together with its path, so that every check can name the field."""

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        self.value = value

    def fail(self, reason: str) -> NoReturn:
        raise SceneError(f"{self.path}: {reason}")

    def _expect(self, kind: type) -> Any:  # noqa: ANN401 - JSON is untyped
        if type(self.value) is not kind:
            got = _JSON_TYPES.get(type(self.value), "something else")
            self.fail(f"must be {_JSON_TYPES[kind]}, got {got}")
        return self.value

    def field(self, name: str) -> _Node:
        content = self._expect(dict)
        path = name if self.path == "scene" else f"{self.path}.{name}"
        if name not in content:
            raise SceneError(f"{path}: missing")
        return _Node(path, content[name])

    def items(self) -> list[_Node]:
        values = self._expect(list)
        return [_Node(f"{self.path}[{i}]", value) for i, value in enumerate(values)]

    def text(self) -> str:
        return str(self._expect(str))

    def number(self) -> float:
        value = self.value
        if type(value) not in (int, float):
            self.fail(f"must be a number, got {_JSON_TYPES.get(type(value), 'something else')}")
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail(f"must be finite, got {_shown(value)}")
        return number

    def within(self, limit: float) -> float:
        number = self.number()
        if abs(number) > limit:
            self.fail(f"must be within +-{limit:g}, got {number:g}")
        return number

    def coordinate(self) -> float:
        return self.within(MAX_COORDINATE_M)

    def angle(self) -> float:
        # Reduced here, because huge angles lose their meaning in the sums that follow.
        return math.remainder(self.number(), 2 * math.pi)

    def positive(self) -> float:
        number = self.coordinate()
        if number <= 0:
            self.fail(f"must be > 0, got {number}")
        return number

    def integer(self, low: int, high: int) -> int:
        number = self.number()
        if number != int(number) or not low <= number <= high:
            self.fail(f"must be an integer in {low}..{high}, got {_shown(self.value)}")
        return int(number)

    def numbers(self, count: int, read: Callable[[_Node], float] | None = None) -> list[float]:
        items = self.items()
        if len(items) != count:
            self.fail(f"must have {count} numbers, got {len(items)}")
        return [(read or _Node.coordinate)(item) for item in items]

    def code(self, codes: type[_Code]) -> _Code:
        known = {code.name.lower(): code for code in codes}
        name = self.text()
        if name not in known:
            self.fail(f"unknown {_shown(name)}, expected one of {', '.join(known)}")
        return known[name]


def _boxes(nodes: Sequence[_Node]) -> Boxes:
    rows = []
    first_use: dict[int, str] = {}
    for node in nodes:
        identifier = node.field("id")
        box_id = identifier.integer(1, 2**31 - 1)
        if box_id in first_use:
            identifier.fail(f"{box_id} is already used by {first_use[box_id]}")
        first_use[box_id] = identifier.path
        code = node.field("class").code(ObjectClass)
        center = node.field("center").numbers(3)
        size = node.field("size").numbers(3, _Node.positive)
        yaw = node.field("yaw").angle()
        velocity = node.field("velocity").numbers(2)
        rows.append([box_id, int(code), *center, *size, yaw, *velocity])
    return Boxes.from_rows(rows)


def _shapes(
    nodes: Sequence[_Node], kinds: type[_Code], least: int, skipped: list[str]
) -> SceneShapes:
    """Reads lines or areas; a reason per one that has too few points goes to `skipped`."""
    shapes = []
    for node in nodes:
        kind = node.field("kind").code(kinds)
        points = [point.numbers(3) for point in node.field("points").items()]
        if len(points) < least:
            reason = f"{node.path}: skipped, needs at least {least} points, got {len(points)}"
            skipped.append(reason)
            continue
        shapes.append((int(kind), points))
    return SceneShapes.from_list(shapes)


def _lights(nodes: Sequence[_Node]) -> Lights:
    states = [node.field("state").code(LightState) for node in nodes]
    centers = [node.field("center").numbers(3) for node in nodes]
    sizes = [node.field("size").numbers(3, _Node.positive) for node in nodes]
    yaws = [node.field("yaw").angle() for node in nodes]
    return Lights(
        states=np.array(states, np.uint8),
        centers_m=np.array(centers, np.float64).reshape(-1, 3),
        sizes_m=np.array(sizes, np.float64).reshape(-1, 3),
        yaws_rad=np.array(yaws, np.float64),
    )


def _cameras(nodes: Sequence[_Node]) -> list[CameraModel]:
    cameras = [_camera(node) for node in nodes]
    names = [camera.name for camera in cameras]
    for i, (node, name) in enumerate(zip(nodes, names, strict=True)):
        if name in names[:i]:
            node.field("name").fail(f"{_shown(name)} is already used")
    return cameras


def _camera(node: _Node) -> CameraModel:
    name = node.field("name")
    _require_file_name(name)
    intrinsics = node.field("intrinsics")
    fx, fy, cx, cy = intrinsics.numbers(4)
    for focal_length in intrinsics.items()[:2]:
        focal_length.positive()
    return CameraModel(
        name=name.text(),
        width=_image_side(node.field("width")),
        height=_image_side(node.field("height")),
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        ego_from_camera=_transform(node.field("ego_from_camera")),
        distortion=_distortion(node.field("distortion")),
    )


def _require_file_name(node: _Node) -> None:
    """Camera names become file names, so they must not lead out of the output folder."""
    name = node.text()
    unsafe = not name or len(name) > 100 or name.startswith(".")
    if unsafe or any(c in "/\\:" or not c.isprintable() for c in name):
        node.fail(f"must be usable as a file name, got {_shown(name)}")


def _image_side(node: _Node) -> int:
    node.positive()
    return node.integer(1, MAX_IMAGE_PX)


def _transform(node: _Node) -> FloatArray:
    rotation_node = node.field("rotation")
    rows = rotation_node.items()
    if len(rows) != 3:
        rotation_node.fail(f"must have 3 rows, got {len(rows)}")
    rotation = np.array([row.numbers(3) for row in rows])
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        rotation_node.fail("must be a rotation matrix (orthonormal, determinant +1)")
    transform = np.eye(4)
    # The nearest exact rotation: a rounded one would scale depths by as much as it is off.
    left, _, right = np.linalg.svd(rotation)
    transform[:3, :3] = left @ right
    transform[:3, 3] = node.field("translation").numbers(3)
    return transform


def _distortion(node: _Node) -> Distortion | None:
    if node.value is None:
        return None
    model = node.field("model")
    name = model.text()
    if name not in DISTORTION_MODELS:
        model.fail(f"unknown {_shown(name)}, expected one of {', '.join(DISTORTION_MODELS)}")
    coeffs = node.field("coeffs")
    counts = DISTORTION_MODELS[name]
    values = [item.within(MAX_COEFFICIENT) for item in coeffs.items()]
    if len(values) not in counts:
        expected = " or ".join(str(count) for count in counts)
        coeffs.fail(f"{name} needs {expected} coefficients, got {len(values)}")
    return Distortion(name, tuple(values))
