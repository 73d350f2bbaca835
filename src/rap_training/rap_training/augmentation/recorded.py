"""Situations as they were recorded: the ego's own drives, and those of other vehicles.

A sample from another vehicle's seat is made by the code that makes the ego's: its rig comes from
its size, its status from its own motion, its command from its own route, and the recording vehicle
is a box like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.moments import STANDING_M, Moment
from rap_raster.frames import FloatArray, to_local
from rap_training.augmentation.situation import Drop, Situation, SourceKind
from rap_training.config import CrossAgentConfig, EgoConfig, ModelConfig


class Starts:
    """Steps of seats of logs that have a full future."""

    def __init__(self, logs: Sequence[DriveLog], rows: Sequence[tuple[int, int, int]]) -> None:
        """Takes rows of log number, seat and step."""
        self._logs = logs
        self._rows = np.array(rows, dtype=np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        """Returns the number of starts."""
        return len(self._rows)

    def __getitem__(self, start: int) -> Moment:
        """Returns the moment of a start."""
        number, seat, step = self._rows[start].tolist()
        return Moment(self._logs[number], seat, step)


def seat_starts(log: DriveLog, seat: int, horizon_s: float) -> range:
    """Returns the steps from which a seat is there for the whole horizon."""
    return range(log.first_step(seat), log.last_step(seat) - round(horizon_s / log.dt_s) + 1)


class EgoSource:
    """What the recording vehicles did."""

    kind = SourceKind.EGO

    def __init__(self, logs: Sequence[DriveLog], config: EgoConfig, model: ModelConfig) -> None:
        """Lists the starts."""
        self.loss_weight = config.loss_weight
        self._standing_share = config.standing_share
        self._model = model
        rows = [
            (number, seat, step)
            for number, log in enumerate(logs)
            for seat in log.egos
            for step in seat_starts(log, seat, model.horizon_s)
        ]
        self._starts = Starts(logs, rows)

    def __len__(self) -> int:
        """Returns the number of starts."""
        return len(self._starts)

    def moment(self, start: int) -> Moment:
        """Returns where a start is."""
        return self._starts[start]

    def situation(self, start: int, rng: np.random.Generator) -> Situation | Drop:
        """Makes the situation of a start; a share of those that stand is kept."""
        situation = as_recorded(self._starts[start], self.kind, self._model)
        stands = bool(np.hypot(*situation.path_m[-1, :2]) < STANDING_M)
        if stands and rng.random() >= self._standing_share:
            return Drop.STANDING
        return situation


class CrossAgentSource:
    """What other vehicles did, where they did something."""

    kind = SourceKind.CROSS_AGENT

    def __init__(
        self, logs: Sequence[DriveLog], config: CrossAgentConfig, model: ModelConfig
    ) -> None:
        """Lists the starts of every vehicle that is no ego of its log."""
        self.loss_weight = config.loss_weight
        self._config, self._model = config, model
        rows = [
            (number, seat, step)
            for number, log in enumerate(logs)
            for seat in log.seats()
            if seat not in log.egos
            for step in seat_starts(log, seat, model.horizon_s)
        ]
        self._starts = Starts(logs, rows)

    def __len__(self) -> int:
        """Returns the number of starts, interesting or not."""
        return len(self._starts)

    def moment(self, start: int) -> Moment:
        """Returns where a start is."""
        return self._starts[start]

    def situation(self, start: int, rng: np.random.Generator) -> Situation | Drop:
        """Makes the situation of a start, if its motion is interesting."""
        moment = self._starts[start]
        if rng.random() >= self._config.class_shares.share(moment.log.object_class(moment.seat)):
            return Drop.CLASS
        situation = as_recorded(moment, self.kind, self._model)
        if np.hypot(*situation.path_m[-1, :2]) < STANDING_M:
            return Drop.STANDING
        if deviation_m(situation, self._model) <= self._config.min_deviation_m:
            return Drop.STEADY
        return situation


def as_recorded(moment: Moment, kind: SourceKind, model: ModelConfig) -> Situation:
    """Returns a moment as it was."""
    log, seat, step = moment.log, moment.seat, moment.step
    ego = moment.ego()
    assert ego is not None  # Starts are steps at which their seat exists.
    boxes, lights = log.objects(step, seat, ego.planar)
    row = step - log.first_step(seat)
    count = round(model.horizon_s / log.dt_s)
    return Situation(
        kind=kind,
        moment=moment,
        ego=ego,
        boxes=boxes,
        lights=lights,
        history=moment.history(model.history_steps, model.history_dt_s),
        path_m=to_local(ego.planar, log.ego_poses(seat)[row + 1 : row + 1 + count]),
        command=moment.command(),
    )


def deviation_m(situation: Situation, model: ModelConfig) -> float:
    """Returns how far, on average over the horizon, the path is from going on at this velocity.

    Source: RAP release, `create_openscene_metadata_aug.py`: above 0.5 m a motion is interesting.
    """
    driven = situation.future_m(model.horizon_steps, model.dt_s)[:, :2]
    times_s = model.dt_s * np.arange(1, model.horizon_steps + 1)
    velocity = np.array([situation.ego.vx_mps, situation.ego.vy_mps])
    straight: FloatArray = times_s[:, None] * velocity
    gaps: npt.NDArray[np.float64] = np.hypot(*(driven - straight).T)
    return float(gaps.mean())
