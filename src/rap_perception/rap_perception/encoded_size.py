"""The size of a JPEG or PNG image as its header says, without decoding it.

Decoders make room for all that a header promises, and a damaged one may promise gigabytes.
Sources: ITU-T T.81, annex B; W3C PNG specification, section 11.2.2.
"""

from __future__ import annotations

import struct

JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame, of any kind of JPEG; the others are tables."""

_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD8), 0xFF})
"""Stuffing, markers without content, and fill: what follows is looked for at the next byte."""


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """Returns width and height in pixels, or None where there is no header of a JPEG or PNG."""
    try:
        if data.startswith(PNG_START):
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        return _jpeg_size(data) if data.startswith(JPEG_START) else None
    except (struct.error, IndexError):  # it ends before
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walks from marker to marker, over garbage between them as libjpeg does."""
    at = len(JPEG_START)
    while (at := data.find(b"\xff", at)) >= 0:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker in _BARE:
            at += 1
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
