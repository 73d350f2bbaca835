"""Light and camera settings of a simulated picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray


@dataclass(frozen=True, slots=True)
class Daylight:
    """The day a picture is taken, and the camera that takes it.

    Attributes:
        sun: (3,) unit vector towards the sun, map frame.
        overcast: 0 (clear, hard shadows) to 1 (grey, none).
        exposure: Brightness relative to what the exposure control aims at: its error.
        warmth: Red over blue of the white balance, around 1.
        noise: Noise of the sensor, in standard deviations of a good one.
        defocus_px: Standard deviation of the blur of the lens, in pixels.
        shake_px: Longest blur by vibration, in pixels.
        vignetting: Share of light that the corners of the picture lose.
        jpeg_quality: 1 to 100, see `rap_evaluation.photo.sensor.camera_jpeg`.
        clouds: Picks the clouds.
    """

    sun: FloatArray
    overcast: float
    exposure: float
    warmth: float
    noise: float
    defocus_px: float
    shake_px: float
    vignetting: float
    jpeg_quality: int
    clouds: int

    @classmethod
    def from_seed(cls, seed: int) -> Daylight:
        """Draws the light of some day and the quality of some camera."""
        rng = np.random.default_rng(seed)
        azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.2)
        flat = np.cos(elevation)
        return cls(
            sun=np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)]),
            overcast=float(rng.uniform(0.0, 1.0) ** 1.5),
            exposure=float(np.exp(rng.normal(0.0, 0.12))),
            warmth=float(rng.uniform(0.93, 1.07)),
            noise=float(rng.uniform(0.5, 2.0)),
            defocus_px=float(rng.uniform(0.3, 0.6)),
            shake_px=float(rng.uniform(0.0, 1.5)),
            vignetting=float(rng.uniform(0.1, 0.35)),
            jpeg_quality=int(rng.integers(70, 95)),
            clouds=int(rng.integers(2**16)),
        )
