from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_cases import (
    CYCLE,
    DT_S,
    SECOND,
    SPEED_MPS,
    STEPS,
    candidates,
    candidates_of,
    cycles,
    gaining,
    inputs,
    objects,
    odometry,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_planner.bicycle import BicycleLimits, demands, lateral_acceleration_mps2
from rap_planner.candidates import Candidates
from rap_planner.checks import CHECKS, DEFAULT_MODES, Check, Mode
from rap_planner.guard import Guard, GuardDecision, GuardInputs, GuardSettings, GuardState
from rap_raster.ego_history import EgoState
from rap_raster.vehicle import PACIFICA

SETTINGS = GuardSettings()
BICYCLE = BicycleLimits()


def test_waiting_says_what_is_missing_and_lets_the_vehicle_stand():
    guard = Guard(SETTINGS)
    nothing = guard.step(7, GuardInputs())
    assert (nothing.state, nothing.reason) == (GuardState.WAITING, "no candidates yet")
    # Without odometry nobody knows where the vehicle is; its own frame says "here" all the same.
    assert (nothing.trajectory.in_map, nothing.trajectory.stamp_ns) == (False, 7)
    np.testing.assert_array_equal(nothing.trajectory.poses_m, [[0.0, 0.0, 0.0]])
    somewhere = guard.step(SECOND, GuardInputs(odometry=odometry(SECOND)))
    assert (somewhere.trajectory.in_map, somewhere.trajectory.stamp_ns) == (True, SECOND)
    np.testing.assert_array_equal(somewhere.trajectory.poses_m, [[SPEED_MPS, 0.0, 0.0]])
    no_odometry = Guard(SETTINGS).step(0, GuardInputs(candidates(0)))
    assert (no_odometry.state, no_odometry.reason) == (GuardState.WAITING, "no odometry yet")


def test_a_check_without_its_input_is_not_checked_and_never_ok():
    checks = Guard(SETTINGS).step(0, GuardInputs(candidates(0), odometry(0))).checks
    assert list(checks) == list(CHECKS)
    without_input = ("start", "shift", "drivable_area", "collision", "headway", "alignment")
    for name, check in checks.items():
        assert check is (Check.NOT_CHECKED if name in without_input else Check.OK), name
    seen = Guard(SETTINGS).step(0, inputs(0, candidates(0), objects(0))).checks
    assert seen["start"] is seen["collision"] is Check.OK


def test_nominal_passes_the_best_candidate_densely_with_the_stamp_of_its_input():
    decision = Guard(SETTINGS).step(CYCLE, inputs(CYCLE, candidates(0)))
    assert (decision.state, decision.candidate_index) == (GuardState.NOMINAL, 1)
    assert decision.candidate_age_s == pytest.approx(0.05)
    assert (decision.trajectory.stamp_ns, decision.trajectory.z_m) == (0, 1.0)
    expected = np.stack([np.arange(1, 51) * 0.1 * SPEED_MPS, np.zeros(50), np.zeros(50)], axis=1)
    np.testing.assert_allclose(decision.trajectory.poses_m, expected, atol=1e-9)


def test_the_next_best_candidate_is_followed_before_anything_is_held():
    """The best one runs into a standing car 25 m ahead; the other one goes around it."""
    both = candidates(0)
    both.poses_m[0, :, 1] = np.minimum(1.0 * np.arange(1, 11), 4.0)
    decision = Guard(SETTINGS).step(0, inputs(0, both, objects(0, (25.0, 0.0, 0.0, 0.0, 0.0))))
    assert (decision.state, decision.candidate_index) == (GuardState.NOMINAL, 0)
    assert decision.checks["collision"] is Check.OK
    assert decision.outcomes["collision"].result(1) is Check.FAILED


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.OFF])
def test_a_check_in_shadow_reports_and_one_that_is_off_does_not_and_neither_acts(mode):
    modes = {**DEFAULT_MODES, "collision": mode}
    guard = Guard(replace(SETTINGS, modes=modes))
    decision = guard.step(0, inputs(0, candidates(0), objects(0, (25.0, 0.0, 0.0, 0.0, 0.0))))
    assert (decision.state, decision.candidate_index) == (GuardState.NOMINAL, 1)
    expected = {Mode.SHADOW: Check.FAILED, Mode.OFF: Check.NOT_CHECKED}
    assert decision.checks["collision"] is expected[mode]


