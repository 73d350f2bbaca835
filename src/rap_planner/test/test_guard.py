from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rap_planner.candidates import Candidates
from rap_planner.guard import Check, Guard, GuardDecision, GuardLimits, GuardState
from rap_planner.route import Command
from rap_raster.ego_history import EgoState

SECOND = 1_000_000_000
CYCLE = SECOND // 20
LIMITS = GuardLimits()
SPEED_MPS = 10.0


def odometry(now_ns: int) -> EgoState:
    return EgoState(now_ns, SPEED_MPS * now_ns / SECOND, 0.0, 1.0, 0.0, SPEED_MPS, 0.0, 0.0)


def candidates(stamp_ns: int) -> Candidates:
    """Two candidates straight ahead at constant speed; the second one is the best."""
    ego = odometry(stamp_ns)
    poses = np.zeros((2, 10, 3))
    poses[:, :, 0] = ego.x_m + SPEED_MPS * 0.5 * np.arange(1, 11)
    poses[0, :, 1] = 3.0
    scores = np.array([0.1, 0.9], np.float32)
    return Candidates(stamp_ns, ego, 0.5, poses, scores, 0.0, Command.UNKNOWN, "none", 1.0)


def cycles(guard: Guard, start_ns: int, count: int, newest: Candidates | None):
    """Runs cycles with fresh odometry and candidates that do not change."""
    return [
        guard.step(now, newest, odometry(now))
        for now in range(start_ns, start_ns + count * CYCLE, CYCLE)
    ]


def test_waiting_says_what_is_missing_and_publishes_no_trajectory():
    guard = Guard(LIMITS)
    nothing = guard.step(0, None, None)
    assert (nothing.state, nothing.trajectory) == (GuardState.WAITING, None)
    assert nothing.reason == "no candidates yet"
    no_odometry = guard.step(CYCLE, candidates(0), None)
    assert (no_odometry.state, no_odometry.trajectory) == (GuardState.WAITING, None)
    assert no_odometry.reason == "no odometry yet"


def test_a_check_without_its_input_is_not_checked_never_ok():
    checks = Guard(LIMITS).step(0, None, None).checks
    assert checks["candidates"] is Check.FAILED
    for name in ("finite", "candidate_age", "odometry_age", "drivable_area", "collision"):
        assert checks[name] is Check.NOT_CHECKED
    checks = Guard(LIMITS).step(0, candidates(0), odometry(0)).checks
    assert checks["finite"] is checks["candidate_age"] is checks["odometry_age"] is Check.OK
    assert checks["drivable_area"] is checks["collision"] is Check.NOT_CHECKED


def test_nominal_passes_the_best_candidate_densely_with_the_stamp_of_its_input():
    decision = Guard(LIMITS).step(CYCLE, candidates(0), odometry(CYCLE))
    assert decision.state is GuardState.NOMINAL
    assert decision.candidate_index == 1
    assert decision.candidate_age_s == pytest.approx(0.05)
    trajectory = decision.trajectory
    assert trajectory is not None
    assert trajectory.stamp_ns == 0
    expected = np.stack([np.arange(1, 51) * 0.1 * SPEED_MPS, np.zeros(50), np.zeros(50)], axis=1)
    np.testing.assert_allclose(trajectory.poses_m, expected, atol=1e-9)
    assert trajectory.z_m == 1.0


def test_late_candidates_are_held_for_the_hold_time_and_then_the_vehicle_stops():
    guard = Guard(LIMITS)
    decisions = cycles(guard, 0, 24, candidates(0))
    states = [decision.state for decision in decisions]
    # Fresh until 0.5 s (11 cycles), held for 0.3 s more (6 cycles), then stopping.
    assert states == (
        [GuardState.NOMINAL] * 11 + [GuardState.HOLD_LAST] * 6 + [GuardState.CONTROLLED_STOP] * 7
    )
    held = decisions[16]
    assert held.trajectory is decisions[0].trajectory
    assert held.checks["candidate_age"] is Check.FAILED
    assert held.reason.startswith("candidates: 0.80 s old, limit 0.50 s")


def stop_after_candidates_ended() -> tuple[Guard, list[GuardDecision]]:
    guard = Guard(LIMITS)
    return guard, cycles(guard, 0, 200, candidates(0))


