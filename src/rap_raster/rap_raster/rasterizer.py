"""The rasterizer: geometry and cameras in, image channels out.

Typical use: `geometry = build_geometry(scene, load_style("rap"))` once per scene, then
`render(geometry, camera)` per camera, or `render_batch` for many of both. Drawing releases the GIL
and may run in several threads; each has working memory of its own, kept from frame to frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rap_raster import painting
from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.compiled import writable
from rap_raster.frames import Pose
from rap_raster.geometry import Geometry, build_geometry
from rap_raster.lens import lens_coefficients, lens_family, lens_grid
from rap_raster.polygons import Corners, Polygons
from rap_raster.projection import Quad
from rap_raster.scene import Boxes, Lights, LineKind, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style
from rap_raster.trapezoids import MAX_CROSSINGS, RowScratch, Trapezoids
from rap_raster.visibility import see

__all__ = ["CHANNELS", "Geometry", "build_geometry", "render", "render_batch", "warmup"]

CHANNELS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "rgb": (np.uint8, (3,)),
    "class": (np.uint8, ()),
    "instance": (np.int32, ()),
    "depth": (np.float32, ()),
}
"""Element type and trailing shape of each channel."""

Image = npt.NDArray[Any]


class _Workspace(threading.local):
    """Working memory of one thread, kept from frame to frame; images of one size need none anew."""

    def __init__(self) -> None:
        self.corners = _new_corners(0)
        self.rows = _new_rows(0, 0)
        self.polygons = _new_polygons(1024)
        self.trapezoids = _new_trapezoids(1024)
        self.tested = _new_trapezoids(0)
        self.large = np.empty((0, 0, 3), np.uint8)

    def fit(self, height: int, width: int, corners: int) -> None:
        """Makes room for an image size and for the corners of a patch."""
        if self.rows.nearest.shape != (height + 1, width):
            self.rows = _new_rows(height, width)
        if len(self.corners.x) < corners:
            self.corners = _new_corners(corners)

    def grow(self) -> bool:
        """Enlarges what was too small for the last image; True if something was."""
        points, polygons, primitives, _ = self.polygons.counts
        small = points > len(self.polygons.u) or polygons > len(self.polygons.owners)
        if small or primitives > len(self.polygons.codes):
            count = max(points / _POINTS, polygons / _PIECES, primitives)
            self.polygons = _new_polygons(int(1.5 * count) + 1)
            return True
        for name in ("trapezoids", "tested"):
            held: Trapezoids = getattr(self, name)
            if held.counts[0] > len(held.owners):
                setattr(self, name, _new_trapezoids(int(1.5 * held.counts[0])))
                return True
        return False


_POINTS, _PIECES = 8, 2
"""Room for image points and polygons per primitive, on average."""


def _new_corners(count: int) -> Corners:
    x, y, z, u, v = np.empty((5, count))
    return Corners(x, y, z, u, v, outside=np.empty(count, np.uint8))


def _new_rows(height: int, width: int) -> RowScratch:
    return RowScratch(
        deep=np.empty((height, 2), np.int32),
        nearest=np.empty((height + 1, width), np.float32),
        bar=np.empty((height, width), np.float32),
        layers=np.empty((height, width), np.uint8),
        crossings=np.empty((height, MAX_CROSSINGS)),
        crossed=np.empty(height, np.int32),
    )


def _new_polygons(primitives: int) -> Polygons:
    return Polygons(
        counts=np.zeros(4, np.int64),
        u=np.empty(_POINTS * primitives),
        v=np.empty(_POINTS * primitives),
        starts=np.empty(_PIECES * primitives + 1, np.int32),
        owners=np.empty(_PIECES * primitives, np.int32),
        bent=np.empty(_PIECES * primitives, np.uint8),
        planes=np.empty((primitives, 7)),
        codes=np.empty(primitives, np.uint8),
        instances=np.empty(primitives, np.int32),
        colors=np.empty((primitives, 3), np.uint8),
        fades=np.empty(primitives, np.uint8),
    )


def _new_trapezoids(count: int) -> Trapezoids:
    return Trapezoids(
        counts=np.zeros(2, np.int64),
        owners=np.empty(count, np.int32),
        rows=np.empty((count, 2), np.int32),
        borders=np.empty((count, 4)),
    )


_WORKSPACE = _Workspace()
_NO_RAYS = np.empty((0, 0, 2), np.float32)
_NO_GAPS = np.empty((0, 2), np.int32)


def render(
    geometry: Geometry,
    camera: CameraModel,
    channels: Sequence[str] = ("rgb",),
    out: dict[str, Image] | None = None,
) -> dict[str, Image]:
    """Draws one camera image.

    Args:
        geometry: From `build_geometry` or `place`.
        camera: Its lens model, if it has one, is drawn: the result is the raw, distorted image.
        channels: Any of `CHANNELS`.
        out: C-contiguous arrays to draw into, by channel; missing channels are allocated.

    Returns:
        By channel: `rgb` (H, W, 3) uint8; `class` (H, W) uint8 codes, 0 = empty; `instance`
        (H, W) int32 box ids, 0 = no box; `depth` (H, W) float32 metres along the optical axis,
        infinity = empty.

    Raises:
        ValueError: If a channel is unknown or an output array does not fit.
    """
    shape = (camera.height, camera.width)
    images = {name: output_array(name, shape, out or {}) for name in channels}
    _draw(geometry, camera, images)
    return images


def render_batch(
    geometries: Sequence[Geometry],
    rigs: Sequence[Sequence[CameraModel]],
    channels: Sequence[str] = ("rgb",),
    out: dict[str, Image] | None = None,
    threads: int = 1,
) -> dict[str, Image]:
    """Draws S scenes into C cameras each.

    Args:
        geometries: One per scene.
        rigs: The cameras of each scene; or a single rig for all of them. All of one size.
        channels: Any of `CHANNELS`.
        out: C-contiguous arrays of shape (S, C, ...) to draw into, by channel; missing channels
            are allocated.
        threads: How many threads draw; the result does not depend on it.

    Returns:
        By channel, (S, C, ...) and otherwise as `render`.

    Raises:
        ValueError: If a channel is unknown, an output array does not fit, the number of rigs is
            neither one nor that of the scenes, the cameras are not alike in number and size, or
            there are no threads.
    """
    if threads < 1:
        raise ValueError(f"threads: must be >= 1, got {threads}")
    if len(rigs) not in (1, len(geometries)):
        raise ValueError(f"rigs: expected 1 or {len(geometries)}, got {len(rigs)}")
    every = list(rigs) if len(rigs) == len(geometries) else list(rigs) * len(geometries)
    sizes = {(camera.height, camera.width) for rig in rigs for camera in rig}
    counts = {len(rig) for rig in rigs}
    if len(sizes) != 1 or len(counts) != 1:
        raise ValueError(f"rigs: need equal cameras, got {counts} per rig of sizes {sizes}")
    shape = (len(geometries), *counts, *sizes.pop())
    images = {name: output_array(name, shape, out or {}) for name in channels}

    def draw(scene: int) -> None:
        for slot, camera in enumerate(every[scene]):
            here = {name: image[scene, slot] for name, image in images.items()}
            _draw(geometries[scene], camera, here)

    if threads == 1:
        for scene in range(len(geometries)):
            draw(scene)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw, range(len(geometries))))
    return images


def warmup() -> None:
    """Compiles every kernel, or loads it from numba's cache, by drawing a small scene."""
    line = [(0.0, 0.0, 0.0), (9.0, 1.0, 0.0), (20.0, 0.0, 0.0)]
    scene = Scene(
        ego=Pose(0.0, 0.0, 0.0, 0.0),
        boxes=Boxes.from_rows([[1, 1, 10, 0, 1, 4, 2, 2, 0, 0, 0]]),
        polylines=Shapes.from_list([(LineKind.LANE_BOUNDARY, line)]),
        polygons=Shapes.from_list([(PolygonKind.CROSSWALK, line)]),
        lights=Lights.empty(),
    )
    style = replace(load_style("rap"), supersample=2)
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = optical_rotation(0.0), 1.5
    camera = CameraModel("warmup", 32, 16, 16.0, 16.0, 15.5, 7.5, pose)
    # The second one does not fill its image, so that the pixels it leaves empty are emptied, too.
    lens = Distortion("plumb_bob", (-1 / 3, 0.0, 0.0, 0.0))
    for each in (camera, replace(camera, distortion=lens)):
        render(build_geometry(scene, style), each, tuple(CHANNELS))