def test_late_candidates_are_held_for_the_hold_time_and_then_the_vehicle_stops():
    decisions = cycles(Guard(SETTINGS), 0, 24, candidates(0))
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
    guard = Guard(SETTINGS)
    return guard, cycles(guard, 0, 200, candidates(0))


def test_the_stop_goes_on_from_the_last_path_without_a_jump_and_ends_standing():
    """Positions of successive stop trajectories belong to one motion: they agree in time."""
    _, decisions = stop_after_candidates_ended()
    begin = next(i for i, d in enumerate(decisions) if d.state is GuardState.CONTROLLED_STOP)
    first, later = decisions[begin].trajectory, decisions[begin + 20].trajectory
    assert first.stamp_ns == begin * CYCLE
    np.testing.assert_allclose(first.poses_m[10:], later.poses_m[:-10], atol=1e-9)
    x_now_m = SPEED_MPS * begin * CYCLE / SECOND
    speeds = np.diff(np.concatenate([[x_now_m], first.poses_m[:, 0]])) / 0.1
    assert speeds[0] == pytest.approx(SPEED_MPS, abs=0.05)
    assert (np.diff(speeds) <= 1e-9).all()
    assert np.ptp(decisions[-1].trajectory.poses_m[:, 0]) == pytest.approx(0.0, abs=1e-9)


