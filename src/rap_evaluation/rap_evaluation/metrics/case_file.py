"""Case files of the metric commands: reading, scoring each case on its own, writing results.

A file that cannot be used is an error of the command. A case that cannot be scored gets an error
in place of its result, and the others are scored all the same. The inputs of each metric are
pydantic models on top of `CaseInput`, beside the metric.
"""

from __future__ import annotations

import gzip
import json
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Strict

from rap_inference.yaml_files import validated

LARGEST = 1e12
"""Largest number in a case, beyond any length, speed or time stamp; its powers stay finite."""

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
"""A finite number; NaN and infinity, which Python's JSON reader takes, are refused."""

Pair = Annotated[tuple[Number, Number], Strict(strict=False)]
"""Two numbers; JSON has lists for them, which a strict tuple would refuse."""

_Parsed = TypeVar("_Parsed")


class CaseFileError(ValueError):
    """A case file that cannot be used; the text names file, field and reason in one line."""


class CaseError(ValueError):
    """A case that cannot be scored; the text names field and reason in one line."""


class CaseInput(BaseModel):
    """Base of all inputs: strict types, unknown keys ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


_Input = TypeVar("_Input", bound=CaseInput)


class _Case(CaseInput):
    name: Annotated[str, Field(min_length=1)]
    input: Any = None


class _CaseFile(CaseInput):
    file_schema: Literal["rap.cases/1"] = Field(alias="schema")
    metric: str
    cases: list[_Case]


@dataclass(frozen=True, slots=True)
class CaseResults:
    """What became of the cases of a file.

    Attributes:
        cases: By name, in the order of the file: the result, or `{"error": one line}`.
        seconds: Wall time from parsed inputs to finished results.
    """

    cases: dict[str, Any]
    seconds: float

    @property
    def errors(self) -> dict[str, str]:
        """The reasons of the cases that could not be scored, by name."""
        reasons = {name: result.get("error") for name, result in self.cases.items()}
        return {name: reason for name, reason in reasons.items() if isinstance(reason, str)}


def read_cases(path: Path, metric: str) -> dict[str, object]:
    """Reads a case file, schema `rap.cases/1`; `.gz` files are unpacked.

    Args:
        path: The file.
        metric: Which metric its cases must be for.

    Returns:
        The unchecked input of each case by name, in the order of the file.

    Raises:
        CaseFileError: If the file is not a case file of this metric with unique names.
    """
    content = validated(path, _read_json(path), _CaseFile, CaseFileError)
    if content.metric != metric:
        raise CaseFileError(f"{path}: metric: expected '{metric}', got '{content.metric}'")
    cases: dict[str, object] = {}
    for index, case in enumerate(content.cases):
        if case.name in cases:
            raise CaseFileError(f"{path}: cases.{index}.name: '{case.name}' is there twice")
        cases[case.name] = case.input
    return cases


def parse_input(content: object, model: type[_Input]) -> _Input:
    """Validates the input of a case.

    Raises:
        CaseError: If a field is missing or wrong; the text starts with the field's path.
    """
    return validated(Path("input"), content, model, CaseError)


def score_cases(
    cases: Mapping[str, object],
    parse: Callable[[object], _Parsed],
    score: Callable[[_Parsed], Mapping[str, Any]],
) -> CaseResults:
    """Scores every case on its own; one that fails does not stop the others.

    Args:
        cases: Unchecked inputs by name, see `read_cases`.
        parse: Validates an input; raises a ValueError if it cannot be scored.
        score: Scores a parsed input; raises a ValueError if it cannot be scored.

    Returns:
        A result or a reason for every case. A case that divides by zero or overflows has a
        reason too; any other exception is a defect of ours and is raised.
    """
    parsed = {name: _attempt(parse, content) for name, content in cases.items()}
    usable = [content for content in parsed.values() if not isinstance(content, _Failure)]
    if usable:
        _attempt(score, usable[0])  # Loads or compiles kernels, which is not scoring.
    start = time.perf_counter()
    results = {
        name: content if isinstance(content, _Failure) else _attempt(score, content)
        for name, content in parsed.items()
    }
    seconds = time.perf_counter() - start
    return CaseResults({name: _plain(result) for name, result in results.items()}, seconds)


def write_results(path: Path, results: CaseResults) -> None:
    """Writes the results as JSON; a missing folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"cases": results.cases, "seconds": results.seconds}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a case could not be parsed or scored."""

    reason: str


_Argument = TypeVar("_Argument")
_Value = TypeVar("_Value")


def _attempt(step: Callable[[_Argument], _Value], argument: _Argument) -> _Value | _Failure:
    try:
        return step(argument)
    except (ValueError, ArithmeticError) as error:
        return _Failure(" ".join(str(error).split()) or type(error).__name__)


def _read_json(path: Path) -> object:
    try:
        data = path.read_bytes()
        return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, zlib.error) as error:
        raise CaseFileError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CaseFileError(f"{path}: not valid JSON: {error}") from error


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON is untyped
    """Returns a result as JSON knows it: no numpy types, None for numbers that are undefined."""
    if isinstance(value, _Failure):
        return {"error": value.reason}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
