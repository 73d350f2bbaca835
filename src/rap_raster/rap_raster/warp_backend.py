"""An optional backend of the rasterizer on the GPU, by NVIDIA Warp; off by default.

Same input, channels and rules as `rap_raster.rasterizer`: see `warp_kernels` for how. Geometry is
kept on the device for as long as the same one is drawn; per image a camera goes up, two numbers
come back (how much memory the next step needs), and then the channels, unless they are to stay on
the device. Importing this module imports Warp, which nothing else in this package does; kernels are
compiled at first use, for some ten seconds, into Warp's own cache.

So far it has run on Warp's CPU device only, which is for tests: one thread, some 90 ns per pixel,
10 to 400 times slower than the CPU rasterizer. Speed on a GPU has not been measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

try:
    import warp as wp
except ImportError as error:
    raise ImportError(f"the warp backend needs Warp ({error}): pip install warp-lang") from error

from rap_raster import warp_kernels as kernels
from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray, inverse
from rap_raster.geometry import Geometry
from rap_raster.ground import Ground
from rap_raster.lens import lens_coefficients, lens_family, lens_grid
from rap_raster.projection import SIDE_MARGIN_RAD, STEEPEST_RAD
from rap_raster.rasterizer import CHANNELS, Image, camera_rays, output_array
from rap_raster.solids import Solids

_CHANNELS = {
    "rgb": (kernels.RGB, "rgb"),
    "class": (kernels.CLASS, "codes"),
    "instance": (kernels.INSTANCE, "instances"),
    "depth": (kernels.DEPTH, "depths_m"),
}
"""Bit and place in `warp_kernels.Images` of each channel."""

_LENSES_KEPT = 32
"""As many as `lens.lens_grid` keeps; a 1080p lens takes 17 MB."""


class WarpRasterizer:
    """Draws on one device. Not for several threads at once.

    Attributes:
        device: Name of the Warp device that draws.
    """

    def __init__(self, device: str | None = None) -> None:
        """Chooses a device.

        Args:
            device: Name of a Warp device; None means "cuda:0" if there is one, else "cpu".

        Raises:
            ValueError: If Warp has no such device.
        """
        wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
        known = [found.alias for found in wp.get_devices()]
        self.device = device or ("cuda:0" if "cuda:0" in known else "cpu")
        if self.device not in known:
            raise ValueError(f"device: unknown {self.device!r}, expected any of {known}")
        self._ground: tuple[Ground, kernels.GroundArrays] | None = None
        self._solids: tuple[Solids, kernels.SolidArrays] | None = None
        self._lenses: dict[tuple[object, ...], tuple[wp.array, wp.array]] = {}

    def render(
        self,
        geometry: Geometry,
        camera: CameraModel,
        channels: Sequence[str] = ("rgb",),
        out: dict[str, Image] | None = None,
    ) -> dict[str, Image]:
        """Draws one camera image; arguments, result and errors are those of `rasterizer.render`."""
        shape = (camera.height, camera.width)
        images = {name: output_array(name, shape, out or {}) for name in channels}
        for name, drawn in self.render_on_device(geometry, camera, tuple(images)).items():
            images[name][...] = drawn.numpy()
        return images

    def render_on_device(
        self, geometry: Geometry, camera: CameraModel, channels: Sequence[str] = ("rgb",)
    ) -> dict[str, wp.array]:
        """Draws one camera image and leaves it on the device.

        Returns:
            By channel a `warp.array` as described at `rasterizer.render`. Kernels may still be
            running; work that is queued on the same stream waits for them.

        Raises:
            ValueError: If a channel is unknown.
        """
        for name in channels:
            if name not in CHANNELS:
                raise ValueError(f"channels: unknown {name!r}, expected any of {list(CHANNELS)}")
        with wp.ScopedDevice(self.device):
            if geometry.supersample == 1 or "rgb" not in channels:
                return self._draw(geometry, camera, channels, 1.0)
            large = camera.resized(2 * camera.width, 2 * camera.height)
            others = [name for name in channels if name != "rgb"]
            images = self._draw(geometry, camera, others, 1.0) if others else {}
            images["rgb"] = _averaged(self._draw(geometry, large, ["rgb"], 2.0)["rgb"])
            return {name: images[name] for name in channels}

    def _draw(
        self, geometry: Geometry, camera: CameraModel, channels: Sequence[str], px: float
    ) -> dict[str, wp.array]:
        """Draws the channels of one camera without antialiasing."""
        rays, ray_bounds = self._lens(camera)
        view = _view(geometry, camera, px)
        pieces, count = _pieces(view, *self._uploaded(geometry))
        starts, listed = _lists(view, pieces, count, ray_bounds)
        images, bits = kernels.Images(), 0
        for name in channels:
            bits |= _CHANNELS[name][0]
            setattr(images, _CHANNELS[name][1], _image(name, (camera.height, camera.width)))
        wp.launch(
            kernels.draw_pixels,
            dim=(len(starts) - 1, kernels.TILE_PX**2),
            inputs=[view, pieces, starts, listed, rays, bits, images],
        )
        return {name: getattr(images, _CHANNELS[name][1]) for name in channels}

    def _uploaded(self, geometry: Geometry) -> tuple[kernels.GroundArrays, kernels.SolidArrays]:
        """Returns ground and solids on the device, uploaded unless they were drawn last."""
        if self._ground is None or self._ground[0] is not geometry.ground:
            self._ground = (geometry.ground, _ground_arrays(geometry.ground))
        if self._solids is None or self._solids[0] is not geometry.solids:
            self._solids = (geometry.solids, _solid_arrays(geometry.solids))
        return self._ground[1], self._solids[1]

    def _lens(self, camera: CameraModel) -> tuple[wp.array, wp.array]:
        """Returns rays by pixel and their bounds by tile, both empty for a pinhole."""
        if camera.distortion is None:
            return wp.empty((0, 0), dtype=wp.vec2f), wp.empty(0, dtype=wp.vec4d)
        intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
        key = (camera.width, camera.height, intrinsics, camera.distortion)
        if key not in self._lenses:
            if len(self._lenses) == _LENSES_KEPT:
                self._lenses.pop(next(iter(self._lenses)))
            rays = lens_grid(camera).rays
            bounds = wp.array(_tile_bounds(rays), dtype=wp.vec4d)
            self._lenses[key] = (wp.array(rays, dtype=wp.vec2f), bounds)
        return self._lenses[key]


def _view(geometry: Geometry, camera: CameraModel, px: float) -> kernels.View:
    """Returns what the kernels know about a camera."""
    map_from_camera = geometry.ego.map_from_ego() @ camera.ego_from_camera
    pinhole = (camera.fx, camera.fy, camera.cx, camera.cy)
    model = lens_family(camera.distortion)
    view = kernels.View()
    view.camera_from_map = kernels.Rigid(inverse(map_from_camera)[:3])
    view.eye = wp.vec3d(map_from_camera[:3, 3])
    view.pinhole = wp.vec4d(*pinhole)
    view.sampling = wp.vec4d(1.0, 1.0, 0.0, 0.0) if model else view.pinhole
    view.sides = kernels.Sides(_sides(geometry.ground, camera, px))
    view.px, view.model = px, model
    view.coeffs = kernels.Coefficients(lens_coefficients(camera.distortion))
    view.width, view.height = camera.width, camera.height
    view.columns = -(-camera.width // kernels.TILE_PX)
    return view


def _sides(ground: Ground, camera: CameraModel, px: float) -> FloatArray:
    """Returns the (4, 2) inward normals of the view's sides; see `warp_kernels.View`.

    They stand outside of the view by what the widest ribbon may be widened.
    """
    _, bounds, _ = camera_rays(camera)
    widened_px = 0.5 * px * float(ground.min_px.max(initial=0.0))
    margin_rad = max(SIDE_MARGIN_RAD, widened_px / min(camera.fx, camera.fy))
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    angles = np.arctan(bounds) - margin_rad * signs
    angles = np.clip(angles, -STEEPEST_RAD, STEEPEST_RAD)
    units: FloatArray = np.stack([signs * np.cos(angles), -signs * np.sin(angles)], axis=1)
    return units


def _pieces(
    view: kernels.View, ground: kernels.GroundArrays, solids: kernels.SolidArrays
) -> tuple[kernels.Pieces, int]:
    """Returns the pieces of everything in view, in drawing order, and how many there are."""
    faces, boxes = len(ground.faces), len(solids.codes)
    factors = wp.empty(len(ground.patches), dtype=wp.float64)
    wp.launch(kernels.cull_patches, dim=len(factors), inputs=[view, ground], outputs=[factors])
    counts = wp.zeros(faces + 6 * boxes + 1, dtype=wp.int32)
    starts = wp.empty_like(counts)

    def run(writing: bool, pieces: kernels.Pieces) -> None:
        after = [writing, counts, starts, pieces]
        wp.launch(kernels.ground_pieces, dim=faces, inputs=[view, ground, factors, *after])
        wp.launch(kernels.solid_pieces, dim=(boxes, 6), inputs=[view, solids, faces, *after])

    run(False, _new_pieces(0))
    count = _summed(counts, starts)
    pieces = _new_pieces(count)
    run(True, pieces)
    return pieces, count


def _new_pieces(count: int) -> kernels.Pieces:
    pieces = kernels.Pieces()
    pieces.looks = wp.empty(count, dtype=kernels.Look)
    pieces.bounds = wp.empty(count, dtype=wp.vec4d)
    pieces.edges = wp.empty((count, kernels.MAX_CORNERS), dtype=wp.vec4d)
    return pieces


def _lists(
    view: kernels.View, pieces: kernels.Pieces, count: int, ray_bounds: wp.array
) -> tuple[wp.array, wp.array]:
    """Returns where the list of each tile begins, (T + 1,), and the pieces of all tiles."""
    tiles = view.columns * -(-view.height // kernels.TILE_PX)
    counts = wp.zeros(tiles + 1, dtype=wp.int32)
    starts = wp.empty_like(counts)
    before = [view, pieces, count, ray_bounds]
    nothing = wp.empty(0, dtype=wp.int32)
    wp.launch(kernels.list_pieces, dim=tiles, inputs=[*before, False, counts, starts, nothing])
    listed = wp.empty(_summed(counts, starts), dtype=wp.int32)
    wp.launch(kernels.list_pieces, dim=tiles, inputs=[*before, True, counts, starts, listed])
    return starts, listed


def _summed(counts: wp.array, starts: wp.array) -> int:
    """Fills `starts` with the sums of the counts before each; returns the last."""
    wp.utils.array_scan(counts, starts, inclusive=False)
    return int(starts[len(starts) - 1 :].numpy()[0])


def _image(name: str, shape: tuple[int, int]) -> wp.array:
    dtype, trailing = CHANNELS[name]
    return wp.empty((*shape, *trailing), dtype=wp.dtype_from_numpy(dtype))


def _averaged(large: wp.array) -> wp.array:
    height, width, _ = large.shape
    small = _image("rgb", (height // 2, width // 2))
    wp.launch(kernels.average, dim=small.shape, inputs=[large], outputs=[small])
    return small


def _tile_bounds(rays: npt.NDArray[np.float32]) -> FloatArray:
    """Returns (T, 4) least and largest x, least and largest y of the rays of each tile.

    Args:
        rays: (H, W, 2), NaN where there is none; a tile without any gets an inverted range.
    """
    side = kernels.TILE_PX
    rows, columns = -(-rays.shape[0] // side), -(-rays.shape[1] // side)
    padded = np.full((rows * side, columns * side, 2), np.nan, np.float32)
    padded[: rays.shape[0], : rays.shape[1]] = rays
    tiles = padded.reshape(rows, side, columns, side, 2).swapaxes(1, 2).reshape(-1, side * side, 2)
    missing = np.isnan(tiles)
    least = np.where(missing, np.inf, tiles).min(axis=1)
    largest = np.where(missing, -np.inf, tiles).max(axis=1)
    bounds = [least[:, 0], largest[:, 0], least[:, 1], largest[:, 1]]
    return np.stack(bounds, axis=1).astype(np.float64)


def _ground_arrays(ground: Ground) -> kernels.GroundArrays:
    """Uploads the ground."""
    arrays = kernels.GroundArrays()
    for name in ("x_m", "y_m", "z_m", "min_px"):
        setattr(arrays, name, wp.array(getattr(ground, name), dtype=wp.float64))
    for name in ("layers", "filled", "codes", "fades"):
        setattr(arrays, name, wp.array(getattr(ground, name), dtype=wp.uint8))
    arrays.faces = wp.array(ground.faces, dtype=wp.vec4i)
    arrays.patches = wp.array(ground.patches, dtype=wp.vec4i)
    arrays.spheres_m = wp.array(ground.spheres_m, dtype=wp.vec4d)
    arrays.colors = wp.array(ground.colors, dtype=wp.vec3ub)
    sizes = ground.patches[:, 3] - ground.patches[:, 2]
    patch_of = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    arrays.patch_of = wp.array(patch_of, dtype=wp.int32)
    return arrays


def _solid_arrays(solids: Solids) -> kernels.SolidArrays:
    """Uploads boxes and lights."""
    arrays = kernels.SolidArrays()
    arrays.centers_m = wp.array(solids.centers_m, dtype=wp.vec3d)
    arrays.halves_m = wp.array(solids.halves_m, dtype=wp.vec3d)
    arrays.headings = wp.array(solids.headings, dtype=wp.vec2d)
    arrays.codes = wp.array(solids.codes, dtype=wp.uint8)
    arrays.instances = wp.array(solids.instances, dtype=wp.int32)
    arrays.colors = wp.array(solids.colors, dtype=wp.vec3ub)
    arrays.fades = wp.array(solids.fades, dtype=wp.uint8)
    return arrays
