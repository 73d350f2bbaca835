"""The rasterizer: geometry and a camera in, image channels out.

Typical use: `geometry = build_geometry(scene, load_style("rap"))` once per scene, then
`render(geometry, camera)` per camera. All work happens in `rap_raster.kernels`; this module picks
arguments, buffers and channels. It releases the GIL while drawing and may be called from several
threads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rap_raster import kernels
from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.frames import Pose, inverse
from rap_raster.geometry import Geometry, build_geometry
from rap_raster.lens import lens_grid
from rap_raster.scene import Boxes, Lights, LineKind, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style

__all__ = ["CHANNELS", "Geometry", "build_geometry", "render", "warmup"]

CHANNELS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "rgb": (np.uint8, (3,)),
    "class": (np.uint8, ()),
    "instance": (np.int32, ()),
    "depth": (np.float32, ()),
}
"""Element type and trailing shape of each channel."""

Image = npt.NDArray[Any]


class _Scratch(threading.local):
    """Buffers of the last image size, one set per thread, so that no frame allocates them."""

    def __init__(self) -> None:
        self._buffers = (np.empty((0, 0), np.float32), np.empty((0, 0), np.int32))

    def get(self, height: int, width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Returns (H, W) buffers for inverse depth and primitive index, contents undefined."""
        if self._buffers[0].shape != (height, width):
            self._buffers = (
                np.empty((height, width), np.float32),
                np.empty((height, width), np.int32),
            )
        return self._buffers


_SCRATCH = _Scratch()
_NO_RAYS = np.empty((0, 0, 2))
_NO_TILES = np.empty((0, 0, 4))


def render(
    geometry: Geometry,
    camera: CameraModel,
    channels: Sequence[str] = ("rgb",),
    out: dict[str, Image] | None = None,
) -> dict[str, Image]:
    """Draws one camera image.

    Args:
        geometry: From `build_geometry`.
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
    images = {name: _target(name, camera, out or {}) for name in channels}
    nearest, seen = _SCRATCH.get(camera.height, camera.width)
    fade = np.empty(len(geometry), np.float32)
    _draw(geometry, camera, nearest, seen, fade)
    ground_count = geometry.ground_count
    for name, image in images.items():
        if name == "rgb":
            kernels.resolve_rgb(
                seen, nearest, ground_count, geometry.colors, geometry.fades, fade, image
            )
        elif name == "class":
            kernels.resolve_class(seen, geometry.codes, image)
        elif name == "instance":
            kernels.resolve_instance(seen, geometry.instances, image)
        else:
            kernels.resolve_depth(seen, nearest, ground_count, image)
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
    geometry = build_geometry(scene, load_style("rap"))
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = optical_rotation(0.0), 1.5
    camera = CameraModel("warmup", 32, 16, 16.0, 16.0, 15.5, 7.5, pose)
    render(geometry, camera, tuple(CHANNELS))


def _target(name: str, camera: CameraModel, out: dict[str, Image]) -> Image:
    """Returns the array to draw a channel into."""
    if name not in CHANNELS:
        raise ValueError(f"channels: unknown {name!r}, expected any of {list(CHANNELS)}")
    dtype, trailing = CHANNELS[name]
    shape = (camera.height, camera.width, *trailing)
    if name not in out:
        return np.empty(shape, dtype)
    given = out[name]
    if given.shape != shape or given.dtype != dtype or not given.flags.c_contiguous:
        raise ValueError(
            f"out[{name!r}]: expected a C-contiguous {np.dtype(dtype)} array of shape {shape}, "
            f"got {given.dtype} {given.shape}"
        )
    return given


def _draw(
    geometry: Geometry,
    camera: CameraModel,
    nearest: npt.NDArray[np.float32],
    seen: npt.NDArray[np.int32],
    fade: npt.NDArray[np.float32],
) -> None:
    """Fills the two buffers, with the camera's own pinhole or through its lens."""
    if camera.distortion is None:
        pinhole = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
        bounds = np.array([0.0, camera.width - 1.0, 0.0, camera.height - 1.0])
        px_scale, rays, tiles = 1.0, _NO_RAYS, _NO_TILES
    else:
        pinhole = np.array([1.0, 1.0, 0.0, 0.0])
        grid = lens_grid(camera)
        bounds, rays, tiles = grid.bounds, grid.rays, grid.tiles
        px_scale = 1.0 / camera.fx
    kernels.draw(
        geometry.quads_m,
        geometry.ground_count,
        geometry.min_px,
        np.ascontiguousarray(inverse(camera.ego_from_camera)[:3]),
        pinhole,
        bounds,
        px_scale,
        rays,
        tiles,
        nearest,
        seen,
        fade,
    )
