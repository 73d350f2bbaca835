"""Situations as they were recorded: the ego's own drives, and those of other vehicles.

A sample from another vehicle's seat is made by the code that makes the ego's: its rig comes from
its size, its status from its own motion, its command from its own route, and the recording vehicle
is a box like any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.recording import Engagement
from rap_evaluation.moments import Moment, stands
from rap_raster.frames import FloatArray, to_local, wrap_angle
from rap_training.augmentation.situation import Drop, Situation, SourceKind
from rap_training.config import CrossAgentConfig, DrivenBy, EgoConfig, ModelConfig

_SPAN_S = 0.5  # Shorter spans show the noise of annotations only.
_CRAWL_MPS = 2.0  # Below this the direction of motion is noise.


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

    def only(self, wanted: Callable[[Moment], bool]) -> Starts:
        """Returns those of which `wanted` is true."""
        kept = Starts(self._logs, [])
        kept._rows = self._rows[[wanted(self[start]) for start in range(len(self))]]
        return kept


def seat_starts(log: DriveLog, seat: int, horizon_s: float) -> range:
    """Returns the steps from which a seat is there for the whole horizon."""
    return range(log.first_step(seat), log.last_step(seat) - round(horizon_s / log.dt_s) + 1)


def ego_starts(logs: Sequence[DriveLog], driven_by: DrivenBy, model: ModelConfig) -> Starts:
    """Returns the starts of the recording vehicles, as far as the right driver drove them."""
    rows = []
    for number, log in enumerate(logs):
        ahead = round(model.horizon_s / log.dt_s) + 1
        other = log.engaged == _LEFT_OUT[driven_by] if driven_by != "anyone" else None
        for seat in log.egos:
            for step in seat_starts(log, seat, model.horizon_s):
                if other is None or not other[step : step + ahead].any():
                    rows.append((number, seat, step))
    return Starts(logs, rows)


_LEFT_OUT = {"people": Engagement.ENGAGED, "system": Engagement.MANUAL}


class EgoSource:
    """What the recording vehicles did."""

    kind = SourceKind.EGO

    def __init__(self, logs: Sequence[DriveLog], config: EgoConfig, model: ModelConfig) -> None:
        """Lists the starts."""
        self.loss_weight = config.loss_weight
        self._standing_share = config.standing_share
        self._model = model
        self._starts = ego_starts(logs, config.driven_by, model)

    def __len__(self) -> int:
        """Returns the number of starts."""
        return len(self._starts)

    def moment(self, start: int) -> Moment:
        """Returns where a start is."""
        return self._starts[start]

    def only(self, wanted: Callable[[Moment], bool]) -> EgoSource:
        """Returns the same source with those starts alone of which `wanted` is true."""
        source = copy.copy(self)
        source._starts = self._starts.only(wanted)
        return source

    def situation(self, start: int, rng: np.random.Generator) -> Situation | Drop:
        """Makes the situation of a start; a share of those that stand is kept."""
        moment = self._starts[start]
        path_m = path_ahead_m(moment, self._model)
        if stands(path_m) and rng.random() >= self._standing_share:
            return Drop.STANDING
        return as_recorded(moment, self.kind, path_m, self._model)


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
        path_m = path_ahead_m(moment, self._model)
        if stands(path_m):
            return Drop.STANDING
        if deviation_m(moment, path_m) <= self._config.min_deviation_m:
            return Drop.STEADY
        if not is_drivable(path_m, moment.log.dt_s, self._config):
            return Drop.NO_MOTION
        return as_recorded(moment, self.kind, path_m, self._model)


def path_ahead_m(moment: Moment, model: ModelConfig) -> FloatArray:
    """Returns the (T, 3) poses driven over the horizon, one step of the log apart, ego frame."""
    log = moment.log
    row = moment.step - log.first_step(moment.seat)
    poses = log.ego_poses(moment.seat)[row : row + 1 + round(model.horizon_s / log.dt_s)]
    return to_local(poses[0], poses[1:])


def deviation_m(moment: Moment, path_m: FloatArray) -> float:
    """Returns how far, on average over the horizon, a path is from going on at its velocity.

    Source: RAP release, `create_openscene_metadata_aug.py`: above 0.5 m a motion is interesting.
    """
    ego = moment.ego()
    times_s = moment.log.dt_s * np.arange(1, len(path_m) + 1)
    straight = times_s[:, None] * np.array([ego.vx_mps, ego.vy_mps])
    return float(np.hypot(*(path_m[:, :2] - straight).T).mean())


def is_drivable(path_m: FloatArray, dt_s: float, limits: CrossAgentConfig) -> bool:
    """True if a (T, 3) path from the origin is one that a vehicle can take, and no noise."""
    poses = np.concatenate([np.zeros((1, 3)), path_m])
    span = max(1, round(_SPAN_S / dt_s))
    span_s = span * dt_s
    moved_m = poses[span:, :2] - poses[:-span, :2]
    turned_rad = wrap_angle(poses[span:, 2] - poses[:-span, 2])
    speed_mps = np.hypot(*moved_m.T) / span_s
    slip_rad = wrap_angle(
        np.arctan2(moved_m[:, 1], moved_m[:, 0]) - (poses[:-span, 2] + 0.5 * turned_rad)
    )
    acceleration_mps2 = (speed_mps[span:] - speed_mps[:-span]) / span_s
    return bool(
        np.abs(acceleration_mps2).max(initial=0.0) <= limits.max_acceleration_mps2
        and np.abs(slip_rad[speed_mps > _CRAWL_MPS]).max(initial=0.0) <= limits.max_slip_rad
        and np.abs(turned_rad).max(initial=0.0) / span_s <= limits.max_yaw_rate_radps
    )


def as_recorded(
    moment: Moment, kind: SourceKind, path_m: FloatArray, model: ModelConfig
) -> Situation:
    """Returns a moment as it was."""
    ego = moment.ego()
    boxes, lights = moment.log.objects(moment.step, moment.seat, ego.planar)
    return Situation(
        kind=kind,
        moment=moment,
        ego=ego,
        boxes=boxes,
        lights=lights,
        history=moment.history(model.history_steps, model.history_dt_s),
        path_m=path_m,
        command=moment.command(),
    )