def test_a_stop_never_begins_before_it_was_decided_however_old_the_odometry_is():
    """Else its first poses would stand still, and the next ones jump to the speed of the stop."""
    guard = Guard(SETTINGS)
    cycles(guard, 0, 4, candidates(0))
    late = [
        guard.step(now, GuardInputs(candidates(0), odometry(now - SECOND // 4)))
        for now in range(10 * CYCLE, 22 * CYCLE, CYCLE)
    ]
    stops = [d.trajectory for d in late if d.state is GuardState.CONTROLLED_STOP]
    assert len(stops) > 3
    for stop in stops:
        speeds_mps = np.diff(stop.poses_m[:, 0]) / 0.1
        assert speeds_mps[0] > SPEED_MPS - 1.5
        assert (np.diff(speeds_mps) < 1e-6).all()


def test_a_stop_ends_only_after_several_good_cycles():
    guard, _ = stop_after_candidates_ended()
    start_ns = 200 * CYCLE
    decisions = cycles(guard, start_ns, 4, candidates(start_ns))
    assert [d.state for d in decisions[:2]] == [GuardState.CONTROLLED_STOP] * 2
    assert decisions[0].reason == "recovering: 1 of 3 good cycles"
    assert [d.state for d in decisions[2:]] == [GuardState.NOMINAL] * 2
    assert decisions[2].trajectory.stamp_ns == start_ns


def test_one_bad_cycle_starts_the_count_anew():
    guard, _ = stop_after_candidates_ended()
    start_ns = 200 * CYCLE
    cycles(guard, start_ns, 2, candidates(start_ns))
    guard.step(start_ns + 2 * CYCLE, inputs(start_ns + 2 * CYCLE, candidates(0)))
    decisions = cycles(guard, start_ns + 3 * CYCLE, 3, candidates(start_ns + 3 * CYCLE))
    stop = GuardState.CONTROLLED_STOP
    assert [d.state for d in decisions] == [stop, stop, GuardState.NOMINAL]


def test_a_stop_that_lasts_becomes_a_request_that_only_standing_ends():
    guard = Guard(replace(SETTINGS, mrm_after_s=2.0, mrm_resume_cycles=5))
    decisions = cycles(guard, 0, 60, candidates(0))
    assert decisions[17].state is GuardState.CONTROLLED_STOP
    assert decisions[57].state is GuardState.CONTROLLED_STOP  # 2.0 s after it began at 0.85 s
    assert decisions[58].state is GuardState.MRM_REQUEST
    assert decisions[58].reason.startswith("stop lasts longer than 2.0 s; candidates: 2.90 s old")
    start_ns = 60 * CYCLE
    moving = cycles(guard, start_ns, 10, candidates(start_ns))
    assert {d.state for d in moving} == {GuardState.MRM_REQUEST}
    states = []
    for now in range(start_ns + SECOND, start_ns + SECOND + 5 * CYCLE, CYCLE):
        ego = odometry(now, 0.0)
        still = candidates_of(np.tile(ego.planar, (1, 10, 1)), [0.0], ego)
        states.append(guard.step(now, GuardInputs(still, ego, ego)).state)
    assert states == [GuardState.MRM_REQUEST] * 4 + [GuardState.NOMINAL]


def requesting() -> Guard:
    guard = Guard(replace(SETTINGS, mrm_after_s=0.0))
    assert cycles(guard, 0, 30, candidates(0))[-1].state is GuardState.MRM_REQUEST
    return guard


def test_a_new_route_makes_a_standing_vehicle_forget_request_and_path():
    guard = requesting()
    now = 30 * CYCLE
    guard.step(now, GuardInputs(candidates(0), odometry(now, 0.0), odometry(0)))
    guard.new_route()
    after = cycles(guard, 31 * CYCLE, 1, candidates(0))[0]
    assert (after.state, len(after.trajectory.poses_m)) == (GuardState.WAITING, 1)
    assert cycles(guard, 32 * CYCLE, 1, candidates(32 * CYCLE))[0].state is GuardState.NOMINAL


def test_a_new_route_at_speed_goes_on_with_the_stop_until_plans_are_good_again():
    guard = requesting()
    guard.new_route()
    after = cycles(guard, 30 * CYCLE, 1, candidates(0))[0]
    assert after.state is GuardState.MRM_REQUEST
    assert len(after.trajectory.poses_m) > 1
    states = [d.state for d in cycles(guard, 31 * CYCLE, 3, candidates(31 * CYCLE))]
    assert states == [GuardState.MRM_REQUEST] * 2 + [GuardState.NOMINAL]


def test_a_route_from_before_a_request_does_not_end_it():
    guard = Guard(replace(SETTINGS, mrm_after_s=1.0))
    assert cycles(guard, 0, 20, candidates(0))[-1].state is GuardState.CONTROLLED_STOP
    guard.new_route()
    assert cycles(guard, 20 * CYCLE, 30, candidates(0))[-1].state is GuardState.MRM_REQUEST
    good = cycles(guard, 50 * CYCLE, 10, candidates(50 * CYCLE))
    assert {d.state for d in good} == {GuardState.MRM_REQUEST}


def test_in_a_request_as_well_somebody_in_the_way_is_braked_for():
    ends_m = []
    for there in ((), ((31.0, 0.0, 0.0, 0.0, 0.0),)):
        guard = Guard(replace(SETTINGS, mrm_after_s=0.2))
        decisions = cycles(guard, 0, 26, candidates(0))
        assert decisions[-1].state is GuardState.MRM_REQUEST
        now = 26 * CYCLE
        decision = guard.step(now, inputs(now, candidates(0), objects(now, *there)))
        ends_m.append(decision.trajectory.poses_m[-1, 0])
    assert ends_m[1] < ends_m[0] - 2.0


@pytest.mark.parametrize("late_s", [1.2, 30.0])
def test_a_request_outlasts_a_cycle_that_comes_late(late_s):
    guard = requesting()
    now = 30 * CYCLE + round(late_s * SECOND)
    states = [d.state for d in cycles(guard, now, 10, candidates(now))]
    assert set(states) == {GuardState.MRM_REQUEST}


def test_candidates_stamped_ahead_do_not_take_the_place_of_those_of_now():
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, candidates(0)))
    ahead = guard.step(CYCLE, inputs(CYCLE, candidates(CYCLE + 18 * CYCLE)))
    assert ahead.state is GuardState.NOMINAL
    assert cycles(guard, 2 * CYCLE, 1, candidates(2 * CYCLE))[0].candidate_age_s == 0.0


def test_who_waits_without_fresh_odometry_stands_in_the_vehicles_own_frame():
    decision = Guard(SETTINGS).step(20 * SECOND, GuardInputs(odometry=odometry(0)))
    assert (decision.trajectory.in_map, decision.trajectory.stamp_ns) == (False, 20 * SECOND)


def bend(now: int, side: float) -> Candidates:
    """An arc of 66 m radius, 1.5 m/s2 across: arcs to both sides are 1.5 m apart after 1 s."""
    ego, radius_m = odometry(now), side * SPEED_MPS**2 / 1.5
    yaw = SPEED_MPS * DT_S * np.arange(1, STEPS + 1) / radius_m
    poses = np.stack([ego.x_m + radius_m * np.sin(yaw), radius_m * (1.0 - np.cos(yaw)), yaw], 1)
    return candidates_of(poses[None], [1.0], ego)


def test_after_a_new_route_plans_may_leave_the_followed_one_for_a_second():
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, bend(0, 1.0)))
    assert guard.step(CYCLE, inputs(CYCLE, bend(CYCLE, -1.0))).checks["shift"] is Check.FAILED
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, bend(0, 1.0)))
    guard.new_route()
    after = [
        guard.step(now, inputs(now, bend(now, (-1.0) ** step))).state
        for step, now in enumerate(range(CYCLE, 30 * CYCLE, CYCLE))
    ]
    changed = after.index(GuardState.HOLD_LAST)
    assert (changed + 1) * CYCLE == SECOND + CYCLE
    assert set(after[:changed]) == {GuardState.NOMINAL}


