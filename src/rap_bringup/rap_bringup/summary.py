"""What a replay measured, computed from streams of stamps: pure functions, no ROS.

Definitions, as in `summary.json`:

- A *step* is an instant for which a trajectory is due: an image of the anchor camera where the bag
  has cameras, else an objects message (thinned to the raster node's `rate_hz` where they come
  faster). Steps are known by their header stamps.
- A step is *answered* by the first `rap/trajectory` whose header stamp is the step's.
- `latency_ms`: wall time from publishing the step's last message to receiving that trajectory.
- `max_gap_s`: largest distance between the stamps of successive answered steps, in drive time; the
  stretches before the first and after the last answered step count too.
- `ade_3s_m`: mean over steps of the mean distance between the best-scored candidate of
  `rap/candidates` at 0.5, 1.0, .. 3.0 s and the logged odometry at those times. Only steps with a
  driven path of 3 s after them count. `ade_3s_constant_velocity_m`: the same steps, with the
  odometry's velocity vector continued in a straight line.
- `feature_source`: slots of `rap/features` messages by where their features came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rap_raster.ego_history import MAX_GAP_S, EgoState
from rap_raster.features import FeatureSource
from rap_raster.frames import FloatArray

ADE_HORIZON_S = 3.0
ADE_STEP_S = 0.5

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The best-scored candidate of one step.

    Attributes:
        stamp_ns: The step's stamp.
        dt_s: Time between poses; pose k is at the stamp plus (k + 1) dt_s.
        points_m: (T, 2) metres, map frame.
        command_source: "command", "route" or "none".
        inference_ms: Time of the planner network alone.
    """

    stamp_ns: int
    dt_s: float
    points_m: FloatArray
    command_source: str
    inference_ms: float


