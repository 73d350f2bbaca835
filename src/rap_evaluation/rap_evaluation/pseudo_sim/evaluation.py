"""The pseudo-simulation of a planner on logs, and its report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rap_bringup.console import Report, silent
from rap_evaluation.kept_arrays import KeptArrays
from rap_evaluation.logs.drive_log import DriveLog, open_logs
from rap_evaluation.metrics.frame_score import SUB_SCORES, frame_scores
from rap_evaluation.metrics.two_stage import COLUMNS, two_stage_score
from rap_evaluation.planners.choice import PlannerMaker, planner_maker
from rap_evaluation.planners.observation import PlanError
from rap_evaluation.pseudo_sim.frames import Frame
from rap_evaluation.pseudo_sim.protocol import (
    Moment,
    PlannedScene,
    Stage,
    StartChoice,
    as_frames,
    draw_moments,
)
from rap_evaluation.sharding import process
from rap_raster.frames import FloatArray

REPORT = "report.json"


class PseudoSimError(ValueError):
    """A pseudo-simulation that cannot be run as asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class PseudoSimOptions:
    """What to evaluate.

    Attributes:
        planner: See `planners.choice.planner_maker`.
        sensor: What a bundle sees with.
        logs: Folder of logs.
        out: Folder of the report; made if missing.
        scenes: How many scenes to draw; all there are if fewer.
        seed: Of the draw.
        ray_address: See `sharding.process`.
        starts: Of the second stage; see `protocol.StartChoice`.
        kept: Folder in which drawn scenes, pictures of cameras and reference plans are kept for
            the next evaluation; another one has to be used when code changes that makes them.
        off_path_every: In one scene of so many of a log, plans from off the path are scored as
            well; in none by default.
        egos_only: From the seats of recording vehicles alone.
    """

    planner: str
    sensor: str
    logs: Path
    out: Path
    scenes: int
    seed: int
    ray_address: str | None = None
    starts: StartChoice = "all"
    off_path_every: int | None = None
    kept: Path | None = None
    egos_only: bool = False


def evaluate_pseudo_sim(options: PseudoSimOptions, report: Report = silent) -> dict[str, Any]:
    """Plays all scenes and writes the report.

    Args:
        options: What to evaluate.
        report: Called with the share that is done.

    Returns:
        What `report.json` holds.

    Raises:
        PlannerChoiceError: If there is no such planner or sensor.
        BundleError: If the bundle cannot be used.
        LogError: If there are no logs.
        PseudoSimError: If no scene can be drawn or scored.
    """
    begin_s = time.perf_counter()
    _planner_maker(options)  # Wrong names should fail before the work.
    logs = open_logs(options.logs)
    moments = _moments(options, logs)
    if not moments:
        raise PseudoSimError(f"{options.logs}: no vehicle drives a route for 10 s on the map")
    every = options.off_path_every
    # The moments are of one log after the other in turn.
    off_path = [every is not None and k // len(logs) % every == 0 for k in range(len(moments))]
    played = process(
        list(zip(moments, off_path, strict=True)),
        partial(_Player, options),
        ray_address=options.ray_address,
        report=report,
    )
    scenes = [scene for scene in played if isinstance(scene, PlannedScene)]
    failures = {
        f"{logs[moment.log].name}/{moment.seat}/{moment.step}": reason
        for moment, reason in zip(moments, played, strict=True)
        if isinstance(reason, str)
    }
    if not scenes:
        raise PseudoSimError(f"no scene could be scored: {next(iter(failures.values()))}")
    content = {
        "planner": options.planner,
        "sensor": options.sensor,
        "starts": options.starts,
        "seed": options.seed,
        **summary(scenes),
        "failed": failures,
        "timing": {"wall_s": round(time.perf_counter() - begin_s, 2)},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / REPORT).write_text(
        json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    return content


class _Player:
    """Plays scenes of some logs; a scene that fails is its reason."""

    def __init__(self, options: PseudoSimOptions) -> None:
        self._make = _planner_maker(options)
        self._logs = open_logs(options.logs)
        self._starts, self._kept = options.starts, KeptArrays(options.kept)
        self._stages: dict[int, Stage] = {}

    def __call__(self, task: tuple[Moment, bool]) -> PlannedScene | str:
        """Plays a scene, off the path as well if that is what the flag says."""
        moment, off_path = task
        if moment.log not in self._stages:
            log = self._logs[moment.log]
            self._stages[moment.log] = Stage(log, self._make(log.map), self._starts, self._kept)
        try:
            return self._stages[moment.log].play(moment, off_path=off_path)
        except PlanError as error:
            return str(error)


def _planner_maker(options: PseudoSimOptions) -> PlannerMaker:
    """Returns what makes the planner, without patience: nobody waits from one frame to the next."""
    return planner_maker(
        options.planner, options.sensor, patience_s=math.inf, kept=KeptArrays(options.kept)
    )


def _moments(options: PseudoSimOptions, logs: list[DriveLog]) -> list[Moment]:
    """Draws the scenes, or takes those that were drawn before."""
    count, seed, egos_only = options.scenes, options.seed, options.egos_only

    def drawn() -> FloatArray:
        return np.array([astuple(m) for m in draw_moments(logs, count, seed, egos_only=egos_only)])

    digests = [log.digest for log in logs]
    rows = KeptArrays(options.kept).array(
        "moments", drawn, lambda: (*digests, count, seed, egos_only)
    )
    return [Moment(*row) for row in rows.tolist()]


def summary(scenes: Sequence[PlannedScene]) -> dict[str, Any]:
    """Returns the scores of all scenes and of each."""
    score = two_stage_score(*as_frames(scenes))
    return {
        "epdms": float(score.combined[-1]),
        "stage_one": _columns(score.stage_one),
        "stage_two": _columns(score.stage_two),
        "scenes": len(scenes),
        "effective_samples": score.effective_samples,
        "uniform_groups": score.uniform_groups,
        "groups": 2 * len(scenes),
        "nearest": score.nearest.tolist(),
        "off_path": _off_path([frame for scene in scenes for frame in scene.off_path]),
        "per_scene": [_scene_scores(scene) for scene in scenes],
    }


def _scene_scores(scene: PlannedScene) -> dict[str, Any]:
    score = two_stage_score(*as_frames([scene]))
    return {
        "name": scene.name,
        "epdms": float(score.combined[-1]),
        "stage_one": float(score.stage_one[-1]),
        "stage_two": float(score.stage_two[-1]),
    }


def _off_path(frames: Sequence[Frame]) -> dict[str, float]:
    """Returns the number of starts and the means of sub-scores and score; empty without starts."""
    if not frames:
        return {}
    sub_scores = np.array([frame.sub_scores for frame in frames])
    scores = frame_scores(sub_scores, np.full(len(frames), np.nan))
    means = dict(zip(SUB_SCORES, sub_scores.mean(axis=0).tolist(), strict=True))
    return {"starts": len(frames), **means, "score": float(scores.mean())}


def _columns(values: FloatArray) -> dict[str, float]:
    return dict(zip(COLUMNS, np.asarray(values).tolist(), strict=True))