def test_routes_that_go_on_every_second_do_not_switch_continuity_off():
    guard, checked = Guard(SETTINGS), []
    for step in range(1, 200):
        if step % 20 == 0:
            guard.new_route()
        now = step * CYCLE
        checks = guard.step(now, inputs(now, candidates(now))).checks
        checked.append(checks["shift"] is not Check.NOT_CHECKED)
    assert sum(checked) > 0.85 * len(checked)


def blocked(ahead_m: float) -> GuardDecision:
    """Candidates stop coming at 0, and a car stands some way ahead from then on."""
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, candidates(0)))
    for now in range(CYCLE, 20 * CYCLE, CYCLE):
        decision = guard.step(
            now, inputs(now, candidates(0), objects(now, (ahead_m, 0.0, 0.0, 0.0, 0.0)))
        )
        if decision.state in {GuardState.CONTROLLED_STOP, GuardState.MRM_REQUEST}:
            return decision
    raise AssertionError("no stop")


def test_a_stop_is_as_gentle_as_what_stands_in_the_way_allows():
    """At 10 m/s braking at 2.5 m/s2 takes 28 m, at 7 m/s2 less than 10 m."""
    free, near, too_near = blocked(80.0), blocked(30.0), blocked(12.0)
    braking = [
        demands(np.concatenate([d.trajectory.poses_m[:1], d.trajectory.poses_m])[None, 1:], 10.0,
                BICYCLE)[1].values[0]
        for d in (free, near)
    ]  # fmt: skip
    assert braking[0] == pytest.approx(2.5, abs=0.1)
    assert 3.0 < braking[1] < 1.05 * BICYCLE.braking_mps2
    assert (free.state, near.state) == (GuardState.CONTROLLED_STOP,) * 2
    assert too_near.state is GuardState.MRM_REQUEST
    assert too_near.reason.startswith("stop meets object 1 in ")


@pytest.mark.parametrize("broken", ["pose", "score", "far", "ego"])
def test_what_is_no_usable_number_is_never_followed(broken):
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, candidates(0)))
    bad = candidates(CYCLE)
    if broken == "pose":
        bad.poses_m[1, 4, 0] = np.nan
    elif broken == "score":
        bad.scores[1] = np.inf
    elif broken == "far":
        bad.poses_m[1, 4, 0] = 1e9
    else:
        bad = replace(bad, ego=replace(bad.ego, x_m=np.nan))
    decision = guard.step(CYCLE, inputs(CYCLE, bad))
    if broken == "ego":
        assert decision.state is GuardState.HOLD_LAST
        assert decision.checks["finite"] is Check.FAILED
    else:
        assert (decision.state, decision.candidate_index) == (GuardState.NOMINAL, 0)
    assert np.isfinite(decision.trajectory.poses_m).all()


def test_stale_odometry_fails_although_candidates_are_fresh():
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, candidates(0)))
    now = 8 * CYCLE
    decision = guard.step(now, GuardInputs(candidates(now), odometry(0), odometry(now)))
    assert decision.state is not GuardState.NOMINAL
    assert decision.checks["odometry_age"] is Check.FAILED
    assert decision.reason.startswith("odometry: 0.40 s old, limit 0.30 s")


