from __future__ import annotations

import contextlib
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rap_perception.encoded_size import encoded_size
from rap_perception.images import ImageError, decode_compressed, decode_raw, reduce_image

RED, GREEN, BLUE = 250, 120, 10


def raw_bytes(pixel: list[int], width: int, height: int, padding: int) -> np.ndarray:
    rows = np.tile(np.array(pixel, np.uint8), (height, width))
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=77).reshape(-1)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [
        ("rgb8", [RED, GREEN, BLUE]),
        ("bgr8", [BLUE, GREEN, RED]),
        ("rgba8", [RED, GREEN, BLUE, 9]),
        ("bgra8", [BLUE, GREEN, RED, 9]),
        ("8UC3", [BLUE, GREEN, RED]),
        ("8UC4", [BLUE, GREEN, RED, 9]),
    ],
)
def test_every_encoding_gives_the_same_rgb_and_honours_the_row_step(encoding, pixel, padding):
    data = raw_bytes(pixel, 6, 4, padding)
    image = decode_raw(data, encoding, 6, 4, 6 * len(pixel) + padding)
    assert image.shape == (4, 6, 3)
    assert (image == [RED, GREEN, BLUE]).all()


def test_mono_becomes_grey():
    image = decode_raw(raw_bytes([99], 6, 4, 2), "mono8", 6, 4, 8)
    assert (image == 99).all()


