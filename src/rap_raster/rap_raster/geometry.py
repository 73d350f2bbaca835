"""Scene to geometry: everything a style draws, as flat quads in the ego frame.

Built once per scene and shared by all cameras. The ego position is subtracted in float64 first,
so large map coordinates lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray, Pose, inverse, transform_points
from rap_raster.kernels import box_faces, fills, ribbons
from rap_raster.scene import LineKind, Scene, Shapes
from rap_raster.styles import FACES, GroundLayer, Style


@dataclass(frozen=True, slots=True)
class Geometry:
    """Q primitives in the ego frame: ground in layer order, then the faces of boxes and lights.

    Attributes:
        quads_m: (Q, 4, 3) float64 metres; triangles repeat their last vertex.
        ground_count: How many of them are ground.
        min_px: (Q,) float32 minimum width of ribbons in pixels, 0 for anything else.
        codes: (Q,) uint8 class codes.
        instances: (Q,) int32 box ids, 0 for ground and lights.
        colors: (Q, 3) uint8 RGB before the depth cue.
        fades: (Q,) uint8 depth cue, a `FADE_` constant of the kernels.
    """

    quads_m: FloatArray
    ground_count: int
    min_px: npt.NDArray[np.float32]
    codes: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.int32]
    colors: npt.NDArray[np.uint8]
    fades: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.quads_m)


def build_geometry(scene: Scene, style: Style) -> Geometry:
    """Builds what `style` draws of `scene`.

    Lines of fewer than two distinct points and areas of fewer than three are left out.

    Args:
        scene: In the map frame.
        style: See `rap_raster.styles.load_style`.

    Returns:
        The primitives in the frame of `scene.ego`.
    """
    lines = _in_ego_frame(scene.polylines, scene.ego)
    areas = _in_ego_frame(scene.polygons, scene.ego)
    boxes, lights = scene.boxes, scene.lights
    faces = len(FACES)
    # No layer makes more primitives than its shapes have points.
    line_room = len(lines.points_m) + 2 * len(areas.points_m)
    solid_count = faces * (len(boxes) + len(lights))
    geometry = _empty(line_room + solid_count)
    ground_count = 0
    for layer in style.ground:
        shapes = lines if layer.code in set(LineKind) else areas
        ground_count = _add_layer(geometry, ground_count, shapes, layer)
    centers = np.concatenate([boxes.centers_m, lights.centers_m])
    yaws = np.concatenate([boxes.yaws_rad, lights.yaws_rad]) - scene.ego.yaw_rad
    sizes = np.concatenate([boxes.sizes_m, lights.sizes_m])
    solids = slice(ground_count, ground_count + solid_count)
    box_faces(_points_in_ego_frame(centers, scene.ego), sizes, yaws, geometry.quads_m[solids])
    codes = np.concatenate([boxes.classes, lights.states])
    box_colors = style.box_colors[boxes.classes].reshape(-1, 3)
    light_colors = np.repeat(style.light_colors[lights.states], faces, axis=0)
    geometry.min_px[solids] = 0.0
    geometry.codes[solids] = np.repeat(codes, faces)
    geometry.instances[solids] = 0
    geometry.instances[solids][: faces * len(boxes)] = np.repeat(boxes.ids, faces)
    geometry.colors[solids] = np.concatenate([box_colors, light_colors])
    geometry.fades[solids] = style.light_fade
    geometry.fades[solids][: faces * len(boxes)] = style.box_fade
    return _trimmed(geometry, ground_count, ground_count + solid_count)


def _points_in_ego_frame(points_m: FloatArray, ego: Pose) -> FloatArray:
    local = points_m - (ego.x_m, ego.y_m, ego.z_m)
    rotation = inverse(Pose(0.0, 0.0, 0.0, ego.yaw_rad).map_from_ego())
    return np.ascontiguousarray(transform_points(rotation, local))


def _in_ego_frame(shapes: Shapes, ego: Pose) -> Shapes:
    # Copies: logs hand out read-only arrays, for which every kernel would be compiled again.
    return Shapes(
        kinds=np.array(shapes.kinds, np.uint8),
        offsets=np.array(shapes.offsets, np.int32),
        points_m=_points_in_ego_frame(shapes.points_m, ego),
    )


def _empty(count: int) -> Geometry:
    return Geometry(
        quads_m=np.empty((count, 4, 3)),
        ground_count=0,
        min_px=np.empty(count, np.float32),
        codes=np.empty(count, np.uint8),
        instances=np.empty(count, np.int32),
        colors=np.empty((count, 3), np.uint8),
        fades=np.empty(count, np.uint8),
    )


def _add_layer(geometry: Geometry, start: int, shapes: Shapes, layer: GroundLayer) -> int:
    """Appends one ground layer; returns where it ends."""
    room = geometry.quads_m[start:]
    source = (shapes.points_m, shapes.offsets, shapes.kinds, layer.code)
    if layer.filled:
        count = fills(*source, room)
    else:
        closed = layer.code not in set(LineKind)
        count = ribbons(*source, closed, 0.5 * layer.width_m, room)
    added = slice(start, start + count)
    geometry.min_px[added] = layer.min_px
    geometry.codes[added] = layer.code
    geometry.instances[added] = 0
    geometry.colors[added] = layer.color
    geometry.fades[added] = layer.fade
    return start + count


def _trimmed(geometry: Geometry, ground_count: int, count: int) -> Geometry:
    return Geometry(
        quads_m=geometry.quads_m[:count],
        ground_count=ground_count,
        min_px=geometry.min_px[:count],
        codes=geometry.codes[:count],
        instances=geometry.instances[:count],
        colors=geometry.colors[:count],
        fades=geometry.fades[:count],
    )