def test_inputs_from_the_future_point_to_use_sim_time():
    decision = Guard(SETTINGS).step(0, inputs(0, candidates(SECOND)))
    assert decision.state is GuardState.WAITING
    assert decision.reason == "candidates: stamped 1.00 s ahead of the clock (use_sim_time set?)"


@pytest.mark.parametrize("now", [CYCLE, 220 * CYCLE])
def test_a_clock_that_jumps_starts_the_guard_anew(now):
    guard, _ = stop_after_candidates_ended()
    decision = guard.step(now, inputs(now, None))
    assert (decision.state, len(decision.trajectory.poses_m)) == (GuardState.WAITING, 1)


def test_who_was_driven_when_the_clock_jumped_ahead_is_not_left_alone():
    guard, decisions = stop_after_candidates_ended()
    assert decisions[-1].state is GuardState.CONTROLLED_STOP
    late = cycles(guard, 230 * CYCLE, 20, None)
    assert [d.state for d in late] == [GuardState.WAITING] * 7 + [GuardState.MRM_REQUEST] * 13
    assert "the clock jumped while the vehicle moved" in late[-1].reason
    guard, _ = stop_after_candidates_ended()
    states = [
        guard.step(now, replace(inputs(now, None), odometry=odometry(now, 0.0))).state
        for now in range(230 * CYCLE, 250 * CYCLE, CYCLE)
    ]
    assert set(states) == {GuardState.WAITING}  # It has come to stand.
    guard, _ = stop_after_candidates_ended()
    now = 230 * CYCLE
    assert guard.step(now, inputs(now, candidates(now))).state is GuardState.NOMINAL


@pytest.mark.parametrize("late_s", [-0.15, 0.6])
def test_objects_of_another_time_do_not_replace_those_of_now(late_s):
    """A car stands in the way; what is stamped ahead or comes late says that nobody does."""
    guard, now = Guard(SETTINGS), SECOND
    seen = objects(now, (SPEED_MPS + 15.0, 0.0, 0.0, 0.0, 0.0))
    checks = guard.step(now, inputs(now, candidates(now), seen)).checks
    assert checks["collision"] is Check.FAILED
    now += CYCLE
    other = objects(now - round(late_s * SECOND))
    checks = guard.step(now, inputs(now, candidates(now), other)).checks
    assert checks["collision"] is Check.FAILED


def test_a_clock_that_is_set_back_a_little_does_not_end_a_stop():
    guard, decisions = stop_after_candidates_ended()
    now = 198 * CYCLE
    decision = guard.step(now, inputs(now, None))
    assert decision.state is decisions[-1].state is GuardState.CONTROLLED_STOP


