"""Decoding of image messages: raw pixels and JPEG or PNG, always to rgb8.

OpenCV does the work; cv_bridge is not used because it breaks with numpy 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from rap_perception.encoded_size import JPEG_START, encoded_size

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RawEncoding:
    """How the bytes of a `sensor_msgs/Image` become rgb8.

    Attributes:
        channels: Samples per pixel in a row.
        conversion: OpenCV's code, or None for what is rgb already.
        sample_bytes: 2 for 16 bits per sample, of which the upper 8 are used.
        chroma_rows: True if half as many rows of colour follow the rows of the image (4:2:0).
        even: True if width (and height where `chroma_rows`) must be even.
    """

    channels: int
    conversion: int | None
    sample_bytes: int = 1
    chroma_rows: bool = False
    even: bool = False


_EIGHT_BITS = {
    "rgb8": RawEncoding(3, None),
    "bgr8": RawEncoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": RawEncoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": RawEncoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": RawEncoding(1, cv2.COLOR_GRAY2RGB),
    # OpenCV names Bayer patterns by the second row and column.
    "bayer_rggb8": RawEncoding(1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": RawEncoding(1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": RawEncoding(1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": RawEncoding(1, cv2.COLOR_BayerGB2RGB),
}

RAW_ENCODINGS: dict[str, RawEncoding] = {
    **_EIGHT_BITS,
    **{
        f"{name[:-1]}16": RawEncoding(entry.channels, entry.conversion, sample_bytes=2)
        for name, entry in _EIGHT_BITS.items()
    },
    # Untyped images carry colours in OpenCV's order.
    "8UC1": _EIGHT_BITS["mono8"],
    "8UC3": _EIGHT_BITS["bgr8"],
    "8UC4": _EIGHT_BITS["bgra8"],
    "uyvy": RawEncoding(2, cv2.COLOR_YUV2RGB_UYVY, even=True),
    "yuv422": RawEncoding(2, cv2.COLOR_YUV2RGB_UYVY, even=True),
    "yuyv": RawEncoding(2, cv2.COLOR_YUV2RGB_YUY2, even=True),
    "yuv422_yuy2": RawEncoding(2, cv2.COLOR_YUV2RGB_YUY2, even=True),
    "nv12": RawEncoding(1, cv2.COLOR_YUV2RGB_NV12, chroma_rows=True, even=True),
    "nv21": RawEncoding(1, cv2.COLOR_YUV2RGB_NV21, chroma_rows=True, even=True),
}
"""Encodings of `sensor_msgs/image_encodings.hpp` that are pictures, and nv12, which drivers use."""

MAX_PIXELS = 1 << 26
"""64 megapixels: larger headers come from damaged data, not from cameras."""

JPEG_END = b"\xff\xd9"

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
    data: npt.NDArray[np.uint8],
    encoding: str,
    width: int,
    height: int,
    step: int,
    *,
    is_bigendian: bool = False,
) -> Image:
    """Decodes the pixels of a `sensor_msgs/Image`.

    Args:
        data: (n,) bytes.
        encoding: One of `RAW_ENCODINGS`.
        width: Pixels.
        height: Pixels.
        step: Bytes per row, padding included.
        is_bigendian: Order of the bytes of 16-bit samples.

    Returns:
        (H, W, 3) rgb; a view of `data` where no conversion is needed.

    Raises:
        ImageError: If the encoding is unknown or the sizes do not fit together.
    """
    layout = RAW_ENCODINGS.get(encoding)
    if layout is None:
        known = ", ".join(RAW_ENCODINGS)
        raise ImageError(f"encoding {encoding!r} is unknown, expected one of {known}")
    _check_size(width, height)
    if layout.even and (width % 2 or (layout.chroma_rows and height % 2)):
        raise ImageError(f"size is {width}x{height} pixels, {encoding} expects even numbers")
    rows = height * 3 // 2 if layout.chroma_rows else height
    row_bytes = width * layout.channels * layout.sample_bytes
    if step < row_bytes or len(data) < step * rows:
        raise ImageError(
            f"{len(data)} bytes with step {step} are too few for {width}x{height} {encoding}"
        )
    table = data[: step * rows].reshape(rows, step)[:, :row_bytes]
    if layout.sample_bytes == 2:
        table = table[:, 0 if is_bigendian else 1 :: 2]
    pixels = table.reshape(rows, width, layout.channels)
    if layout.conversion is None:
        return pixels
    converted: Image = cv2.cvtColor(np.ascontiguousarray(pixels), layout.conversion)  # type: ignore[assignment]
    return converted


def decode_compressed(data: npt.NDArray[np.uint8], reduction: int = 1) -> Image:
    """Decodes JPEG or PNG bytes, shrunk by `reduction` on the way.

    Args:
        data: (n,) bytes.
        reduction: One of `REDUCTIONS`.

    Returns:
        (ceil(H / reduction), ceil(W / reduction), 3) rgb. Orientation tags are ignored: the
        calibration belongs to the sensor's rows and columns.

    Raises:
        ImageError: If the bytes are not an image or one that is too large, or are a JPEG that is
            cut off.
    """
    if len(data) == 0:
        raise ImageError("compressed image is empty")
    _check_jpeg_end(data)
    size = encoded_size(data.tobytes())
    if size is None:
        raise _not_an_image(data)
    _check_size(*size)
    flags = _REDUCED_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise ImageError(f"compressed image: {' '.join(str(error).split())}") from error
    if bgr is None:
        raise _not_an_image(data)
    return np.ascontiguousarray(bgr[:, :, ::-1], dtype=np.uint8)


def _not_an_image(data: npt.NDArray[np.uint8]) -> ImageError:
    start = bytes(data[:4]).hex()
    return ImageError(
        f"{len(data)} compressed bytes starting with {start} are neither JPEG nor PNG"
    )


def _check_size(width: int, height: int) -> None:
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise ImageError(f"size is {width}x{height} pixels, expected 1 to {MAX_PIXELS} in all")


def _check_jpeg_end(data: npt.NDArray[np.uint8]) -> None:
    """Raises ImageError for a JPEG without its end, which decoders fill up with grey."""
    is_jpeg = data[:2].tobytes() == JPEG_START
    if is_jpeg and JPEG_END not in data[-MAX_PADDING:].tobytes():
        raise ImageError(f"compressed image: the JPEG is cut off after {len(data)} bytes")


def reduce_image(image: Image, reduction: int) -> Image:
    """Shrinks an image by a power of two, averaging; rows and columns left over are dropped."""
    height, width = image.shape[0] // reduction, image.shape[1] // reduction
    reduced = image[: height * reduction, : width * reduction]
    while reduced.shape[0] > height:  # halving twice costs about a third of one step by four
        size = (reduced.shape[1] // 2, reduced.shape[0] // 2)
        reduced = cv2.resize(reduced, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return reduced
