"""Situations that the tests of the guard share: a straight drive along x at constant speed."""

from __future__ import annotations

import numpy as np

from rap_planner.candidates import Candidates
from rap_planner.guard import Guard, GuardDecision, GuardInputs
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.observations import TrackedObjects
from rap_raster.scene import Boxes, Lights

SECOND = 1_000_000_000
CYCLE = SECOND // 20
SPEED_MPS = 10.0
DT_S, STEPS = 0.5, 10


def odometry(now_ns: int, speed_mps: float = SPEED_MPS) -> EgoState:
    return EgoState(now_ns, speed_mps * now_ns / SECOND, 0.0, 1.0, 0.0, speed_mps, 0.0, 0.0)


def candidates_of(poses_m: np.ndarray, scores: list[float], ego: EgoState) -> Candidates:
    return Candidates(
        stamp_ns=ego.stamp_ns,
        ego=ego,
        dt_s=DT_S,
        poses_m=poses_m,
        scores=np.array(scores, np.float32),
        uncertainty=0.0,
        command=Command.UNKNOWN,
        command_source="none",
        inference_ms=1.0,
        camera_sources=np.ones(3, np.uint8),
        alignment_distance=float("nan"),
    )


def candidates(stamp_ns: int, speed_mps: float = SPEED_MPS) -> Candidates:
    """Two candidates at constant speed; the second one is the best, the first one drifts left."""
    ego = odometry(stamp_ns, speed_mps)
    poses = np.zeros((2, STEPS, 3))
    poses[:, :, 0] = ego.x_m + speed_mps * DT_S * np.arange(1, STEPS + 1)
    poses[0, :, 1] = 0.1 * np.arange(1, STEPS + 1)
    return candidates_of(poses, [0.1, 0.9], ego)


def gaining(stamp_ns: int, gain_mps2: float) -> Candidates:
    """One candidate straight ahead that gains speed, or loses it until it stands."""
    ego = odometry(stamp_ns)
    times_s = DT_S * np.arange(1, STEPS + 1)
    if gain_mps2 < 0.0:
        times_s = np.minimum(times_s, -SPEED_MPS / gain_mps2)
    poses = np.zeros((1, STEPS, 3))
    poses[0, :, 0] = ego.x_m + SPEED_MPS * times_s + 0.5 * gain_mps2 * times_s**2
    return candidates_of(poses, [1.0], ego)


def objects(stamp_ns: int, *rows: tuple[float, ...]) -> TrackedObjects:
    """Cars of 4 by 2 m from x, y, yaw, vx, vy."""
    boxes = Boxes.from_rows(
        [(i + 1, 1, x, y, 0.8, 4.0, 2.0, 1.6, yaw, vx, vy) for i, (x, y, yaw, vx, vy) in
         enumerate(rows)]
    )  # fmt: skip
    ones = np.ones(len(boxes), np.float32)
    return TrackedObjects(stamp_ns, boxes, Lights.empty(), 0 * ones, ones)


def inputs(
    now_ns: int, newest: Candidates | None, seen: TrackedObjects | None = None
) -> GuardInputs:
    """Fresh odometry, and the odometry that belongs to the candidates."""
    then = None if newest is None else odometry(newest.stamp_ns)
    return GuardInputs(newest, odometry(now_ns), then, seen)


def cycles(
    guard: Guard, start_ns: int, count: int, newest: Candidates | None
) -> list[GuardDecision]:
    """Runs cycles with fresh odometry and candidates that do not change."""
    return [
        guard.step(now, inputs(now, newest))
        for now in range(start_ns, start_ns + count * CYCLE, CYCLE)
    ]
