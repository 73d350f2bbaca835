"""Plain values in msgpack, as py123d packs its metadata and map features."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

Value = Any
"""Anything that msgpack holds: None, truth, number, text, bytes, list, dictionary, array."""


def packed(value: Value) -> bytes:
    """Encodes plain values."""
    data: bytes = msgpack.packb(value)
    return data


def unpacked(data: bytes) -> Value:
    """Decodes one value; dictionaries that hold a numpy array become the array.

    Raises:
        ValueError: If the bytes are no such value, or there are more of them.
    """
    try:
        return msgpack.unpackb(data, object_hook=_array_or_map, strict_map_key=False)
    except (ValueError, TypeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"not msgpack: {reason}") from error


def _array_or_map(items: dict[Value, Value]) -> Value:
    """Returns the numpy array that py123d packs as a map of these four, or the map itself.

    Source: py123d 0.7, `common/utils/msgpack_utils.py`.
    """
    if b"__ndarray__" not in items:
        return items
    flat = np.frombuffer(items[b"data"], dtype=np.dtype(items[b"dtype"]))
    return flat.reshape(items[b"shape"])
