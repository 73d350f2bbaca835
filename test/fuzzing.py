"""What all fuzz targets share: how many inputs each gets, and how input is damaged.

RAP_FUZZ_EXAMPLES is the number for all targets together: 2,000 fixed ones in `make test`, 100,000
in `make fuzz`.
"""

from __future__ import annotations

import math
import os
from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TARGETS = 23
"""Eight kinds of files (bags get a sixth of an equal share), eleven messages of the graph, and four
object messages and the route of other stacks."""

TOTAL = int(os.environ.get("RAP_FUZZ_EXAMPLES", "2000"))

fuzzed = settings(
    max_examples=TOTAL // TARGETS,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

ODD_FLOATS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-300, 1e30, 1e300)
WORDS = ("", "odom", "base_link", "map ", "ü", "a" * 300)


class StandIn(SimpleNamespace):
    """A message whose package is not installed, as far as it is read: messages, lists, int64."""

    def get_fields_and_field_types(self) -> dict[str, str]:
        """As messages have it, for `break_message`."""
        return dict.fromkeys(vars(self), "int64")


@st.composite
def damaged(draw, original: bytes) -> bytes:
    """The original with some bytes changed, and perhaps cut short."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 5))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


def break_message(draw: Any, message: Any) -> None:
    """Changes one field of a ROS message, or of one inside it, to any value its type allows."""
    name, kind = draw(st.sampled_from(sorted(message.get_fields_and_field_types().items())))
    value = getattr(message, name)
    if hasattr(value, "get_fields_and_field_types"):
        break_message(draw, value)
    elif isinstance(value, array | np.ndarray | list):
        _break_sequence(draw, message, name, value)
    else:
        setattr(message, name, draw(_any_value(kind)))


def _break_sequence(draw: Any, message: Any, name: str, value: Any) -> None:
    how = draw(st.sampled_from(("shorter", "longer", "odd")))
    if len(value) == 0 or (isinstance(value, np.ndarray) and how != "odd"):
        return  # Lengths of fixed arrays cannot be wrong.
    index = draw(st.integers(0, len(value) - 1))
    if how == "shorter":
        setattr(message, name, value[:index])
    elif how == "longer":
        setattr(message, name, value + value[index:])
    elif hasattr(value[index], "get_fields_and_field_types"):
        break_message(draw, value[index])
    elif isinstance(value, list):
        value[index] = draw(st.sampled_from(WORDS))
    else:
        code = value.typecode if isinstance(value, array) else value.dtype.char
        value[index] = draw(_any_number(code))


def _any_number(code: str) -> st.SearchStrategy:
    if code in "fd":
        largest = float(np.finfo(np.dtype(code)).max)
        return st.sampled_from([x for x in ODD_FLOATS if not abs(x) > largest or math.isinf(x)])
    limits = np.iinfo(np.dtype(code))
    return st.integers(int(limits.min), int(limits.max))


def _any_value(kind: str) -> st.SearchStrategy:
    if kind.startswith("string"):
        return st.sampled_from(WORDS)
    if kind == "boolean":
        return st.booleans()
    codes = {"float": "f", "double": "d", "octet": "B"}
    return _any_number(codes.get(kind, np.dtype(codes.get(kind, kind)).char))


def assert_one_line(error: Exception) -> None:
    """Errors of decoders are for people: one line, not empty."""
    assert str(error)
    assert "\n" not in str(error)
