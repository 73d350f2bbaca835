"""The ego: a bicycle that follows planned trajectories, with the simulator of the PDM score."""

from __future__ import annotations

import numpy as np

from rap_evaluation.metrics.pdm_scene import DT_S, STATE_SIZE, StateIndex
from rap_evaluation.metrics.pdm_simulator import resample, simulate
from rap_evaluation.traffic.ground import Ground
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray, to_local


class Ego:
    """The ego vehicle over time.

    Attributes:
        state: (11,) `StateIndex` state of the rear axle, map frame.
        z_m: Height of the road below it.
        step: Steps of 0.1 s since the start.
    """

    def __init__(self, pose_m: FloatArray, speed_mps: float, ground: Ground) -> None:
        """Places the ego.

        Args:
            pose_m: (4,) x, y, z and heading of the rear axle, map frame.
            speed_mps: Along the heading.
            ground: Heights of the road.
        """
        self.state = np.zeros(STATE_SIZE)
        self.state[[StateIndex.X, StateIndex.Y]] = pose_m[:2]
        self.state[StateIndex.HEADING] = pose_m[3]
        self.state[StateIndex.VX] = speed_mps
        self.z_m = float(pose_m[2])
        self.step = 0
        self._ground = ground
        self._ahead = np.repeat(self.state[None], 2, axis=0)

    def follow(self, poses_m: FloatArray, dt_s: float, start_m: FloatArray | None = None) -> None:
        """Takes a new trajectory; it is tracked from the present state on.

        Args:
            poses_m: (T, 3) x, y, heading of the rear axle at dt_s, 2 dt_s, ..., map frame.
            dt_s: Time between poses.
            start_m: (3,) where the trajectory begins; None: where the ego is, as in NAVSIM.
        """
        start_m = self.state[:3] if start_m is None else start_m
        reference = resample(to_local(start_m, poses_m)[None], dt_s, start_m)
        self._ahead = simulate(self.state[None], reference)[0]

    def advance(self) -> None:
        """Drives one step of 0.1 s along the trajectory."""
        self._ahead = self._ahead[1:]
        self.state = self._ahead[0]
        self.z_m = float(self._ground.height(np.array([[*self.state[:2], self.z_m]]))[0])
        self.step += 1

    @property
    def ego_state(self) -> EgoState:
        """The state as the stack's own planner reads it."""
        state = self.state
        return EgoState(
            stamp_ns=self.step * round(DT_S * 1e9),
            x_m=float(state[StateIndex.X]),
            y_m=float(state[StateIndex.Y]),
            z_m=self.z_m,
            yaw_rad=float(state[StateIndex.HEADING]),
            vx_mps=float(state[StateIndex.VX]),
            vy_mps=float(state[StateIndex.VY]),
            yaw_rate_radps=float(state[StateIndex.ANGULAR_VELOCITY]),
        )
