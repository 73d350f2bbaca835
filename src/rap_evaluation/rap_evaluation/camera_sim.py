"""A camera simulator: scenes as a photo-like image, pixel by pixel on the rasterizer's geometry.

Deferred shading: the rasterizer says what every pixel shows and how far away it is, and this module
decides how that would look to a camera: textured asphalt, paint, grass, sky, car bodies with
windows, wheels and lamps, sun and shadow, haze, exposure and sensor noise. It is a second domain
with the same geometry, for tests and alignment; it does not claim to be photo-realistic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_evaluation.shading import shade
from rap_raster.camera import CameraModel
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import Scene
from rap_raster.styles import load_style


@dataclass(frozen=True, slots=True)
class Daylight:
    """Light and camera settings of one picture.

    Attributes:
        sun: (3,) unit vector towards the sun, map frame.
        overcast: 0 (clear, hard shadows) to 1 (grey, none).
        gain: Exposure relative to a well-exposed image.
        warmth: Red over blue of the white balance, around 1.
        noise: Standard deviation of the sensor noise, in grey levels.
    """

    sun: npt.NDArray[np.float64]
    overcast: float
    gain: float
    warmth: float
    noise: float

    @classmethod
    def from_seed(cls, seed: int) -> Daylight:
        """Draws the light of some day."""
        rng = np.random.default_rng(seed)
        azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.2)
        horizontal = np.cos(elevation)
        return cls(
            sun=np.array(
                [horizontal * np.cos(azimuth), horizontal * np.sin(azimuth), np.sin(elevation)]
            ),
            overcast=float(rng.uniform(0.0, 1.0)),
            gain=float(rng.uniform(0.75, 1.25)),
            warmth=float(rng.uniform(0.92, 1.08)),
            noise=float(rng.uniform(1.0, 5.0)),
        )


def simulate_camera(
    scene: Scene, camera: CameraModel, *, seed: int, frame: int = 0
) -> npt.NDArray[np.uint8]:
    """Draws what a camera would see.

    Args:
        scene: Any scene; shapes without a colour of their own (centrelines, routes) show asphalt.
        camera: A pinhole camera.
        seed: Decides light, exposure and noise; the same seed gives the same bytes.
        frame: Number of the picture in a sequence under one light: only the noise differs.

    Returns:
        (H, W, 3) uint8 rgb.

    Raises:
        ValueError: If the camera has a lens model.
    """
    if camera.distortion is not None:
        raise ValueError(f"camera {camera.name}: the simulator draws pinhole cameras only")
    geometry = build_geometry(scene, load_style("semantic"))
    channels = render(geometry, camera, ("class", "instance", "depth"))
    day = Daylight.from_seed(seed)
    out = np.empty((camera.height, camera.width, 3), np.uint8)
    order = np.argsort(scene.boxes.ids)
    ego = scene.ego
    shade(
        channels["class"],
        channels["instance"],
        channels["depth"],
        np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
        scene.ego.map_from_ego() @ camera.ego_from_camera,
        scene.boxes.ids[order],
        np.concatenate(
            [
                scene.boxes.centers_m[order],
                scene.boxes.sizes_m[order],
                np.cos(scene.boxes.yaws_rad[order, None]),
                np.sin(scene.boxes.yaws_rad[order, None]),
            ],
            axis=1,
        ),
        np.array([ego.x_m, ego.y_m, ego.z_m]),
        np.array([*day.sun, day.overcast, day.gain, day.warmth, day.noise]),
        np.uint32((seed + 7919 * frame) & 0xFFFFFFFF),
        out,
    )
    return out
