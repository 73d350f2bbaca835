"""Moments of a log: one vehicle's seat at one step, with its past, its future and its command.

Training and open-loop evaluation both look at logs through this, so that what is learned and what
is measured are the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.drive_log import DriveLog
from rap_planner.route import Command
from rap_raster.camera import CameraModel
from rap_raster.ego_history import HISTORY_COLUMNS, EgoState
from rap_raster.frames import FloatArray, to_local
from rap_raster.geometry import Geometry
from rap_raster.scene import Scene
from rap_raster.styles import Style

STANDING_M = 0.5
"""A seat that moves less than this in the whole horizon stands."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One seat at one step of a log.

    Attributes:
        log: The log.
        seat: Track id of the vehicle that is the ego.
        step: Step of the log.
    """

    log: DriveLog
    seat: int
    step: int

    def scene(self) -> Scene:
        """Returns the scene from the seat, the seat itself not among the boxes."""
        return self.log.scene(self.step, self.seat)

    def geometry(self, style: Style) -> Geometry:
        """Returns what `style` draws of `scene`."""
        return self.log.geometry(self.step, self.seat, style)

    def camera_image(self, camera: CameraModel, seed: int) -> npt.NDArray[np.uint8]:
        """Returns the (H, W, 3) rgb a camera would see, in the light and noise of a seed."""
        scene = self.scene()
        return self.log.camera_simulator.image(
            scene.ego, scene.boxes, scene.lights, camera, seed=seed
        )

    def ego(self) -> EgoState:
        """Returns the ego state.

        Raises:
            LogError: If the seat does not exist at the step.
        """
        return self.log.existing_ego(self.step, self.seat)

    def command(self) -> Command:
        """Returns the driving command the seat's route gives."""
        return Command(int(self.log.commands(self.seat)[self._row]))

    def history(self, steps: int, dt_s: float) -> npt.NDArray[np.float32]:
        """Returns the (steps, 7) history as the planner reads it; see `EgoHistory`."""
        states, now = self.log.ego_states(self.seat), self._row
        if not 0 <= now < len(states.stamps_ns):
            raise ValueError(f"track {self.seat} does not exist at step {self.step}")
        stride = round(dt_s / self.log.dt_s)
        known = now - stride * np.arange(min(steps - 1, now // stride), -1, -1)
        rows = np.zeros((steps, len(HISTORY_COLUMNS)), dtype=np.float32)
        poses = states.poses[known][:, [0, 1, 3]]
        rows[-len(known) :, :3] = to_local(poses[-1], poses)
        rows[-len(known) :, 3:5] = states.velocities_mps[known]
        rows[-len(known) :, 5] = states.yaw_rates_radps[known]
        rows[-len(known) :, 6] = 1.0
        return rows

    def future(self, steps: int, dt_s: float) -> FloatArray:
        """Returns the (steps, 3) driven poses, `dt_s` apart, in the ego frame of now."""
        stride = round(dt_s / self.log.dt_s)
        rows = self._row + stride * np.arange(steps + 1)
        poses = self.log.ego_poses(self.seat)[rows]
        return to_local(poses[0], poses[1:])

    @property
    def _row(self) -> int:
        return self.step - self.log.first_step(self.seat)


def moments(log: DriveLog, horizon_s: float, stride: int = 1) -> list[Moment]:
    """Returns every moment of a log that has a full future.

    Args:
        log: The log.
        horizon_s: How much future a moment must have.
        stride: Steps between moments of one seat.
    """
    horizon = round(horizon_s / log.dt_s)
    found = []
    for seat in log.seats(min_steps=horizon + 1):
        first, last = log.first_step(seat), log.last_step(seat)
        found += [Moment(log, seat, step) for step in range(first, last - horizon + 1, stride)]
    return found


def is_standing(moment: Moment, horizon_s: float) -> bool:
    """True if the seat goes nowhere within the horizon."""
    return stands(moment.future(1, horizon_s))


def stands(path_m: FloatArray) -> bool:
    """True if a (T, 3) path from the origin leads nowhere."""
    return bool(np.hypot(*path_m[-1, :2]) < STANDING_M)