def output_array(name: str, leading: tuple[int, ...], out: dict[str, Image]) -> Image:
    """Returns the array to draw a channel into."""
    if name not in CHANNELS:
        raise ValueError(f"channels: unknown {name!r}, expected any of {list(CHANNELS)}")
    dtype, trailing = CHANNELS[name]
    shape = (*leading, *trailing)
    if name not in out:
        return np.empty(shape, dtype)
    given = out[name]
    if given.shape != shape or given.dtype != dtype or not given.flags.c_contiguous:
        raise ValueError(
            f"out[{name!r}]: expected a C-contiguous {np.dtype(dtype)} array of shape {shape}, "
            f"got {given.dtype} {given.shape}"
        )
    return given


def _draw(geometry: Geometry, camera: CameraModel, images: dict[str, Image]) -> None:
    """Draws the channels of one camera; supersampled rgb is drawn apart from the others."""
    if geometry.supersample == 1 or "rgb" not in images:
        _draw_plain(geometry, camera, images, 1.0)
        return
    height, width = 2 * camera.height, 2 * camera.width
    if _WORKSPACE.large.shape != (height, width, 3):
        _WORKSPACE.large = np.empty((height, width, 3), np.uint8)
    large = _WORKSPACE.large
    _draw_plain(geometry, camera.resized(width, height), {"rgb": large}, 2.0)
    painting.average(large, images["rgb"])
    others = {name: image for name, image in images.items() if name != "rgb"}
    if others:
        _draw_plain(geometry, camera, others, 1.0)


