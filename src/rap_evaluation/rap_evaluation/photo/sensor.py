"""From light to a picture: lens blur, exposure, noise, tone curve, JPEG."""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from rap_evaluation.photo.daylight import Daylight
from rap_raster.compiled import kernel

MIDDLE_GREY = 0.22
"""Light that the exposure control makes the mean of a picture, 1 being the whitest the sensor sees;
photographers' 18 % grey, a little more because a third of a road picture is sky."""

EXPOSURE_RANGE = (0.5, 1.5)
"""How far the exposure control can go."""

GAMMA = 2.2
"""Of the tone curve, as screens expect it (IEC 61966-2-1 without its linear foot)."""

SHOT_NOISE, READ_NOISE = 0.012, 0.004
"""Standard deviation of the noise at full light and at none, of a good sensor by day."""

BRIGHTEST = 2.0
"""Light that is pure white: highlights roll off as on film, instead of clipping at 1."""

_LEVELS = 4096
_LIGHTS = np.linspace(0.0, BRIGHTEST, _LEVELS)
_TONES = np.rint(255.0 * (1.0 - np.exp(-1.6 * _LIGHTS)) ** (1.0 / GAMMA)).astype(np.uint8)
"""Grey level by light from 0 to `BRIGHTEST`."""

Image = npt.NDArray[np.uint8]
Light = npt.NDArray[np.float32]
UInt32 = npt.NDArray[np.uint32]


def develop(light: Light, day: Daylight, rng: np.random.Generator) -> Image:
    """Takes the picture of an image of light.

    Args:
        light: (H, W, 3) linear rgb.
        day: Exposure, white balance, blur and noise.
        rng: Draws the noise and the vibration.

    Returns:
        (H, W, 3) uint8 rgb.
    """
    blurred = np.asarray(
        cv2.filter2D(light, -1, _blur(day, rng), borderType=cv2.BORDER_REPLICATE), np.float32
    )
    least, most = EXPOSURE_RANGE
    gain = min(max(MIDDLE_GREY / max(float(light.mean()), 1e-6), least), most) * day.exposure
    balance = math.sqrt(day.warmth)
    grain = rng.integers(0, 2**32, light.shape, np.uint32)
    picture = np.empty(light.shape, np.uint8)
    gains = (gain * balance, gain, gain / balance)
    _expose(blurred, grain, gains, day.vignetting, day.noise, _TONES, picture)
    return picture


@kernel
def _expose(
    light: Light, grain: UInt32, gains: tuple[float, float, float], vignetting: float,
    noise: float, tones: Image, levels: Image,
) -> None:  # fmt: skip
    """Writes grey levels: light that falls off towards the corners, gain, noise, tone curve."""
    shot, read = (noise * SHOT_NOISE) ** 2, (noise * READ_NOISE) ** 2
    rows, columns, _ = light.shape
    for j in range(rows):
        y = 2.0 * j / rows - 1.0
        for i in range(columns):
            x = 2.0 * i / columns - 1.0
            arriving = 1.0 - 0.5 * vignetting * (x * x + y * y)
            for channel in range(3):
                clean = light[j, i, channel] * arriving * gains[channel]
                # The sum of four random bytes is nearly normal, and cheap.
                bits = grain[j, i, channel]
                total = (bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24)
                unit = (np.float64(total) - 510.0) / 147.8
                noisy = clean + unit * math.sqrt(shot * clean + read)
                step = min(BRIGHTEST, max(0.0, noisy)) * ((_LEVELS - 1) / BRIGHTEST)
                levels[j, i, channel] = tones[int(step + 0.5)]


def camera_jpeg(picture: Image, quality: int) -> bytes:
    """Compresses a picture as cameras do.

    Args:
        picture: (H, W, 3) uint8 rgb.
        quality: 1 to 100; see `Daylight.jpeg_quality`.

    Raises:
        ValueError: If the picture cannot be compressed.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, encoded = cv2.imencode(".jpg", picture[..., ::-1], options)
    if not done:
        raise ValueError(f"OpenCV cannot encode a picture of shape {picture.shape} as JPEG")
    return encoded.tobytes()


def _blur(day: Daylight, rng: np.random.Generator) -> Light:
    """Returns the (5, 5) point spread: out of focus, and shaken along a short line."""
    length_px, angle = day.shake_px * rng.uniform(), rng.uniform(0.0, math.pi)
    x, y = np.meshgrid(*[np.arange(-2.0, 3.0)] * 2)
    along = np.linspace(-0.5, 0.5, 7)[:, None, None] * length_px
    dx, dy = x - along * math.cos(angle), y - along * math.sin(angle)
    spread = np.exp(-(dx * dx + dy * dy) / (2.0 * day.defocus_px**2)).sum(axis=0)
    return np.asarray(spread / spread.sum(), np.float32)
