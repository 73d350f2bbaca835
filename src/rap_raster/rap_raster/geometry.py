"""Scene to geometry: everything a style draws, in the map frame, ready for any camera."""

from __future__ import annotations

from dataclasses import dataclass

from rap_raster.frames import Pose
from rap_raster.ground import Ground, build_ground
from rap_raster.scene import Boxes, Lights, Scene
from rap_raster.solids import Solids, build_solids
from rap_raster.styles import Style


@dataclass(frozen=True, slots=True)
class Geometry:
    """What can be drawn from one ego pose.

    Attributes:
        ego: Cameras are mounted on it.
        ground: Lines and areas; may be shared by all scenes on one map.
        solids: Boxes and lights of this instant.
        fades_per_pixel: True if some colour depends on the depth of its pixel.
        supersample: 2 if the style wants rgb antialiased, else 1.
    """

    ego: Pose
    ground: Ground
    solids: Solids
    fades_per_pixel: bool
    supersample: int


def build_geometry(scene: Scene, style: Style) -> Geometry:
    """Builds what `style` draws of `scene`.

    Where many scenes share a map, build its ground once and use `place`.
    """
    ground = build_ground(scene.polylines, scene.polygons, style)
    return place(ground, scene.ego, scene.boxes, scene.lights, style)


def place_seen(ground: Ground, ego: Pose, boxes: Boxes, lights: Lights, style: Style) -> Geometry:
    """As `place`, for a planner: without lights whose state no camera on the ego could see."""
    return place(ground, ego, boxes, lights.shining_at(ego), style)


def place(ground: Ground, ego: Pose, boxes: Boxes, lights: Lights, style: Style) -> Geometry:
    """Puts the boxes and lights of one instant on ground that was built before.

    Args:
        ground: Built with the same style; as large as you like, what is far away costs little.
        ego: Where the cameras are mounted, map frame.
        boxes: Map frame.
        lights: Map frame.
        style: See `rap_raster.styles.load_style`.
    """
    solids = build_solids(boxes, lights, style)
    return Geometry(ego, ground, solids, style.fades_per_pixel, style.supersample)