def _draw_plain(
    geometry: Geometry, camera: CameraModel, images: dict[str, Image], px: float
) -> None:
    """Finds out what is visible and paints each channel."""
    rays, bounds, gaps = camera_rays(camera)
    with_planes = "depth" in images or ("rgb" in images and geometry.fades_per_pixel)
    space, ego = _WORKSPACE, geometry.ego
    space.fit(camera.height, camera.width, geometry.ground.largest_patch)
    # Plain floats: for other kinds of numbers numba would compile everything again.
    x, y, z, yaw = float(ego.x_m), float(ego.y_m), float(ego.z_m), float(ego.yaw_rad)
    pinhole = (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
    level_from_camera = writable(ego.tilted(np.eye(4)) @ camera.ego_from_camera, np.float64)
    while True:
        deep = see(
            (x, y, z, yaw), level_from_camera, pinhole, bounds, px,
            lens_family(camera.distortion), lens_coefficients(camera.distortion), rays,
            geometry.ground, geometry.solids, with_planes,
            space.corners, space.rows, space.polygons, space.trapezoids, space.tested,
        )  # fmt: skip
        if not space.grow():
            break
    shown = space.tested if deep else space.trapezoids
    for name, image in images.items():
        _PAINTERS[name](shown, space.polygons, int(camera.width), rays, image.reshape(-1))
        if len(gaps):
            pixels = image.reshape(camera.height * camera.width, -1)
            painting.blank(gaps, pixels, np.inf if name == "depth" else 0.0)


_PAINTERS: dict[str, Callable[..., None]] = {
    "rgb": painting.paint_rgb,
    "class": painting.paint_class,
    "instance": painting.paint_instance,
    "depth": painting.paint_depth,
}


def camera_rays(
    camera: CameraModel,
) -> tuple[npt.NDArray[np.float32], Quad, npt.NDArray[np.int32]]:
    """Returns the rays of a lens, the bounds of the view, and the pixels that stay empty."""
    if camera.distortion is not None:
        grid = lens_grid(camera)
        return grid.rays, grid.bounds, grid.gaps
    left, right = -camera.cx / camera.fx, (camera.width - 1 - camera.cx) / camera.fx
    top, bottom = -camera.cy / camera.fy, (camera.height - 1 - camera.cy) / camera.fy
    return _NO_RAYS, (float(left), float(right), float(top), float(bottom)), _NO_GAPS
