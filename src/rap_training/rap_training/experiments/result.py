"""What a finished run leaves: one small JSON file, written when everything is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from rap_inference.yaml_files import validated
from rap_training.config import StrictModel
from rap_training.whole_file import whole_file

PROTOCOL = 3
"""Version of all code that decides figures, of training as of evaluation. It is raised when that
changes, so that results of different code are never in one table."""


class ResultError(ValueError):
    """Results that cannot be used; the text names the file and the reason in one line."""


class PseudoSimResult(StrictModel):
    """Figures of the pseudo-simulation.

    Attributes:
        epdms: Mean over scenes of the product of both stages.
        stage_one: Means of sub-scores and score.
        stage_two: The same of the weighted follow-ups.
        off_path: The same of plans that start off the path, unweighted, and their number `starts`;
            empty where no such start was on the road.
        scenes: How many were scored.
        failed: How many were not, because a plan could not be used.
        effective_samples: How many follow-ups count, on average.
        uniform_groups: How many of the groups had no follow-up near.
        groups: How many there are.
        scene_names: Of the scored scenes.
        per_scene: Figures of each scene, in the order of the names.
    """

    epdms: float
    stage_one: dict[str, float]
    stage_two: dict[str, float]
    off_path: dict[str, float]
    scenes: PositiveInt
    failed: NonNegativeInt
    effective_samples: float
    uniform_groups: NonNegativeInt
    groups: PositiveInt
    scene_names: tuple[str, ...]
    per_scene: dict[str, tuple[float, ...]]


class OpenLoopResult(StrictModel):
    """Displacement errors; see `rap_evaluation.open_loop`."""

    moments: PositiveInt
    ade_3s_m: float
    min_ade_3s_m: float


class ClosedLoopResult(StrictModel):
    """Figures of the closed loop over all towns; see `rap_evaluation.closed_loop.report`.

    Attributes:
        driven_km: The way that was driven on all routes.
        simulation_errors: Routes that ended because the simulation failed, and not the planner.
        per_route: Driving score by `TOWN/ROUTE`.
    """

    routes: PositiveInt
    completed: NonNegativeInt
    clean_routes: NonNegativeInt
    off_road: NonNegativeInt
    collisions_at_fault: NonNegativeInt
    red_lights: NonNegativeInt
    driving_score: float
    driven_km: float
    simulation_errors: NonNegativeInt
    per_route: dict[str, float]


class RunResult(StrictModel):
    """A finished run.

    Attributes:
        protocol: `PROTOCOL` of the code that made it.
        revision: Commit of that code, with `-dirty` where it was changed.
        key: Of its recipe.
        seed: Of the training.
        arms: `EXPERIMENT/ARM` of the arms it belonged to when it was run.
        recipe: The recipe as it was.
        training_logs: What it learned from: the logs' names, and the starts of what
            `DriveLog.traffic_digest` says of them.
        validation_logs: What it was measured on.
        steps: Optimiser steps.
        samples: Training samples.
        training_s: CPU time of the training; None if it was stopped in between.
        evaluation_s: CPU time of all evaluations.
        losses: Means over the last steps.
        pseudo_sim: Always measured.
        open_loop: Always measured, as the former.
        closed_loop: None where no arm wants it.
    """

    protocol: PositiveInt = PROTOCOL
    revision: str
    key: str
    seed: NonNegativeInt
    arms: tuple[str, ...]
    recipe: dict[str, Any]
    training_logs: dict[str, str]
    validation_logs: dict[str, str]
    steps: PositiveInt
    samples: PositiveInt
    training_s: float | None
    evaluation_s: float
    losses: dict[str, float]
    pseudo_sim: PseudoSimResult
    open_loop: OpenLoopResult
    closed_loop: ClosedLoopResult | None


def result_path(folder: Path, key: str, seed: int) -> Path:
    """Returns where the result of a run is."""
    return folder / f"{key}-seed{seed}.json"


def write_result(folder: Path, result: RunResult) -> Path:
    """Writes a result, each field on a line of its own, and returns its path."""
    path = result_path(folder, result.key, result.seed)
    fields = result.model_dump(mode="json").items()
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in fields)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(f"{{\n{lines}\n}}\n".encode())
    return path


def read_result(path: Path) -> RunResult:
    """Reads a result.

    Raises:
        ResultError: If the file is damaged or its name is not that of its content.
    """
    return _checked(path, _content(path))


def read_results(folder: Path) -> tuple[list[RunResult], int]:
    """Reads the results of a folder, which may be missing.

    Returns:
        Those of this protocol, and how many there are of others, which are not looked into.

    Raises:
        ResultError: If a file is damaged.
    """
    contents = {path: _content(path) for path in sorted(folder.glob("*.json"))}
    ours = [
        _checked(path, content)
        for path, content in contents.items()
        if content.get("protocol") == PROTOCOL
    ]
    return ours, len(contents) - len(ours)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ResultError(f"{path}: expected a JSON object")
    return content


def _checked(path: Path, content: dict[str, Any]) -> RunResult:
    result = validated(path, content, RunResult, ResultError)
    expected = result_path(path.parent, result.key, result.seed)
    if path != expected:
        raise ResultError(f"{path}: holds what belongs into {expected.name}")
    return result


def check_same_logs(results: Sequence[RunResult]) -> None:
    """Refuses results of different logs: their figures do not compare.

    Raises:
        ResultError: If a log is not in all of them, or has changed in between.
    """
    for result in results[1:]:
        for field in ("training_logs", "validation_logs"):
            wanted, found = getattr(results[0], field), getattr(result, field)
            for name in sorted(wanted.keys() | found.keys()):
                if wanted.get(name) != found.get(name):
                    first = result_path(Path(), results[0].key, results[0].seed)
                    raise ResultError(
                        f"{result_path(Path(), result.key, result.seed)}: {field}: {name} is "
                        f"{found.get(name, 'missing')}, in {first} it is "
                        f"{wanted.get(name, 'missing')}"
                    )