@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize(
    ("encoding", "samples"),
    [("rgb16", [RED, GREEN, BLUE]), ("bgra16", [BLUE, GREEN, RED, 9])],
)
def test_of_16_bits_the_upper_8_are_used_in_either_byte_order(encoding, samples, is_bigendian):
    """The lower byte is noise that must not matter."""
    values = np.array([256 * sample + 77 for sample in samples], ">u2" if is_bigendian else "<u2")
    data = raw_bytes(list(values.tobytes()), 6, 4, 3)
    step = 6 * 2 * len(samples) + 3
    image = decode_raw(data, encoding, 6, 4, step, is_bigendian=is_bigendian)
    assert (image == [RED, GREEN, BLUE]).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_mosaic_becomes_the_colour_it_was_made_from(pattern, bits):
    """The name of a pattern spells its first two rows."""
    colour = {"r": RED, "g": GREEN, "b": BLUE}
    cell = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(cell, (4, 5))
    rows = mosaic.astype("<u2") * 256 if bits == 16 else mosaic
    data = np.frombuffer(rows.tobytes(), np.uint8)
    image = decode_raw(data, f"bayer_{pattern}{bits}", 10, 8, 10 * bits // 8)
    assert (image[2:-2, 2:-2] == [RED, GREEN, BLUE]).all()


def yuv_of(rgb: np.ndarray) -> tuple[float, float, float]:
    """BT.601 with limited range, as cameras and OpenCV use it."""
    red, green, blue = rgb.astype(float)
    luma = 16 + 0.257 * red + 0.504 * green + 0.098 * blue
    blueness = 128 - 0.148 * red - 0.291 * green + 0.439 * blue
    redness = 128 + 0.439 * red - 0.368 * green - 0.071 * blue
    return luma, blueness, redness


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv12", "nv21"])
def test_video_encodings_give_the_colour_back(encoding, padding):
    width, height, colour = 8, 4, np.array([200, 90, 40])
    y, u, v = (round(value) for value in yuv_of(colour))
    if encoding in ("nv12", "nv21"):
        chroma = [u, v] if encoding == "nv12" else [v, u]
        rows = np.concatenate([np.full((height, width), y), np.tile(chroma, (height // 2, 4))])
    else:
        group = [u, y, v, y] if encoding in ("uyvy", "yuv422") else [y, u, y, v]
        rows = np.tile(group, (height, width // 2))
    table = np.pad(rows.astype(np.uint8), ((0, 0), (0, padding)), constant_values=3)
    image = decode_raw(table.reshape(-1), encoding, width, height, table.shape[1])
    assert image.shape == (height, width, 3)
    assert np.abs(image.astype(int) - colour).max() <= 3


def test_raw_rgb_is_a_view_not_a_copy():
    data = raw_bytes([1, 2, 3], 6, 4, 0)
    assert np.shares_memory(decode_raw(data, "rgb8", 6, 4, 18), data)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("32FC1", 2, 2, 12), "encoding '32FC1' is unknown, expected one of rgb8, bgr8"),
        (("16UC1", 2, 2, 12), "encoding '16UC1' is unknown"),
        (("mono16", 8, 2, 12), "24 bytes with step 12 are too few for 8x2 mono16"),
        (("uyvy", 3, 2, 12), "size is 3x2 pixels, uyvy expects even numbers"),
        (("nv12", 4, 3, 4), "size is 4x3 pixels, nv12 expects even numbers"),
        (("nv21", 4, 4, 8), "24 bytes with step 8 are too few for 4x4 nv21"),
        (("rgb8", 4, 3, 12), "24 bytes with step 12 are too few for 4x3 rgb8"),
        (("rgb8", 4, 2, 11), "24 bytes with step 11 are too few for 4x2 rgb8"),
        (("rgb8", 0, 2, 12), "size is 0x2 pixels"),
        (("rgb8", 2**31, 2**31, 12), "size is 2147483648x2147483648 pixels"),
    ],
)
def test_bad_raw_image_is_refused_with_encoding_and_size(arguments, expected):
    with pytest.raises(ImageError, match=expected.replace("(", r"\(")):
        decode_raw(np.zeros(24, np.uint8), *arguments)


def smooth_image(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_compressed_image_is_decoded_at_the_reduced_size_in_rgb_order(suffix, reduction):
    image = smooth_image(160, 80)
    _, data = cv2.imencode(suffix, image[:, :, ::-1])
    decoded = decode_compressed(data.reshape(-1), reduction)
    assert decoded.shape == (80 // reduction, 160 // reduction, 3)
    difference = decoded.astype(int) - reduce_image(image, reduction)
    assert np.abs(difference).mean() < 3.0


def test_reduction_averages_so_that_thin_lines_do_not_vanish():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 3] = 200
    assert (reduce_image(image, 4)[:, 0] == 50).all()


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0garbage", b"RIFF....", b"\0" * 100])
def test_bytes_that_are_no_image_are_refused(data):
    with pytest.raises(ImageError, match="compressed"):
        decode_compressed(np.frombuffer(data, np.uint8))


@given(st.binary(max_size=200), st.sampled_from([1, 2, 4, 8]))
def test_no_bytes_do_anything_but_decode_or_raise_image_error(tail, reduction):
    _, jpeg = cv2.imencode(".jpg", smooth_image(16, 16))
    data = np.concatenate([jpeg.reshape(-1)[:150], np.frombuffer(tail, np.uint8)])
    with contextlib.suppress(ImageError):
        assert decode_compressed(data, reduction).ndim == 3


def test_a_jpeg_that_is_cut_off_is_refused_although_a_decoder_would_fill_it_with_grey():
    _, jpeg = cv2.imencode(".jpg", smooth_image(160, 80))
    data = jpeg.reshape(-1)
    padded = np.concatenate([data, np.zeros(300, np.uint8)])
    assert decode_compressed(padded).shape == (80, 160, 3)
    with pytest.raises(ImageError, match="compressed image: the JPEG is cut off after"):
        decode_compressed(data[:-100])


def encoded(suffix: str, *settings: int) -> bytes:
    _, data = cv2.imencode(suffix, smooth_image(160, 80), settings)
    return data.tobytes()


JPEG = encoded(".jpg")
FRAME = b"\xff\xc0\x00\x11\x08\x01\x00\x02\x00"


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        JPEG[:2] + b"\xff\xff" + JPEG[2:],
        JPEG[:20] + b"garbage" + JPEG[20:],
        JPEG[:2] + b"\xff\xfe\x00\x0b" + FRAME + JPEG[2:],
        encoded(".png"),
    ],
    ids=["jpeg", "progressive", "restarts", "fill", "garbage", "size in a comment", "png"],
)
def test_the_size_in_the_header_is_that_of_the_image(data):
    assert encoded_size(data) == (160, 80)
    assert decode_compressed(np.frombuffer(data, np.uint8)).shape == (80, 160, 3)


@given(st.binary(max_size=100), st.sampled_from([b"", JPEG[:2], JPEG[:20], encoded(".png")[:8]]))
def test_no_bytes_make_the_header_reader_fail(tail, start):
    size = encoded_size(start + tail)
    assert size is None or all(0 <= number < 1 << 32 for number in size)


@pytest.mark.parametrize(
    ("data", "real", "promised"),
    [
        (JPEG, struct.pack(">HH", 80, 160), struct.pack(">HH", 8000, 9000)),
        (encoded(".png"), struct.pack(">II", 160, 80), struct.pack(">II", 9000, 8000)),
    ],
    ids=["jpeg", "png"],
)
def test_an_encoded_image_that_promises_too_much_is_refused_before_room_is_made(
    data, real, promised, monkeypatch
):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    damaged = np.frombuffer(data.replace(real, promised, 1), np.uint8)
    with pytest.raises(ImageError, match="size is 9000x8000 pixels, expected 1 to 67108864"):
        decode_compressed(damaged)
