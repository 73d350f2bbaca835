"""Situations beside the recorded drive, with a drivable way back to it as the label.

Everybody else is where they were. History, state of now and label are one motion: its offset from
the recorded path grows smoothly until now, and fades smoothly from now on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.moments import STANDING_M, Moment
from rap_planner.route import Command
from rap_raster.ego_history import EgoState, history_rows
from rap_raster.frames import to_local, wrap_angle
from rap_training.augmentation.recorded import ego_starts
from rap_training.augmentation.recovery.free_space import FreeSpace
from rap_training.augmentation.recovery.preset import Perturbation, WayBackConfig, load_preset
from rap_training.augmentation.recovery.smooth_path import SmoothPath, smooth_path
from rap_training.augmentation.recovery.way_back import WayBack, WayBackSearch
from rap_training.augmentation.recovery.way_back_kernels import CURVATURE, YAW, X, Y, Z
from rap_training.augmentation.situation import Drop, Situation, SourceKind
from rap_training.config import ModelConfig, RecoveryConfig


class RecoverySource:
    """The recording vehicles beside their paths, and their ways back."""

    kind = SourceKind.RECOVERY

    def __init__(
        self, logs: Sequence[DriveLog], config: RecoveryConfig, model: ModelConfig
    ) -> None:
        """Lists the starts.

        Raises:
            ConfigError: If the preset cannot be used.
        """
        self.loss_weight = config.loss_weight
        self._attempts, self._model = config.attempts, model
        self._preset = load_preset(config.preset)
        self._starts = ego_starts(logs, config.driven_by, model)
        self._spaces: dict[DriveLog, FreeSpace] = {}
        self._seats: dict[tuple[DriveLog, int], RecoverySeat | Drop] = {}

    def __len__(self) -> int:
        """Returns the number of starts."""
        return len(self._starts)

    def moment(self, start: int) -> Moment:
        """Returns where a start is."""
        return self._starts[start]

    def situation(self, start: int, rng: np.random.Generator) -> Situation | Drop:
        """Makes a situation beside a start; the reason of a drop is that of the last attempt."""
        moment = self._starts[start]
        seat = self._seat(moment.log, moment.seat)
        if isinstance(seat, Drop):
            return seat
        drop = seat.hindrance(moment.step)
        if drop is not None:
            return drop
        for _ in range(self._attempts):
            result = seat.situation(moment, self._preset.perturbation.draw(rng))
            if isinstance(result, Situation):
                break
        return result

    def _seat(self, log: DriveLog, seat: int) -> RecoverySeat | Drop:
        """Returns what is kept of a seat; it is made when first asked for."""
        if log not in self._spaces:
            self._spaces[log] = FreeSpace(log)
        if (log, seat) not in self._seats:
            space, config = self._spaces[log], self._preset.way_back
            self._seats[log, seat] = recovery_seat(log, seat, space, config, self._model)
        return self._seats[log, seat]


def recovery_seat(
    log: DriveLog, seat: int, space: FreeSpace, config: WayBackConfig, model: ModelConfig
) -> RecoverySeat | Drop:
    """Prepares a seat of a log, or says why nothing can be made of it."""
    if len(space.edges) == 0:
        return Drop.NO_MAP
    path = smooth_path(log, seat)
    if path is None:
        return Drop.STANDING
    return RecoverySeat(log, seat, path, WayBackSearch(log, seat, path, space, config), model)


class RecoverySeat:
    """Situations beside the drive of one seat of a log."""

    def __init__(
        self, log: DriveLog, seat: int, path: SmoothPath, search: WayBackSearch, model: ModelConfig
    ) -> None:
        """Follows the seat along its route."""
        self._log, self._seat, self._first = log, seat, log.first_step(seat)
        self._path, self._search = path, search
        self._horizon = round(model.horizon_s / log.dt_s)
        self._stride = round(model.history_dt_s / log.dt_s)
        self._past = self._stride * np.arange(model.history_steps - 1, -1, -1)
        self._route = log.driven_route(seat)

    def hindrance(self, step: int) -> Drop | None:
        """Returns why no perturbation at a step gives a situation, if there is such a reason."""
        row = step - self._first
        ahead = slice(row, row + self._horizon + 1)
        if np.ptp(self._path.progress[ahead, 0]) < STANDING_M:
            return Drop.STANDING
        around = slice(max(0, row - int(self._past[0])), ahead.stop)
        return None if self._path.forward[around].all() else Drop.NO_MOTION

    def situation(self, moment: Moment, perturbation: Perturbation) -> Situation | Drop:
        """Makes the situation of a moment with a perturbation, or says why there is none."""
        way = self._search.search(
            moment.step,
            perturbation,
            past_steps=int(self._past[0]),
            future_steps=self._horizon,
        )
        if isinstance(way, Drop):
            return way
        past = [self._ego_state(moment.step, way, back) for back in self._past.tolist()]
        ego = past[-1]
        assert ego is not None  # The way starts now.
        boxes, lights = self._log.objects(moment.step, self._seat, ego.planar)
        return Situation(
            kind=SourceKind.RECOVERY,
            moment=moment,
            ego=ego,
            boxes=boxes,
            lights=lights,
            history=history_rows(ego, past),
            path_m=to_local(ego.planar, way.future[1:, :3]),
            command=self._command(moment, ego),
            details=details_of(perturbation, way),
        )

    def _ego_state(self, step: int, way: WayBack, back: int) -> EgoState | None:
        """Returns the state some steps back, or None before the seat was there."""
        if back >= len(way.past):
            return None
        state, speed_mps = way.past[back], float(way.past_speeds_mps[back])
        return EgoState(
            stamp_ns=int(self._log.stamps_ns[step - back]),
            x_m=float(state[X]),
            y_m=float(state[Y]),
            z_m=float(state[Z]),
            yaw_rad=float(wrap_angle(state[YAW])),
            vx_mps=speed_mps,
            vy_mps=0.0,
            yaw_rate_radps=speed_mps * float(state[CURVATURE]),
        )

    def _command(self, moment: Moment, ego: EgoState) -> Command:
        """Returns what the route asks for at the perturbed pose, if it was made from one."""
        if self._route is None:
            return moment.command()
        return self._route.command(moment.step - self._first, ego.pose)


def details_of(perturbation: Perturbation, way: WayBack) -> dict[str, float | str]:
    """Returns the figures of a recovery for people."""
    return {
        **{name: getattr(perturbation, name) for name in Perturbation.__slots__},
        "return_m": way.return_m,
        "catch_up_s": way.catch_up_s,
        "ends": "with the drive" if way.catches_up else "at its speed",
    }