def test_someone_in_the_way_of_a_stop_that_has_just_begun_is_braked_for_from_the_full_speed():
    """As if they had been there when it began, one cycle before."""
    for ahead_m, state in ((24.0, GuardState.MRM_REQUEST), (30.0, GuardState.CONTROLLED_STOP)):
        guard = Guard(SETTINGS)
        first = next(
            d for d in cycles(guard, 0, 40, candidates(0)) if d.state is GuardState.CONTROLLED_STOP
        )
        guard = Guard(SETTINGS)
        begin = first.trajectory.stamp_ns
        cycles(guard, 0, begin // CYCLE + 1, candidates(0))
        now = begin + CYCLE
        decision = guard.step(
            now, inputs(now, candidates(0), objects(now, (ahead_m, 0.0, 0.0, 0.0, 0.0)))
        )
        assert decision.state is state
        start_m = odometry(now).planar[None]
        asked = demands(np.concatenate([start_m, decision.trajectory.poses_m])[None], 10.0, BICYCLE)
        assert asked[1].values[0] < 1.05 * BICYCLE.braking_mps2


def test_a_stop_brakes_before_bends_as_hard_as_they_need():
    """A plan that brakes at 4 m/s2 into a bend; a stop at 2.5 m/s2 would be too fast in it."""
    times_s = DT_S * np.arange(1, STEPS + 1)
    dense_s = np.arange(0.0, 5.01, 0.01)
    speeds = np.maximum(SPEED_MPS - 4.0 * dense_s, 3.0)
    along_m = np.concatenate([[0.0], np.cumsum(0.01 * speeds[:-1])])
    yaw = np.maximum(along_m - 11.0, 0.0) / 7.0
    x = np.concatenate([[0.0], np.cumsum(0.01 * speeds[:-1] * np.cos(yaw[:-1]))])
    y = np.concatenate([[0.0], np.cumsum(0.01 * speeds[:-1] * np.sin(yaw[:-1]))])
    at = np.round(times_s / 0.01).astype(int)
    poses_m = np.stack([x, y, yaw], axis=1)[at][None]
    guard = Guard(SETTINGS)
    plan = candidates_of(poses_m, [1.0], odometry(0))
    states = []
    for now in range(0, 30 * CYCLE, CYCLE):
        decision = guard.step(now, GuardInputs(plan, odometry(now), odometry(0)))
        states.append(decision.state)
        if decision.state is GuardState.CONTROLLED_STOP:
            aside_mps2 = lateral_acceleration_mps2(decision.trajectory.poses_m[None])[0]
            assert aside_mps2 <= 1.05 * BICYCLE.lateral_acceleration_mps2
    assert states[0] is GuardState.NOMINAL
    assert GuardState.CONTROLLED_STOP in states


def test_what_is_followed_is_what_was_checked_though_stamps_repeat():
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, candidates(0)))
    guard.step(CYCLE, inputs(CYCLE, gaining(0, 0.0)))
    other = gaining(0, -4.0)
    decision = guard.step(2 * CYCLE, inputs(2 * CYCLE, other))
    assert decision.state is GuardState.NOMINAL
    np.testing.assert_allclose(decision.trajectory.poses_m[4::5, 0], other.poses_m[0, :, 0])


def test_candidates_of_before_do_not_replace_newer_ones():
    guard = Guard(SETTINGS)
    guard.step(2 * CYCLE, inputs(2 * CYCLE, candidates(2 * CYCLE)))
    decision = guard.step(3 * CYCLE, inputs(3 * CYCLE, candidates(CYCLE)))
    assert decision.state is GuardState.NOMINAL
    assert decision.trajectory.stamp_ns == 2 * CYCLE


@pytest.mark.parametrize("velocity_mps", [np.nan, np.inf, 1e30, 1e5])
def test_an_object_of_impossible_velocity_stands(velocity_mps):
    guard = Guard(SETTINGS)
    seen = objects(0, (20.0, 0.0, 0.0, velocity_mps, 0.0))
    decision = guard.step(0, inputs(0, candidates(0), seen))
    assert decision.reason.endswith("meets object 1 in 1.4 s")


def test_of_a_crowd_the_nearest_are_looked_at():
    far = [(300.0 + k, 50.0, 0.0, 0.0, 0.0) for k in range(400)]
    crowd = objects(0, *far[:200], (20.0, 0.0, 0.0, 0.0, 0.0), *far[200:])
    decision = Guard(SETTINGS).step(0, inputs(0, candidates(0), crowd))
    assert decision.reason.endswith("meets object 201 in 1.4 s")


def test_a_waiting_guard_never_takes_a_stamp_from_the_future():
    late = replace(odometry(0), stamp_ns=100 * SECOND)
    decision = Guard(SETTINGS).step(SECOND, GuardInputs(None, late))
    assert decision.trajectory.stamp_ns == SECOND


def test_a_plan_at_another_height_than_the_vehicle_is_not_followed():
    plan = candidates(0)
    plan = replace(plan, ego=replace(plan.ego, z_m=1e300))
    decision = Guard(SETTINGS).step(0, inputs(0, plan))
    assert decision.state is GuardState.WAITING
    assert decision.checks["start"] is Check.FAILED


def test_a_check_that_crashes_stops_the_vehicle_and_not_the_guard(monkeypatch):
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, candidates(0)))
    monkeypatch.setitem(CHECKS, "start", lambda situation, limits: {}["input"])
    decision = guard.step(CYCLE, inputs(CYCLE, candidates(CYCLE)))
    assert decision.state is GuardState.HOLD_LAST
    assert decision.error == "start: check failed to run: KeyError: 'input'"


