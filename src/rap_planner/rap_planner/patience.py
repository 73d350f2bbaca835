"""What gets a planner going again that has waited for too long.

A network that learned from drives tends to stay where it stands, because whoever it learned from
stood there for a reason. Where it stands without one, going is scored a little below staying, and
nothing changes any more. Where there is a reason, the distance is larger. So the candidates that
stay lose score as the wait goes on, but never more than a reason is worth.

Source of the problem: "inertia", Codevilla et al., Exploring the Limitations of Behavior Cloning
for Autonomous Driving, 2019; against it TransFuser (Chitta et al., 2022) creeps after 55 s.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_raster.ego_history import EgoState

WAITING_MPS = 0.3
"""Slower is waiting: who creeps has not set off. To the guard standing is less than that."""

GOING_M = 10.0
"""Candidates that end nearer stay: at a red light creeping up to the line is staying, too."""

SET_OFF_M, SET_OFF_S = 0.5, 2.0
"""So do those that have not come so far by then. A plan lives for half a second at most: who always
plans to set off in two seconds never does."""

LONGEST_GAP_S = 1.0
"""Between two plans. Who planned nothing for longer was not waiting, but switched off, or somebody
else drove."""

LOSS_PER_S = 0.05
LARGEST_LOSS = 1.0
"""Of the default bundle's scores, measured at stops: going is 0.25 below staying without a reason,
1.3 and more at red lights and behind others."""


class Patience:
    """Counts how long the ego stands."""

    def __init__(self, patience_s: float) -> None:
        """Takes the time after which candidates that stay begin to lose score."""
        self._patience_s = patience_s
        self._stands_since_ns: int | None = None
        self._planned_ns = 0

    def losses(
        self, ego: EgoState, places_m: npt.NDArray[np.floating], dt_s: float
    ) -> npt.NDArray[np.float32]:
        """Returns (K,) what to take from the scores.

        Args:
            ego: Now; a stamp from before the last one, or long after it, means a new wait.
            places_m: (K, T, 2) where the candidates get to, ego frame.
            dt_s: Step; the first place is that far ahead.
        """
        since_ns = self._stands_since_ns
        if abs(ego.vx_mps) > WAITING_MPS:
            since_ns = None
        elif since_ns is None or not 0 <= ego.stamp_ns - self._planned_ns <= LONGEST_GAP_S * 1e9:
            since_ns = ego.stamp_ns
        self._stands_since_ns, self._planned_ns = since_ns, ego.stamp_ns
        waited_s = 0.0 if since_ns is None else 1e-9 * (ego.stamp_ns - since_ns)
        loss = np.clip(LOSS_PER_S * (waited_s - self._patience_s), 0.0, LARGEST_LOSS)
        away_m = np.hypot(*np.moveaxis(places_m, -1, 0))
        soon = min(max(1, round(SET_OFF_S / dt_s)), away_m.shape[1]) - 1
        stays = (away_m[:, -1] < GOING_M) | (away_m[:, soon] < SET_OFF_M)
        return np.where(stays, loss, 0.0).astype(np.float32)
