"""Drivable ways from a place beside the recorded drive back to it, and how one got there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.metrics.comfort import COMFORT_BOUNDS
from rap_evaluation.metrics.pdm_simulator import WHEEL_BASE_SHARE
from rap_raster.frames import FloatArray
from rap_raster.vehicle import VehicleDimensions
from rap_training.augmentation.recovery.clearance_kernels import Footprint
from rap_training.augmentation.recovery.free_space import FreeSpace, runs_red
from rap_training.augmentation.recovery.preset import Perturbation, WayBackConfig
from rap_training.augmentation.recovery.smooth_path import SmoothPath
from rap_training.augmentation.recovery.way_back_kernels import (
    STRETCH,
    Lattice,
    Limits,
    Offset,
    Z,
    at_another_speed,
    beside,
    offset_of,
    path_along,
    steerable,
    ways_back,
)
from rap_training.augmentation.situation import Drop


@dataclass(frozen=True, slots=True)
class WayBack:
    """How a vehicle left its path, and how it returns.

    Attributes:
        past: (m, 6) states of `way_back_kernels`, now and at the steps before, backwards.
        past_speeds_mps: (m,) at these.
        future: (n, 6) states now and from now on.
        return_m: Distance along the path after which it is back on it.
        catch_up_s: Time after which it is back with the recorded drive, or at its speed.
        catches_up: True if it is back with the drive, False if it goes on ahead or behind.
    """

    past: FloatArray
    past_speeds_mps: npt.NDArray[np.float64]
    future: FloatArray
    return_m: float
    catch_up_s: float
    catches_up: bool


@dataclass(frozen=True, slots=True)
class _Beginning:
    """A perturbed vehicle: the step, the recorded progress from there, where it is, its past."""

    step: int
    progress: FloatArray
    offset: Offset
    ratio: float
    past: FloatArray
    past_speeds_mps: npt.NDArray[np.float64]


class WayBackSearch:
    """Finds ways back for one seat of a log."""

    def __init__(
        self, log: DriveLog, seat: int, path: SmoothPath, space: FreeSpace, config: WayBackConfig
    ) -> None:
        """Prepares what all searches of a seat share."""
        vehicle = log.dimensions(seat)
        self._seat, self._first, self._dt_s = seat, log.first_step(seat), log.dt_s
        self._path, self._space, self._config = path, space, config
        self._limits = limits_of(vehicle, config)
        self._footprint = footprint_of(vehicle)
        self._guarded = footprint_of(vehicle, config.clearance_m)
        self._signals = space.signals(log.route_lanes(seat) or ())

    def search(
        self, step: int, perturbation: Perturbation, *, past_steps: int, future_steps: int
    ) -> WayBack | Drop:
        """Finds the best way back, or says why there is none.

        Args:
            step: Of the log.
            perturbation: Of the vehicle at that step.
            past_steps: Steps of the past to lay out at least, as far as the seat has them.
            future_steps: Of the way; the seat must have them.
        """
        start = self._beginning(step, perturbation, past_steps, future_steps)
        if not steerable(start.past, self._dt_s, self._limits):
            return Drop.INFEASIBLE
        obstacle = self._obstacle(
            np.ascontiguousarray(start.past[::-1]), step - len(start.past) + 1
        )
        return obstacle or self._cheapest(start)

    def _beginning(
        self, step: int, perturbation: Perturbation, past_steps: int, future_steps: int
    ) -> _Beginning:
        row = step - self._first
        progress, ratio = self._path.progress, perturbation.speed_ratio
        along_m = float(progress[row, 0]) + perturbation.longitudinal_m
        offset = offset_of(
            path_along(self._path.table, np.array([along_m]))[0],
            along_m,
            perturbation.lateral_m,
            perturbation.yaw_rad,
            perturbation.curvature_1pm,
        )
        steps = max(past_steps, round(self._config.lead_in_s / self._dt_s))
        before = np.ascontiguousarray(progress[max(0, row - steps) : row + 1][::-1])
        lead_in_s = self._config.lead_in_s
        places, rates = at_another_speed(before, along_m, ratio, lead_in_s, self._dt_s)
        length_m = lead_in_s * self._speed_mps(before)
        past = beside(path_along(self._path.table, places), places, offset, -length_m)
        ahead = progress[row : row + future_steps + 1]
        return _Beginning(step, ahead, offset, ratio, past, rates * past[:, STRETCH])

    def _cheapest(self, start: _Beginning) -> WayBack | Drop:
        """Returns the cheapest way of the lattice that nothing is in."""
        lattice = self._lattice(start.progress)
        ways, costs = ways_back(
            self._path.table,
            start.progress,
            start.offset,
            start.ratio,
            lattice,
            self._limits,
            self._dt_s,
        )
        first_drop: Drop | None = None
        for way in np.argsort(costs, kind="stable")[: np.isfinite(costs).sum()]:
            drop = self._obstacle(ways[way], start.step) or self._red(ways[way], start)
            if drop is None:
                pair, length = divmod(int(way), len(lattice.lengths_m))
                return WayBack(
                    past=start.past,
                    past_speeds_mps=start.past_speeds_mps,
                    future=ways[way].copy(),
                    return_m=float(lattice.lengths_m[length]),
                    catch_up_s=float(lattice.durations_s[pair // 2]),
                    catches_up=pair % 2 == 0,
                )
            first_drop = first_drop or drop
        return first_drop or Drop.INFEASIBLE

    def _lattice(self, progress: FloatArray) -> Lattice:
        config = self._config
        return Lattice(
            lengths_m=self._speed_mps(progress) * np.array(config.return_times_s),
            durations_s=np.array(config.catch_up_times_s),
            lag_cost_1pm2=config.lag_cost_1pm2,
            jerk_cost_mps3=config.jerk_cost_mps3,
        )

    def _speed_mps(self, progress: FloatArray) -> float:
        """Returns the speed by which times become distances: that of now, or the mean if faster."""
        steps = max(1, len(progress) - 1)
        mean_mps = np.abs(progress[-1, 0] - progress[0, 0]) / (self._dt_s * steps)
        return max(self._config.slow_mps, float(progress[0, 1]), float(mean_mps))

    def _obstacle(self, states: FloatArray, step: int) -> Drop | None:
        """Returns what is in the way along states that begin at a step of the log."""
        if not self._space.on_road(states, self._footprint):
            return Drop.OFF_ROAD
        clear = self._space.clear(states, states[:, Z], self._guarded, step=step, seat=self._seat)
        return None if clear else Drop.COLLISION

    def _red(self, states: FloatArray, start: _Beginning) -> Drop | None:
        recorded = path_along(self._path.table, np.ascontiguousarray(start.progress[:, 0]))
        runs = runs_red(states, recorded, self._footprint, step=start.step, signals=self._signals)
        return Drop.RED_LIGHT if runs else None


def limits_of(vehicle: VehicleDimensions, config: WayBackConfig) -> Limits:
    """Returns what a way back may ask of a vehicle and its passengers."""
    (braking, acceleration), (_, lateral), (_, total_jerk), (_, jerk), (_, turning), (_, yaw) = (
        COMFORT_BOUNDS
    )
    return Limits(
        acceleration_mps2=acceleration,
        braking_mps2=-braking,
        lateral_mps2=lateral,
        total_jerk_mps3=total_jerk,
        jerk_mps3=jerk,
        yaw_acceleration_radps2=turning,
        yaw_rate_radps=yaw,
        steering_rad=config.steering_rad,
        steering_rate_radps=config.steering_rate_radps,
        wheelbase_m=vehicle.length_m * WHEEL_BASE_SHARE,
    )


def footprint_of(vehicle: VehicleDimensions, margin_m: float = 0.0) -> Footprint:
    """Returns the box of a vehicle, wider by a margin on all sides."""
    return Footprint(
        vehicle.rear_axle_to_center_m,
        vehicle.length_m / 2 + margin_m,
        vehicle.width_m / 2 + margin_m,
    )