def test_whatever_breaks_in_the_guard_itself_the_vehicle_is_told_to_stand(monkeypatch):
    guard = Guard(SETTINGS)
    guard.step(0, inputs(0, candidates(0)))
    monkeypatch.setattr("rap_planner.guard.evaluate", lambda *_: 1 / 0)
    decision = guard.step(CYCLE, inputs(CYCLE, candidates(CYCLE)))
    assert decision.state is GuardState.MRM_REQUEST
    assert decision.error == "guard: ZeroDivisionError: division by zero"
    np.testing.assert_array_equal(decision.trajectory.poses_m, [odometry(CYCLE).planar])


NUMBERS = st.one_of(
    st.floats(-50, 50), st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-300])
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, GuardInputs]]:
    """Cycles at any times, with candidates, odometry and objects that may be anything."""
    rows, now_ns = [], 0
    for _ in range(draw(st.integers(1, 6))):
        now_ns += draw(st.sampled_from([CYCLE, CYCLE, 4 * CYCLE, SECOND, -CYCLE]))
        ego = EgoState(now_ns - draw(st.sampled_from([0, CYCLE, SECOND])), *draw(
            st.tuples(*[st.one_of(st.floats(-15, 15), NUMBERS)] * 7)))  # fmt: skip
        good = draw(st.booleans())
        newest = candidates(now_ns)
        if not good:
            newest = replace(newest, ego=replace(ego, stamp_ns=now_ns))
            newest.poses_m[draw(st.integers(0, 1)), draw(st.integers(0, 9))] = draw(
                st.tuples(NUMBERS, NUMBERS, NUMBERS)
            )
            newest.scores[0] = np.clip(draw(NUMBERS), -3e38, 3e38)
        seen = objects(now_ns, draw(st.tuples(*[NUMBERS] * 5)))
        state = odometry(now_ns) if good else ego
        rows.append((now_ns, GuardInputs(newest, state, state, seen)))
    return rows


@settings(max_examples=25, deadline=None)
@given(histories())
def test_whatever_comes_in_what_goes_out_is_finite_and_can_be_driven(history):
    guard = Guard(SETTINGS)
    for now_ns, given_inputs in history:
        decision = guard.step(now_ns, given_inputs)
        poses_m = decision.trajectory.poses_m
        assert decision.state in GuardState
        assert decision.error == ""
        assert np.isfinite(poses_m).all()
        assert np.isfinite(decision.trajectory.z_m)
        if len(poses_m) > 1:
            first_mps = float(np.linalg.norm(poses_m[1, :2] - poses_m[0, :2])) / 0.1
            for asked in demands(poses_m[None], first_mps, BICYCLE):
                assert asked.values[0] <= 1.05 * asked.limit, asked.text(0)


def test_what_meets_somebody_is_not_held():
    """Somebody steps out 20 m ahead: braked for at once, and not after 0.3 s more of going on."""
    guard = Guard(SETTINGS)
    for now in range(0, 5 * CYCLE, CYCLE):
        assert guard.step(now, inputs(now, candidates(0))).state is GuardState.NOMINAL
    now = 5 * CYCLE
    stepped_out = objects(now, (SPEED_MPS * now / SECOND + 25.0, 0.0, 0.0, 0.0, 0.0))
    decision = guard.step(now, inputs(now, candidates(0), stepped_out))
    assert decision.state is GuardState.CONTROLLED_STOP
    assert decision.reason.startswith("candidate 1: meets object 1 in ")


def test_late_in_a_long_stop_somebody_in_the_way_is_braked_for_from_where_the_vehicle_is():
    """From 15 m/s at 2.5 m/s2: six seconds on it rolls beyond what was published first."""
    guard, stop_ns, speed_mps = Guard(SETTINGS), 0, 15.0
    for now in range(0, 200 * CYCLE, CYCLE):
        at_speed = replace(odometry(now, speed_mps), vx_mps=speed_mps)
        seen = GuardInputs(candidates(0, speed_mps), at_speed, odometry(0, speed_mps))
        decision = guard.step(now, seen)
        if decision.state is GuardState.CONTROLLED_STOP:
            stop_ns = stop_ns or now
            if now >= stop_ns + 6 * SECOND:
                break
    before_m = decision.trajectory.poses_m
    now += CYCLE
    ahead_m = float(before_m[0, 0]) + PACIFICA.length_m + 1.5
    decision = guard.step(now, replace(seen, objects=objects(now, (ahead_m, 0.0, 0.0, 0.0, 0.0))))
    after_m = decision.trajectory.poses_m
    assert after_m[0, 0] == pytest.approx(before_m[0, 0], abs=0.2)
    assert after_m[-1, 0] <= before_m[-1, 0]
    assert (np.diff(after_m[:, 0]) >= -1e-9).all()