def test_the_stop_goes_on_from_the_last_path_without_a_jump_and_ends_standing():
    """Positions of successive stop trajectories belong to one motion: they agree in time."""
    _, decisions = stop_after_candidates_ended()
    begin = next(i for i, d in enumerate(decisions) if d.state is GuardState.CONTROLLED_STOP)
    first, later = decisions[begin].trajectory, decisions[begin + 20].trajectory
    assert first is not None
    assert later is not None
    assert first.stamp_ns == begin * CYCLE
    np.testing.assert_allclose(first.poses_m[10:], later.poses_m[:-10], atol=1e-9)
    x_now_m = SPEED_MPS * begin * CYCLE / SECOND
    speeds = np.diff(np.concatenate([[x_now_m], first.poses_m[:, 0]])) / 0.1
    assert speeds[0] == pytest.approx(SPEED_MPS, abs=0.05)
    assert (np.diff(speeds) <= 1e-9).all()
    final = decisions[-1].trajectory
    assert final is not None
    assert np.ptp(final.poses_m[:, 0]) == pytest.approx(0.0, abs=1e-9)


def test_a_stop_ends_only_after_several_good_cycles():
    guard, _ = stop_after_candidates_ended()
    start_ns = 200 * CYCLE
    decisions = cycles(guard, start_ns, 4, candidates(start_ns))
    assert [d.state for d in decisions[:2]] == [GuardState.CONTROLLED_STOP] * 2
    assert decisions[0].reason == "recovering: 1 of 3 good cycles"
    assert [d.state for d in decisions[2:]] == [GuardState.NOMINAL] * 2


def test_one_bad_cycle_starts_the_count_anew():
    guard, _ = stop_after_candidates_ended()
    start_ns = 200 * CYCLE
    cycles(guard, start_ns, 2, candidates(start_ns))
    guard.step(start_ns + 2 * CYCLE, candidates(0), odometry(start_ns + 2 * CYCLE))
    decisions = cycles(guard, start_ns + 3 * CYCLE, 3, candidates(start_ns + 3 * CYCLE))
    assert [d.state for d in decisions] == [
        GuardState.CONTROLLED_STOP,
        GuardState.CONTROLLED_STOP,
        GuardState.NOMINAL,
    ]


@pytest.mark.parametrize("broken", ["pose", "score", "ego"])
def test_candidates_with_nan_are_never_followed(broken):
    guard = Guard(LIMITS)
    good = guard.step(0, candidates(0), odometry(0))
    bad = candidates(CYCLE)
    if broken == "pose":
        bad.poses_m[1, 4, 0] = np.nan
    elif broken == "score":
        bad.scores[0] = np.nan
    else:
        bad = replace(bad, ego=replace(bad.ego, x_m=np.nan))
    decision = guard.step(CYCLE, bad, odometry(CYCLE))
    assert decision.state is GuardState.HOLD_LAST
    assert decision.checks["finite"] is Check.FAILED
    assert "not finite" in decision.reason
    assert decision.trajectory is good.trajectory


def test_stale_odometry_fails_although_candidates_are_fresh():
    guard = Guard(LIMITS)
    guard.step(0, candidates(0), odometry(0))
    decision = guard.step(8 * CYCLE, candidates(8 * CYCLE), odometry(0))
    assert decision.state is GuardState.HOLD_LAST or decision.state is GuardState.CONTROLLED_STOP
    assert decision.checks["odometry_age"] is Check.FAILED
    assert decision.reason.startswith("odometry: 0.40 s old, limit 0.30 s")


def test_inputs_from_the_future_point_to_use_sim_time():
    decision = Guard(LIMITS).step(0, candidates(SECOND), odometry(0))
    assert decision.state is GuardState.WAITING
    assert decision.reason == "candidates: stamped 1.00 s ahead of the clock (use_sim_time set?)"


def test_a_clock_that_jumps_back_starts_the_guard_anew():
    guard, _ = stop_after_candidates_ended()
    decision = guard.step(CYCLE, None, odometry(CYCLE))
    assert (decision.state, decision.trajectory) == (GuardState.WAITING, None)
