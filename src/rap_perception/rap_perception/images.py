"""Decoding of image messages: raw pixels and JPEG or PNG, always to rgb8.

OpenCV does the work; cv_bridge is not used because it breaks with numpy 2.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

RAW_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}
"""`sensor_msgs/Image` encodings: bytes per pixel and the conversion to rgb8."""

MAX_PIXELS = 1 << 26
"""64 megapixels: larger headers come from damaged data, not from cameras."""

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"

MAX_PADDING = 1024
"""Some cameras pad JPEG buffers; the end marker is looked for in this many last bytes."""

_REDUCED_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

REDUCTIONS = tuple(sorted(_REDUCED_FLAGS))
"""Factors by which an image can be shrunk while it is decoded (JPEG's own scaled transforms)."""


class ImageError(ValueError):
    """An image that cannot be used; the text says what was wrong with it."""


def decode_raw(
    data: npt.NDArray[np.uint8], encoding: str, width: int, height: int, step: int
) -> Image:
    """Decodes the pixels of a `sensor_msgs/Image`.

    Args:
        data: (n,) bytes.
        encoding: One of `RAW_ENCODINGS`.
        width: Pixels.
        height: Pixels.
        step: Bytes per row, padding included.

    Returns:
        (H, W, 3) rgb; a view of `data` where no conversion is needed.

    Raises:
        ImageError: If the encoding is unknown or the sizes do not fit together.
    """
    if encoding not in RAW_ENCODINGS:
        raise ImageError(f"encoding {encoding!r} is unknown, expected one of {_known()}")
    channels, conversion = RAW_ENCODINGS[encoding]
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise ImageError(f"size is {width}x{height} pixels, expected 1 to {MAX_PIXELS} in all")
    if step < width * channels or len(data) < step * height:
        raise ImageError(
            f"{len(data)} bytes with step {step} are too few for {width}x{height} {encoding}"
        )
    rows = data[: step * height].reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)
    if conversion is None:
        return pixels
    converted: Image = cv2.cvtColor(np.ascontiguousarray(pixels), conversion)  # type: ignore[assignment]
    return converted


def _known() -> str:
    return ", ".join(RAW_ENCODINGS)


def decode_compressed(data: npt.NDArray[np.uint8], reduction: int = 1) -> Image:
    """Decodes JPEG or PNG bytes, shrunk by `reduction` on the way.

    Args:
        data: (n,) bytes.
        reduction: One of `REDUCTIONS`.

    Returns:
        (ceil(H / reduction), ceil(W / reduction), 3) rgb. Orientation tags are ignored: the
        calibration belongs to the sensor's rows and columns.

    Raises:
        ImageError: If the bytes are not an image, or are a JPEG that is cut off.
    """
    if len(data) == 0:
        raise ImageError("compressed image is empty")
    _check_jpeg_end(data)
    flags = _REDUCED_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise ImageError(f"compressed image: {' '.join(str(error).split())}") from error
    if bgr is None:
        start = bytes(data[:4]).hex()
        raise ImageError(
            f"{len(data)} compressed bytes starting with {start} are neither JPEG nor PNG"
        )
    return np.ascontiguousarray(bgr[:, :, ::-1], dtype=np.uint8)


def _check_jpeg_end(data: npt.NDArray[np.uint8]) -> None:
    """Raises ImageError for a JPEG without its end, which decoders fill up with grey."""
    is_jpeg = data[:2].tobytes() == JPEG_START
    if is_jpeg and JPEG_END not in data[-MAX_PADDING:].tobytes():
        raise ImageError(f"compressed image: the JPEG is cut off after {len(data)} bytes")


def reduce_image(image: Image, reduction: int) -> Image:
    """Shrinks an image by a whole factor, averaging; rows and columns left over are dropped."""
    if reduction == 1:
        return image
    height, width = image.shape[0] // reduction, image.shape[1] // reduction
    whole = image[: height * reduction, : width * reduction]
    reduced: Image = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return reduced