def behind_who_brakes(speed_mps: float, spare_m: float) -> tuple[list[GuardState], float]:
    """Follows somebody by a plan that never brakes; then that one brakes as hard as the ego can.

    Speed follows what the guard publishes with a delay of 0.3 s. The gap is what `headway` asks
    for, and some more.

    Returns:
        States until both stand, and the smallest gap in metres.
    """
    limits, guard, dt_s, delay_s = SETTINGS.limits, Guard(SETTINGS), CYCLE / SECOND, 0.3
    front_m = limits.body.rear_axle_to_center_m + 0.5 * limits.body.length_m
    x_m, ego_mps, leader_mps = 0.0, speed_mps, speed_mps
    gap_m = least_m = (0.3 + delay_s) * speed_mps + spare_m
    states = []
    for cycle in range(200):
        now = cycle * CYCLE
        ego = EgoState(now, x_m, 0.0, 1.0, 0.0, ego_mps, 0.0, 0.0)
        if cycle % 2 == 0:
            poses = np.zeros((1, STEPS, 3))
            poses[0, :, 0] = x_m + ego_mps * DT_S * np.arange(1, STEPS + 1)
            newest = candidates_of(poses, [1.0], ego)
        leader = (x_m + front_m + gap_m + 2.0, 0.0, 0.0, leader_mps, 0.0)
        decision = guard.step(now, GuardInputs(newest, ego, newest.ego, objects(now, leader)))
        states.append(decision.state)
        elapsed_s = (now - decision.trajectory.stamp_ns) / SECOND
        due_m = decision.trajectory.at(np.array([elapsed_s, elapsed_s + 0.1]))[:, 0]
        wanted_mps = float(np.diff(due_m)[0]) / 0.1
        for _ in range(50):
            ego_mps += (wanted_mps - ego_mps) / delay_s * dt_s / 50
            x_m += ego_mps * dt_s / 50
            gap_m += (leader_mps - ego_mps) * dt_s / 50
        least_m = min(least_m, gap_m)
        if cycle >= 20:
            leader_mps = max(0.0, leader_mps - limits.bicycle.braking_mps2 * dt_s)
    return states, least_m


@pytest.mark.parametrize("speed_mps", [5.0, 10.0, 20.0, 30.0])
@pytest.mark.parametrize("spare_m", [0.4, 1.0, 4.0])
def test_who_kept_its_headway_stops_behind_whoever_brakes(speed_mps, spare_m):
    states, least_m = behind_who_brakes(speed_mps, spare_m)
    assert set(states[:20]) == {GuardState.NOMINAL}
    assert least_m > 0.0


@pytest.mark.parametrize(("speed_mps", "curvature_1pm"), [(8.0, 0.07), (4.0, 0.2), (8.0, -0.07)])
def test_a_plan_made_in_a_turn_goes_on_turning(speed_mps, curvature_1pm):
    """Messages do not tell how the vehicle turned when it planned; odometry at that stamp does."""
    rate = speed_mps * curvature_1pm
    times_s = DT_S * np.arange(1, STEPS + 1)
    yaw = rate * times_s
    circle = [np.sin(yaw) / curvature_1pm, (1.0 - np.cos(yaw)) / curvature_1pm, yaw]
    then = EgoState(SECOND, 0.0, 0.0, 0.0, 0.0, speed_mps, 0.0, rate)
    poses = np.stack(circle, axis=1)[None]
    sent = candidates_of(poses, [1.0], replace(then, yaw_rate_radps=0.0))
    decision = Guard(GuardSettings()).step(SECOND, GuardInputs(sent, then, then))
    assert decision.state is GuardState.NOMINAL, decision.reason
    turned = np.diff(decision.trajectory.poses_m[:, 2], prepend=0.0) / 0.1
    np.testing.assert_allclose(turned[:-5], rate, rtol=0.02)
