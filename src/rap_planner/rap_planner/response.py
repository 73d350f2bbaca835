"""What a vehicle makes of trajectories: its speed follows late, and it can still brake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_planner.trajectory import STEP_S, along_paths, arcs_m
from rap_raster.frames import FloatArray


@dataclass(frozen=True, slots=True)
class Response:
    """How controller and vehicle follow the speed of a trajectory.

    The speed u follows the one planned, v, by du/dt = (v(t + preview_s) - u) / delay_s.

    Attributes:
        delay_s: Time constant; 0 for a vehicle that does as it is told.
        preview_s: How far ahead the controller looks.
    """

    delay_s: float = 0.3
    preview_s: float = 0.0

    def driven(self, poses_m: FloatArray, speed_mps: float) -> FloatArray:
        """Returns where the vehicle gets to: ahead of a trajectory that brakes.

        Where it falls behind it is taken to be where it should, and so it is at the end of what it
        gains speed in: a controller closes such gaps.

        Args:
            poses_m: (K, M, 3) x, y, yaw (continuous), 0.1 s apart, from now on.
            speed_mps: Of the vehicle, now.

        Returns:
            (K, M, 3) poses on the same paths, at the same times.
        """
        if self.delay_s <= 0.0 or poses_m.shape[1] < 2:
            return poses_m
        planned_m = arcs_m(poses_m)
        planned_mps = np.diff(planned_m, axis=1) / STEP_S
        steps = np.arange(planned_mps.shape[1])
        seen = np.minimum(steps + round(self.preview_s / STEP_S), steps[-1])
        wanted_mps = planned_mps[:, seen]
        kept = np.exp(-STEP_S / self.delay_s)
        # Of a speed wanted k steps ago, so much is in the present one.
        ago = steps[:, None] - steps - 1
        shares = np.where(ago >= 0, (1.0 - kept) * kept ** np.maximum(ago, 0), 0.0)
        faster_mps = max(0.0, speed_mps) * kept**steps + wanted_mps @ shares.T - wanted_mps
        ways_m = wanted_mps * STEP_S + faster_mps * self.delay_s * (1.0 - kept)
        gained_m = ways_m - planned_mps * STEP_S
        before_mps = np.pad(planned_mps[:, :-1], ((0, 0), (1, 0)), constant_values=speed_mps)
        gained_m[(planned_mps > before_mps) & (gained_m < 0.0)] = 0.0
        planned_m[:, 1:] += np.maximum(np.cumsum(gained_m, axis=1), 0.0)
        return along_paths(poses_m, planned_m)


def braked(
    poses_m: FloatArray, after_s: float, braking_mps2: float, horizon_s: float
) -> FloatArray:
    """Returns where a vehicle is that follows trajectories for a while and then brakes.

    Args:
        poses_m: (K, m, 3) x, y, yaw (continuous), 0.1 s apart, from now on.
        after_s: When it begins to brake.
        braking_mps2: How hard, > 0.
        horizon_s: How far to look; past the end of its trajectory it goes on straight.

    Returns:
        (K, M, 3) poses at times 0, 0.1 s, ..., `horizon_s`.
    """
    steps = round(horizon_s / STEP_S) + 1
    planned_m = arcs_m(poses_m[:, :steps])
    first = min(max(1, round(after_s / STEP_S)), planned_m.shape[1] - 1)
    speeds_mps = (planned_m[:, first] - planned_m[:, first - 1])[:, None] / STEP_S
    braking_s = np.minimum(STEP_S * np.arange(steps - first), speeds_mps / braking_mps2)
    braked_m = planned_m[:, first, None] + braking_s * (speeds_mps - 0.5 * braking_mps2 * braking_s)
    ways_m = np.concatenate([planned_m[:, :first], braked_m], axis=1)
    # Who brakes harder by plan keeps to it.
    known = planned_m.shape[1]
    ways_m[:, :known] = np.minimum(ways_m[:, :known], planned_m)
    return along_paths(poses_m, ways_m)