class DrivenPath:
    """The logged odometry, looked up by stamp."""

    def __init__(self, states: Sequence[EgoState]) -> None:
        """Takes states in stamp order."""
        self._stamps = np.array([state.stamp_ns for state in states], dtype=np.int64)
        # Once for all lookups, which are many: drives last for hours.
        self._known_ns = (self._stamps - self._stamps[:1]).astype(np.float64)
        self._places = (
            np.array([(state.x_m, state.y_m) for state in states]).reshape(-1, 2).T.copy()
        )
        velocities = [_map_velocity(state) for state in states]
        self._velocities = np.array(velocities).reshape(-1, 2).T.copy()

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Says whether the path is known from `start_ns` to `end_ns` without a hole."""
        if len(self._stamps) < 2 or start_ns < self._stamps[0] or end_ns > self._stamps[-1]:
            return False
        first = int(np.searchsorted(self._stamps, start_ns, side="right")) - 1
        last = int(np.searchsorted(self._stamps, end_ns, side="left"))
        return bool((np.diff(self._stamps[first : last + 1]) <= MAX_GAP_S * NS_PER_S).all())

    def places(self, stamps_ns: Sequence[int]) -> FloatArray:
        """Returns (len(stamps_ns), 2) places, linear between odometry samples."""
        return self._interpolated(stamps_ns, self._places)

    def velocity(self, stamp_ns: int) -> FloatArray:
        """Returns the (2,) velocity in the map frame, metres per second."""
        result: FloatArray = self._interpolated([stamp_ns], self._velocities)[0]
        return result

    def _interpolated(self, stamps_ns: Sequence[int], columns: FloatArray) -> FloatArray:
        wanted = (np.asarray(stamps_ns, dtype=np.int64) - self._stamps[0]).astype(np.float64)
        return np.column_stack([np.interp(wanted, self._known_ns, column) for column in columns])


def _map_velocity(state: EgoState) -> tuple[float, float]:
    cos, sin = np.cos(state.yaw_rad), np.sin(state.yaw_rad)
    return (
        float(cos * state.vx_mps - sin * state.vy_mps),
        float(sin * state.vx_mps + cos * state.vy_mps),
    )


def horizon_stamps(stamp_ns: int) -> list[int]:
    """Returns the stamps 0.5, 1.0, .. 3.0 s after a step."""
    count = round(ADE_HORIZON_S / ADE_STEP_S)
    return [stamp_ns + round((k + 1) * ADE_STEP_S * NS_PER_S) for k in range(count)]


def plan_error_m(plan: Plan, path: DrivenPath) -> float | None:
    """Returns the mean distance of a plan to the driven path over 3 s.

    Returns:
        Metres; None where the plan is shorter than 3 s or the driven path is not known so far.
    """
    stamps = horizon_stamps(plan.stamp_ns)
    times_s = (np.arange(len(plan.points_m)) + 1) * plan.dt_s
    if not path.covers(plan.stamp_ns, stamps[-1]) or times_s[-1] < ADE_HORIZON_S - 1e-6:
        return None
    start = path.places([plan.stamp_ns])
    known_s = np.concatenate([[0.0], times_s])
    known_m = np.concatenate([start, plan.points_m])
    wanted_s = (np.array(stamps) - plan.stamp_ns) / NS_PER_S
    planned = np.column_stack([np.interp(wanted_s, known_s, column) for column in known_m.T])
    return float(np.linalg.norm(planned - path.places(stamps), axis=1).mean())


def constant_velocity_error_m(stamp_ns: int, path: DrivenPath) -> float | None:
    """Returns the mean distance of a straight continuation to the driven path over 3 s, or None."""
    stamps = horizon_stamps(stamp_ns)
    if not path.covers(stamp_ns, stamps[-1]):
        return None
    elapsed_s = (np.array(stamps) - stamp_ns) / NS_PER_S
    planned = path.places([stamp_ns]) + elapsed_s[:, None] * path.velocity(stamp_ns)
    return float(np.linalg.norm(planned - path.places(stamps), axis=1).mean())


def displacement_errors(
    plans: Sequence[Plan], path: DrivenPath
) -> tuple[float | None, float | None, int]:
    """Averages plan and constant-velocity errors over the same steps.

    Returns:
        plan_m: Mean error of the plans, or None where no step has a driven path of 3 s.
        constant_velocity_m: Mean error of constant velocity at the same steps, or None.
        count: How many steps were averaged.
    """
    pairs = []
    for plan in plans:
        error_m = plan_error_m(plan, path)
        reference_m = constant_velocity_error_m(plan.stamp_ns, path)
        if error_m is not None and reference_m is not None:
            pairs.append((error_m, reference_m))
    if not pairs:
        return None, None, 0
    means = np.mean(pairs, axis=0)
    return float(means[0]), float(means[1]), len(pairs)


def largest_gap_s(steps_ns: Sequence[int], answered_ns: Sequence[int]) -> float | None:
    """Returns the longest stretch of drive time between answered steps; None if none was.

    Args:
        steps_ns: Stamps of all steps, increasing.
        answered_ns: Stamps of the answered ones.
    """
    if not answered_ns:
        return None
    marks = [steps_ns[0], *sorted(answered_ns), steps_ns[-1]]
    return float(np.diff(np.array(marks, dtype=np.int64)).max()) / NS_PER_S


def percentiles_ms(latencies_ms: Sequence[float]) -> dict[str, float | None]:
    """Returns median and 99th percentile; None where nothing was measured."""
    if not latencies_ms:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


def count_sources(sources: Sequence[Sequence[int]]) -> dict[str, int]:
    """Counts the slots of all features messages by source.

    Args:
        sources: Per message, the `FeatureSource` code of each slot.
    """
    codes = np.array([code for message in sources for code in message], dtype=np.int64)
    return {
        "camera": int((codes == FeatureSource.CAMERA).sum()),
        "raster": int((codes == FeatureSource.RASTER).sum()),
        "missing": int((codes == FeatureSource.MISSING).sum()),
    }


def command_source(plans: Sequence[Plan]) -> str:
    """Returns where the command came from: the one source, "none", or both joined by a plus."""
    return "+".join(sorted({plan.command_source for plan in plans})) or "none"


def summarize(
    *,
    steps_ns: Sequence[int],
    latencies_ms: Mapping[int, float],
    plans: Sequence[Plan],
    sources: Sequence[Sequence[int]],
    path: DrivenPath,
) -> dict[str, object]:
    """Computes the measured part of `summary.json`; see the module's text for the definitions.

    Args:
        steps_ns: Stamps of all steps, increasing.
        latencies_ms: Stamp to latency of every step that was answered.
        plans: Best candidates by step.
        sources: Sources of the slots of every features message.
        path: Logged odometry.
    """
    known = set(steps_ns)
    answered = [stamp for stamp in latencies_ms if stamp in known]
    due = [plan for plan in plans if plan.stamp_ns in known]
    ade_m, reference_m, ade_steps = displacement_errors(due, path)
    gap_s = largest_gap_s(steps_ns, answered)
    return {
        "steps": len(steps_ns),
        "frames": len(steps_ns),
        "trajectories": len(answered),
        "max_gap_s": None if gap_s is None else round(gap_s, 3),
        "latency_ms": percentiles_ms([latencies_ms[stamp] for stamp in answered]),
        "planner_ms": percentiles_ms([plan.inference_ms for plan in due]),
        "feature_source": count_sources(sources),
        "command_source": command_source(due),
        "ade_3s_m": _rounded(ade_m),
        "ade_3s_constant_velocity_m": _rounded(reference_m),
        "ade_steps": ade_steps,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
