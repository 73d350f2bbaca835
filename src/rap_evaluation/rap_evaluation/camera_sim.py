"""A camera simulator: scenes as a photo-like image, pixel by pixel on the rasterizer's geometry.

Deferred shading: the rasterizer says what every pixel shows and how far away it is; cabins, people
and tree crowns, which are no boxes, are traced into its channels; and shading decides how that
would look to a camera: textured asphalt and worn paint, pavements, buildings and trees, car bodies
with windows, wheels and lamps, sky, sun and shadow, haze, lens, exposure and noise. It is a second
domain with the same geometry, for tests and alignment; it does not claim to be photo-realistic.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rap_evaluation.photo.daylight import Daylight
from rap_evaluation.photo.objects import BOX, Objects, placed_objects
from rap_evaluation.photo.paint import camera_style, painted_ground
from rap_evaluation.photo.roadside import CELL_M, clearances, roadside
from rap_evaluation.photo.samples import Samples, Sight, take_samples
from rap_evaluation.photo.scenery import REACH_M, Scenery, scenery
from rap_evaluation.photo.sensor import camera_jpeg, develop
from rap_evaluation.photo.shading import Sky, shade
from rap_evaluation.photo.shadows import CONTACT_M, PENUMBRA_M, openness, shadow_grid, sunlit
from rap_evaluation.photo.tracing import trace
from rap_raster.camera import CameraModel
from rap_raster.frames import Pose
from rap_raster.geometry import place
from rap_raster.lens import lens_grid
from rap_raster.maps.vector_map import ShapeIndex
from rap_raster.rasterizer import render
from rap_raster.scene import Boxes, Lights, Scene, Shapes

__all__ = ["VERSION", "CameraSimulator", "camera_jpeg", "simulate_camera"]

VERSION = 2
"""Raised whenever pictures of the same scene change, so that those kept on disk are made anew."""

RANGE_M = 120.0
"""Scenery farther from the ego is not drawn; the skyline hides that it is missing."""

REGION_M = 128.0
"""Scenery is made for the surroundings of squares of this size, one after the other."""

_MARGIN_M = RANGE_M + REACH_M
_NO_RAYS = np.empty((0, 0, 2), np.float32)


@dataclass(frozen=True, slots=True)
class _Region:
    """What lies around one square of the map.

    Attributes:
        low_m: Least x and y of the following.
        clearance_m: See `Roadside`, as far as cameras in the square see.
        beside: What stands there.
    """

    low_m: tuple[float, float]
    clearance_m: npt.NDArray[np.float32]
    beside: Scenery


class CameraSimulator:
    """Takes pictures on one map."""

    def __init__(self, lines: Shapes, areas: Shapes) -> None:
        """Prepares the ground of a map; what stands beside its roads is found when it is seen.

        Args:
            lines: Polylines of the map, `LineKind` codes.
            areas: Polygons of the map, `PolygonKind` codes.
        """
        self._style = camera_style()
        self._ground = painted_ground(lines, areas, self._style)
        self._lines, self._areas = ShapeIndex(lines), ShapeIndex(areas)
        self._region = lru_cache(maxsize=16)(self._new_region)

    def image(
        self,
        ego: Pose,
        boxes: Boxes,
        lights: Lights,
        camera: CameraModel,
        *,
        seed: int,
        frame: int = 0,
    ) -> npt.NDArray[np.uint8]:
        """Takes one picture.

        Args:
            ego: The cameras are mounted on it; it is not drawn itself.
            boxes: Other road users and objects.
            lights: Traffic lights.
            camera: Its lens model, if it has one, is drawn: the result is the raw image.
            seed: Decides light, exposure and noise, but not what stands beside the road.
            frame: Number of the picture in a sequence: only noise and vibration differ.

        Returns:
            (H, W, 3) uint8 rgb; the same bytes for the same arguments.
        """
        region = self._region(int(ego.x_m // REGION_M), int(ego.y_m // REGION_M))
        objects = placed_objects(boxes, lights, self._near(region.beside, ego))
        samples = take_samples(self._sight(ego, objects, camera), float(ego.z_m))
        day = Daylight.from_seed(seed)
        light = np.empty((camera.height, camera.width, 3), np.float32)
        _shade(ego, objects, samples, region, day, float(camera.fx), light.reshape(-1, 3))
        rng = np.random.default_rng([seed, frame, zlib.crc32(camera.name.encode())])
        return develop(light, day, rng)

    def _new_region(self, column: int, row: int) -> _Region:
        low_m = np.array([column, row]) * REGION_M
        size_m = REGION_M + 2 * _MARGIN_M
        middle_m = low_m + 0.5 * REGION_M
        lines = self._lines.near(middle_m, 0.5 * size_m)
        areas = self._areas.near(middle_m, 0.5 * size_m)
        side = roadside(lines, areas, low_m - _MARGIN_M, size_m)
        kept = slice(round(REACH_M / CELL_M), -round(REACH_M / CELL_M))
        seen_m = low_m - RANGE_M
        return _Region(
            (float(seen_m[0]), float(seen_m[1])),
            side.clearance_m[kept, kept].copy(),
            scenery(side, seen_m, REGION_M + 2 * RANGE_M),
        )

    @staticmethod
    def _near(beside: Scenery, ego: Pose) -> Scenery:
        offset = beside.centers_m[:, :2] - [ego.x_m, ego.y_m]
        return beside.select((offset * offset).sum(axis=1) < RANGE_M**2)

    def _sight(self, ego: Pose, objects: Objects, camera: CameraModel) -> Sight:
        """Draws the channels, at twice the size."""
        large = camera.resized(2 * camera.width, 2 * camera.height)
        geometry = place(self._ground, ego, _boxes(objects), Lights.empty(), self._style)
        drawn = render(geometry, large, ("class", "instance", "depth"))
        sight = Sight(
            (float(large.fx), float(large.fy), float(large.cx), float(large.cy)),
            _NO_RAYS if large.distortion is None else lens_grid(large).rays,
            ego.map_from_ego() @ camera.ego_from_camera,
            drawn["class"],
            drawn["instance"],
            drawn["depth"],
        )
        trace(sight, objects)
        return sight


def simulate_camera(
    scene: Scene, camera: CameraModel, *, seed: int, frame: int = 0
) -> npt.NDArray[np.uint8]:
    """Takes a picture of a scene whose map is known only around it.

    Where many scenes share a map, make one `CameraSimulator` and use it for all.

    Args:
        scene: Any scene; centrelines and routes cannot be seen.
        camera: See `CameraSimulator.image`.
        seed: See `CameraSimulator.image`.
        frame: See `CameraSimulator.image`.

    Returns:
        (H, W, 3) uint8 rgb.
    """
    simulator = CameraSimulator(scene.polylines, scene.polygons)
    return simulator.image(scene.ego, scene.boxes, scene.lights, camera, seed=seed, frame=frame)


def _boxes(objects: Objects) -> Boxes:
    """Returns the parts that the rasterizer draws; their ids are index plus one."""
    indices = np.flatnonzero(objects.shapes == BOX)
    parts = objects.parts[indices]
    return Boxes(
        ids=(indices + 1).astype(np.int32),
        classes=objects.codes[objects.owners[indices]],
        centers_m=np.ascontiguousarray(parts[:, :3]),
        sizes_m=2.0 * parts[:, 3:6],
        yaws_rad=np.arctan2(parts[:, 7], parts[:, 6]),
        velocities_mps=np.full((len(indices), 2), np.nan),
    )


def _shade(  # noqa: PLR0917 - one picture's worth of arguments, called once
    ego: Pose,
    objects: Objects,
    samples: Samples,
    region: _Region,
    day: Daylight,
    focal_px: float,
    light: npt.NDArray[np.float32],
) -> None:
    """Writes the (H * W, 3) light that arrives at the pixels."""
    sun = (float(day.sun[0]), float(day.sun[1]), float(day.sun[2]))
    middle = (ego.x_m, ego.y_m, ego.z_m)
    shadows = shadow_grid(objects.parts, sun, middle, margin_m=PENUMBRA_M)
    contacts = shadow_grid(objects.boxes, (0.0, 0.0, 1.0), middle, margin_m=CONTACT_M)
    shade(
        samples,
        objects,
        sunlit(samples, objects, shadows, sun),
        openness(samples, objects, contacts),
        clearances(samples.points_m, region.low_m, region.clearance_m),
        Sky(sun, day.overcast, day.clouds),
        focal_px,
        light,
    )
