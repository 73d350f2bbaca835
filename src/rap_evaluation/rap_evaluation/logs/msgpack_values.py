"""Plain values from msgpack, as py123d packs its metadata and map features; see `packed`.

Source: msgpack specification. Extension types are not read: py123d has none.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

Value = Any
"""Anything that msgpack holds: None, truth, number, text, bytes, list, dictionary, array."""

_MAX_DEPTH = 16
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_LENGTHS = {
    0xC4: (">B", "bytes"), 0xC5: (">H", "bytes"), 0xC6: (">I", "bytes"),
    0xD9: (">B", "text"), 0xDA: (">H", "text"), 0xDB: (">I", "text"),
    0xDC: (">H", "array"), 0xDD: (">I", "array"), 0xDE: (">H", "map"), 0xDF: (">I", "map"),
}  # fmt: skip
_SINGLES = {0xC0: None, 0xC2: False, 0xC3: True}


def unpacked(data: bytes) -> Value:
    """Decodes one value; dictionaries that hold a numpy array become the array.

    Raises:
        ValueError: If the bytes are no such value, or there are more of them.
    """
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except (struct.error, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"byte {reader.place}: not msgpack: {error}") from error
    if reader.place != len(data):
        raise ValueError(f"byte {reader.place}: {len(data) - reader.place} bytes too many")
    return value


class _Reader:
    """A place in packed bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def value(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise ValueError(f"byte {self.place}: nested deeper than {_MAX_DEPTH}")
        code = self._number(">B")
        if code <= 0x7F or code >= 0xE0:
            return code if code <= 0x7F else code - 0x100
        if code in _SINGLES:
            return _SINGLES[code]
        if code in _NUMBERS:
            return self._number(_NUMBERS[code])
        if code <= 0xBF:  # Small maps, arrays and texts have their length in the code.
            kind = "map" if code <= 0x8F else "array" if code <= 0x9F else "text"
            return self._block(kind, code & (0x1F if kind == "text" else 0x0F), depth)
        layout, kind = _LENGTHS[code]
        return self._block(kind, self._number(layout), depth)

    def _number(self, layout: str) -> Value:
        (number,) = struct.unpack_from(layout, self.data, self.place)
        self.place += struct.calcsize(layout)
        return number

    def _block(self, kind: str, length: int, depth: int) -> Value:
        if length > len(self.data) - self.place:
            raise ValueError(f"byte {self.place}: {kind} of {length} goes beyond the end")
        if kind == "array":
            return [self.value(depth + 1) for _ in range(length)]
        if kind == "map":
            return _array_or_map({self.value(depth + 1): self.value(depth + 1)
                                  for _ in range(length)})  # fmt: skip
        content = self.data[self.place : self.place + length]
        self.place += length
        return content.decode() if kind == "text" else content


def _array_or_map(items: dict[Value, Value]) -> Value:
    """Returns the numpy array that py123d packs as a map of these four, or the map itself.

    Source: py123d 0.7, `common/utils/msgpack_utils.py`.
    """
    if b"__ndarray__" not in items:
        return items
    flat = np.frombuffer(items[b"data"], dtype=np.dtype(items[b"dtype"]))
    return flat.reshape(items[b"shape"])
