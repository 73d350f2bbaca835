"""Each check against cases that were computed another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from guard_cases import (
    CYCLE,
    SECOND,
    candidates,
    candidates_of,
    gaining,
    inputs,
    objects,
    odometry,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_planner.bicycle import BicycleLimits, demands
from rap_planner.candidates import Candidates
from rap_planner.checks import Check, CheckLimits
from rap_planner.collision import DRIFT, TOUCH, Clearance, ObjectMotion, contacts
from rap_planner.drivable import CELL_M, DrivableArea
from rap_planner.guard import Guard, GuardDecision, GuardInputs, GuardSettings
from rap_planner.stop import StopProfile
from rap_raster.ego_history import EgoState
from rap_raster.scene import PolygonKind, Shapes
from rap_raster.vehicle import VehicleDimensions

TIMES_S = 0.1 * np.arange(51)
LIMITS = BicycleLimits()


def asked(poses_m: np.ndarray, speed_mps: float) -> dict[str, float]:
    return {d.name: float(d.values[0]) for d in demands(poses_m[None], speed_mps, LIMITS)}


def circle(speed_mps: float, radius_m: float) -> np.ndarray:
    yaw = speed_mps / radius_m * TIMES_S
    return np.stack([radius_m * np.sin(yaw), radius_m * (1 - np.cos(yaw)), yaw], axis=1)


@pytest.mark.parametrize(("speed_mps", "radius_m"), [(5.0, 8.0), (10.0, -30.0), (3.0, 5.0)])
def test_a_circle_asks_for_its_curvature_and_its_centripetal_acceleration(speed_mps, radius_m):
    """The chord of 0.1 s is shorter than the arc by less than 0.1 %."""
    demand = asked(circle(speed_mps, radius_m), speed_mps)
    assert demand["curvature"] == pytest.approx(1 / abs(radius_m), rel=2e-3)
    assert demand["lateral acceleration"] == pytest.approx(speed_mps**2 / abs(radius_m), rel=2e-3)
    assert demand["slip"] == pytest.approx(0.0, abs=1e-9)
    assert demand["acceleration"] == pytest.approx(0.0, abs=0.1)
    assert demand["steering rate"] == pytest.approx(0.0, abs=1e-9)


def test_the_tightest_curve_is_that_of_the_steering_stop():
    """Textbook bicycle: radius of the rear axle = wheel base / tan(steering angle)."""
    radius_m = LIMITS.wheel_base_m / np.tan(LIMITS.max_steering_rad)
    within, beyond = (asked(circle(4.0, share * radius_m), 4.0) for share in (1.01, 0.97))
    assert within["curvature"] < LIMITS.curvature_per_m < beyond["curvature"]


@pytest.mark.parametrize(("gain_mps2", "name"), [(3.0, "acceleration"), (-2.0, "braking")])
def test_constant_acceleration_is_measured_exactly(gain_mps2, name):
    x_m = 12.0 * TIMES_S + 0.5 * gain_mps2 * TIMES_S**2
    demand = asked(np.stack([x_m, 0 * x_m, 0 * x_m], axis=1), 12.0)
    assert demand[name] == pytest.approx(abs(gain_mps2))


def test_a_trajectory_that_begins_at_another_speed_asks_for_a_jolt():
    """From 12 to 10 m/s at once: within the half step of 0.05 s that is 40 m/s2."""
    x_m = 10.0 * TIMES_S
    demand = asked(np.stack([x_m, 0 * x_m, 0 * x_m], axis=1), 12.0)
    assert demand["braking"] == pytest.approx(40.0)


def test_a_steering_ramp_is_measured_as_its_rate():
    """A bicycle at 6 m/s, integrated finely, that turns its wheels by 0.1 rad/s."""
    fine_s = np.arange(0.0, 5.0 + 1e-9, 0.001)
    yaw = np.cumsum(6.0 * np.tan(0.1 * fine_s) / LIMITS.wheel_base_m) * 0.001
    x_m, y_m = np.cumsum(6.0 * np.cos(yaw)) * 0.001, np.cumsum(6.0 * np.sin(yaw)) * 0.001
    demand = asked(np.stack([x_m, y_m, yaw], axis=1)[::100], 6.0)
    assert demand["steering rate"] == pytest.approx(0.1, rel=0.02)


def test_sliding_and_rolling_backwards_are_seen():
    sliding = asked(np.stack([5.0 * TIMES_S, 2.0 * TIMES_S, 0 * TIMES_S], axis=1), 5.0)
    assert sliding["slip"] == pytest.approx(np.arctan2(2.0, 5.0))
    rolling = asked(np.stack([-0.3 * TIMES_S, 0 * TIMES_S, 0 * TIMES_S], axis=1), 0.0)
    assert rolling["reverse"] == pytest.approx(1.5)


def test_a_vehicle_that_stands_neither_slides_nor_turns():
    """Each step is as small as noise at a crawl; together they are no way of a car."""
    slides = asked(np.stack([0 * TIMES_S, 0.4 * TIMES_S, 0 * TIMES_S], axis=1), 0.0)
    assert slides["slip"] < LIMITS.slip_rad
    assert slides["sliding aside"] == pytest.approx(0.4 * TIMES_S[-1])
    turns = asked(np.stack([0 * TIMES_S, 0 * TIMES_S, 0.25 * TIMES_S], axis=1), 0.0)
    assert turns["curvature"] < LIMITS.curvature_per_m
    assert turns["turning on the spot"] == pytest.approx(0.25 * TIMES_S[-1])
    rng = np.random.default_rng(0)
    noise = asked(0.02 * rng.normal(size=(len(TIMES_S), 3)) * [1.0, 1.0, 0.5], 0.0)
    assert noise["sliding aside"] < LIMITS.reverse_m
    assert noise["turning on the spot"] < LIMITS.slip_rad


@given(st.floats(0.05, 12.0), st.floats(0.005, 0.95), st.sampled_from([-1.0, 1.0]))
def test_whatever_a_bicycle_drives_it_neither_slides_nor_turns_on_the_spot(speed_mps, share, side):
    """Not quite the tightest curve, since chords are shorter than arcs."""
    demand = asked(circle(speed_mps, side / (share * LIMITS.curvature_per_m)), speed_mps)
    assert demand["sliding aside"] < 0.05
    assert demand["turning on the spot"] < 0.02


BODY = VehicleDimensions(4.8, 2.0, 1.6, 1.4)


def rectangle(x: float, y: float, yaw: float, length: float, width: float) -> shapely.Polygon:
    box = shapely.box(-0.5 * length, -0.5 * width, 0.5 * length, 0.5 * width)
    cos, sin = np.cos(yaw), np.sin(yaw)
    return shapely.affinity.affine_transform(box, [cos, -sin, sin, cos, x, y])


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.floats(-8, 20), st.floats(-6, 6), st.floats(-4, 4)),
    st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
    st.sampled_from([TOUCH, Clearance(1.0, 0.2), Clearance(0.3, 1.5)]),
)
def test_contacts_are_those_of_the_exact_rectangles(pose, velocity, clearance):
    """The reference moves shapely rectangles and knows no excuse but those that are stated."""
    times_s = 0.2 * np.arange(12)
    ego = np.stack([6.0 * times_s, 0 * times_s, 0.03 * times_s], axis=1)
    obstacles = ObjectMotion().obstacles(objects(0, (*pose, *velocity)))
    found = contacts(ego[None], times_s, BODY, obstacles, clearance)

    def ego_box(x: float, y: float, yaw: float, share: float = 1.0) -> shapely.Polygon:
        ahead = BODY.rear_axle_to_center_m
        x, y = x + ahead * np.cos(yaw), y + ahead * np.sin(yaw)
        length = 4.8 + 2 * share * clearance.ahead_m
        return rectangle(x, y, yaw, length, 2.0 + 2 * share * clearance.aside_m)

    others = [
        rectangle(pose[0] + velocity[0] * t, pose[1] + velocity[1] * t, pose[2], 4.0, 2.0)
        for t in times_s
    ]
    gaps = np.array([ego_box(*e).distance(o) for e, o in zip(ego, others, strict=True)])
    nearly = ego_box(*ego[0], 1.0 + DRIFT)
    if nearly.intersects(others[0]) or np.abs(gaps - 1e-6).min() < 1e-6:
        return  # too close from the beginning, of which the next tests tell; or on the edge
    stays = [ego_box(*ego[0]).intersects(other) for other in others]
    comes = velocity[0] > 0.5 and abs(np.arctan2(velocity[1], velocity[0])) <= np.radians(60.0)
    follower = pose[0] < BODY.rear_axle_to_center_m and comes and any(stays)
    hits = (gaps == 0.0) & (not follower)
    assert found.found[0] == hits.any()
    if hits.any():
        assert found.times_s[0] == pytest.approx(times_s[hits.argmax()])


def test_who_is_too_close_already_must_not_come_closer():
    """A car stands half a metre before the bumper, one metre being the least."""
    times_s = 0.2 * np.arange(16)
    front_m = BODY.rear_axle_to_center_m + 0.5 * BODY.length_m
    obstacles = ObjectMotion().obstacles(objects(0, (front_m + 0.5 + 2.0, 0.0, 0.0, 0.0, 0.0)))

    def creeps(by_m: float) -> bool:
        ego = np.stack([np.linspace(0.0, by_m, 16), 0 * times_s, 0 * times_s], axis=1)
        return bool(contacts(ego[None], times_s, BODY, obstacles, Clearance(1.0, 0.2)).found[0])

    assert [creeps(by_m) for by_m in (-3.0, 0.05, 0.3, 2.0)] == [False, False, True, True]


REAR_M = BODY.rear_axle_to_center_m - 0.5 * BODY.length_m
CENTER_M = BODY.rear_axle_to_center_m


def turning_left(speed_mps: float, radius_m: float) -> np.ndarray:
    yaw = speed_mps * 0.2 * np.arange(16) / radius_m
    return np.stack([radius_m * np.sin(yaw), radius_m * (1.0 - np.cos(yaw)), yaw], axis=1)


@pytest.mark.parametrize(
    ("car", "rolls_back", "turns", "goes_on"),
    [
        # Behind by 0.3 m: only who rolls back meets it.
        ((REAR_M - 2.3, 0.0, 0.0, 0.0, 0.0), True, False, False),
        # Beside, its centre 0.3 m behind ours, 0.15 m away, standing and moving.
        ((CENTER_M - 0.3, 2.15, 0.0, 0.0, 0.0), True, True, False),
        ((CENTER_M - 2.0, 2.5, -0.06, 5.0, -0.3), True, True, False),
        # In our lane and faster: its own fault, whatever we do but roll back.
        ((-15.0, 0.0, 0.0, 18.0, 0.0), True, False, False),
    ],
)
def test_who_is_behind_is_no_excuse_for_moving_towards_it(car, rolls_back, turns, goes_on):
    times_s = 0.2 * np.arange(16)
    obstacles = ObjectMotion().obstacles(objects(0, car))
    back = np.stack([-0.2 * times_s, 0.05 * times_s, 0 * times_s], axis=1)
    ahead = np.stack([5.0 * times_s, 0 * times_s, 0 * times_s], axis=1)
    ways = np.stack([back, turning_left(5.0, 12.0), ahead])
    found = contacts(ways, times_s, BODY, obstacles, Clearance(1.0, 0.2)).found
    assert found.tolist() == [rolls_back, turns, goes_on]


@pytest.mark.parametrize("clearance", [TOUCH, Clearance(1.0, 0.2)])
def test_who_overlaps_already_must_not_be_driven_through(clearance):
    """A box that reaches 5 cm into ours: its size is not known better; leaving is allowed."""
    front_m = CENTER_M + 0.5 * BODY.length_m
    obstacles = ObjectMotion().obstacles(objects(0, (front_m - 0.05 + 2.0, 0.0, 0.0, 0.0, 0.0)))
    times_s = 0.2 * np.arange(16)
    found = [
        contacts(
            np.stack([by_m * times_s / 3.0, 0 * times_s, 0 * times_s], axis=1)[None],
            times_s, BODY, obstacles, clearance,
        ).found[0]
        for by_m in (-3.0, 0.09, 0.5, 6.0)
    ]  # fmt: skip
    assert found == [False, False, True, True]


def driving(*cars: tuple[float, ...]) -> np.ndarray:
    times_s = 0.2 * np.arange(16)
    ego = np.stack([10.0 * times_s, 0 * times_s, 0 * times_s], axis=1)
    standing = np.zeros_like(ego)
    obstacles = ObjectMotion().obstacles(objects(0, *cars))
    return contacts(np.stack([ego, standing]), times_s, BODY, obstacles).found


def test_who_is_hit_and_who_is_excused():
    assert driving((25.0, 0.0, 0.0, 0.0, 0.0)).tolist() == [True, False]  # A car that stands.
    assert driving((-15.0, 0.0, 0.0, 18.0, 0.0)).tolist() == [False, False]  # One from behind.
    assert driving((2.0, 1.9, 0.0, 0.0, 0.0)).tolist() == [False, False]  # Contact already.
    assert driving((15.0, -12.0, 1.57, 0.0, 8.0)).tolist() == [True, False]  # Crossing.
    assert driving((20.0, 3.5, 0.0, 10.0, 0.0)).tolist() == [False, False]  # The next lane.
    assert driving().tolist() == [False, False]


def test_an_object_that_turns_goes_on_turning():
    """A car on a circle of 20 m radius at 8 m/s: 0.4 rad/s, and after 2 s it is on the circle."""
    motion, rate = ObjectMotion(), 0.4

    def seen(t: float) -> tuple[float, ...]:
        yaw = rate * t
        x, y = 20 * np.sin(yaw), 20 * (1 - np.cos(yaw))
        return (x, y, yaw, 8 * np.cos(yaw), 8 * np.sin(yaw))

    for k in range(6):
        obstacles = motion.obstacles(objects(k * SECOND // 10, seen(0.1 * k)))
    assert obstacles.turns_radps[0] == pytest.approx(rate, rel=1e-6)
    np.testing.assert_allclose(obstacles.poses_at(np.array([2.0]))[0, 0], seen(2.5)[:3], atol=1e-6)


def test_an_object_that_brakes_brakes_on_until_it_stands():
    """A car brakes with 2 m/s2 on a curve; its path is integrated in small steps."""
    motion, braking, curvature = ObjectMotion(), 2.0, 0.03
    steps_s = 0.001
    speeds = np.maximum(8.0 - braking * steps_s * np.arange(8000), 0.0)
    yaws = np.cumsum(speeds * curvature * steps_s)
    path = np.cumsum(speeds[:, None] * np.c_[np.cos(yaws), np.sin(yaws)] * steps_s, axis=0)
    for k in range(6):
        at = 100 * k
        velocity = speeds[at] * np.array([np.cos(yaws[at]), np.sin(yaws[at])])
        obstacles = motion.obstacles(objects(k * SECOND // 10, (*path[at], yaws[at], *velocity)))
    assert obstacles.brakings_mps2[0] == pytest.approx(braking, rel=1e-3)
    for after_s in (0.0, 1.0, 2.5, 6.0):
        expected = [*path[500 + int(1000 * after_s)], yaws[500 + int(1000 * after_s)]]
        pose = obstacles.poses_at(np.array([after_s]))[0, 0]
        np.testing.assert_allclose(
            pose, expected, atol=0.15
        )  # turns are those of half a baseline ago
    assert ObjectMotion().obstacles(objects(0, (0.0, 0.0, 0.0, 8.0, 0.0))).brakings_mps2[0] == 0.0


STAR = [(0, 0), (40, 5), (70, -20), (60, 30), (20, 60), (25, 25), (-30, 40)]


def test_the_road_grid_is_the_polygon_to_half_a_cell():
    area = DrivableArea(Shapes.from_list([(PolygonKind.DRIVABLE, np.c_[STAR, np.zeros(7)])]))
    points = np.random.default_rng(0).uniform([-40, -30], [80, 70], (4000, 2))
    polygon = shapely.Polygon(STAR)
    exact = shapely.contains_xy(polygon, points)
    clear = shapely.distance(polygon.exterior, shapely.points(points)) > CELL_M
    np.testing.assert_array_equal(area.contains(points)[clear], exact[clear])
    assert 0.2 < exact.mean() < 0.8


def test_polygons_that_share_an_edge_leave_no_gap_and_other_kinds_are_no_road():
    left = (PolygonKind.DRIVABLE, [(0, 0, 0), (33.3, 1, 0), (30, 9, 0), (0, 9, 0)])
    right = (PolygonKind.INTERSECTION, [(33.3, 1, 0), (90, 0, 0), (90, 9, 0), (30, 9, 0)])
    bump = (PolygonKind.SPEED_BUMP, [(0, 20, 0), (90, 20, 0), (90, 30, 0)])
    area = DrivableArea(Shapes.from_list([left, right, bump]))
    x = np.linspace(1, 89, 3000)
    assert area.contains(np.stack([x, np.full_like(x, 5.0)], axis=1)).all()
    assert not area.contains(np.stack([x, np.full_like(x, 22.0)], axis=1)).any()
    assert DrivableArea(Shapes.from_list([bump])).is_empty


def straight_road() -> DrivableArea:
    """8 m wide."""
    ring = [(-50.0, -4.0, 0.0), (150.0, -4.0, 0.0), (150.0, 4.0, 0.0), (-50.0, 4.0, 0.0)]
    return DrivableArea(Shapes.from_list([(PolygonKind.DRIVABLE, ring)]))


def on_road(ego_y_m: float, *drifts_mps: float) -> GuardDecision:
    """The ego, 2.3 m wide, drives along the road and drifts; the first candidate is the best."""
    ego = EgoState(0, 0.0, ego_y_m, 0.0, 0.0, 10.0, 0.0, 0.0)
    times_s = 0.5 * np.arange(1, 11)
    poses = np.array(
        [
            np.stack([10.0 * times_s, ego_y_m + drift_mps * times_s, 0 * times_s], axis=1)
            for drift_mps in drifts_mps
        ]
    )
    newest = candidates_of(poses, [-float(k) for k in range(len(poses))], ego)
    return Guard(GuardSettings()).step(0, GuardInputs(newest, ego, ego, None, straight_road()))


@pytest.mark.parametrize(
    ("ego_y_m", "drift_mps", "expected"),
    [
        (0.0, 0.0, Check.OK),
        (0.0, 1.0, Check.OK),  # its corner is at 3 + 1.15 - 0.3 = 3.85 m after 3 s
        (0.0, 1.3, Check.FAILED),
        (4.0, -1.0, Check.OK),  # half off the road, coming back
        (4.0, 0.0, Check.OK),  # half off, no farther
        (4.0, 1.0, Check.FAILED),
        (3.3, -0.2, Check.OK),  # 0.45 m off
        (3.3, 0.2, Check.FAILED),  # the same corners are off, but farther
    ],
)
def test_the_way_off_the_road_is_closed_and_the_way_back_is_open(ego_y_m, drift_mps, expected):
    assert on_road(ego_y_m, drift_mps).checks["drivable_area"] is expected


def test_the_margin_at_the_edge_is_used_only_where_there_is_no_better_way():
    assert on_road(2.0, 0.35).candidate_index == 0  # 0.2 m over the edge after 3 s
    assert on_road(2.0, 0.35, 0.1).candidate_index == 1
    assert on_road(2.0, 0.35, 1.3).candidate_index == 0


@pytest.mark.parametrize(
    ("speed_mps", "ways", "expected"),
    [
        (0.0, [(4.0, 0.15), (0.0, 0.0)], 0),  # Standing is no better way to get on.
        (1.0, [(4.0, 0.15), (0.5, 0.0)], 0),
        (0.0, [(4.0, 0.15), (0.0, 0.0), (3.0, 0.0)], 2),
        (0.0, [(0.0, 0.0), (4.0, 0.0)], 0),  # Who is to stand stands.
        (5.0, [(5.0, 0.15), (0.5, 0.0)], 1),  # Slower, there may be a way that does not need it.
    ],
)
def test_nobody_who_hardly_moves_stays_to_spare_the_margin_at_the_edge(speed_mps, ways, expected):
    """Ways have a speed after two seconds and a drift; the best one is the first."""
    ego = EgoState(0, 0.0, 2.5, 0.0, 0.0, speed_mps, 0.0, 0.0)
    times_s = 0.5 * np.arange(1, 11)
    changing_s = np.minimum(times_s, 2.0)
    poses = np.array(
        [
            np.stack(
                [
                    speed_mps * changing_s
                    + (later_mps - speed_mps) * changing_s**2 / 4.0
                    + later_mps * (times_s - changing_s),
                    2.5 + drift_mps * times_s,
                    0.0 * times_s,
                ],
                axis=1,
            )
            for later_mps, drift_mps in ways
        ]
    )
    newest = candidates_of(poses, [-float(k) for k in range(len(poses))], ego)
    seen = GuardInputs(newest, ego, ego, None, straight_road())
    assert Guard(GuardSettings()).step(0, seen).candidate_index == expected


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x_m": 0.7}, "start: position 0.70 m from odometry, limit 0.50"),
        ({"yaw_rad": 0.3}, "start: heading 0.30 rad from odometry, limit 0.20"),
        ({"vx_mps": 12.0}, "start: speed 2.00 m/s from odometry, limit 1.50"),
    ],
)
def test_candidates_must_begin_where_odometry_was_at_their_stamp(change, text):
    there = replace(odometry(0), **change)
    decision = Guard(GuardSettings()).step(0, GuardInputs(candidates(0), odometry(0), there))
    assert (decision.checks["start"], decision.reason) == (Check.FAILED, text)


def test_a_sudden_shift_is_seen_at_matching_times_and_not_by_a_later_stamp_alone():
    guard = Guard(GuardSettings())
    guard.step(0, inputs(0, candidates(0)))
    same = guard.step(2 * CYCLE, inputs(2 * CYCLE, candidates(2 * CYCLE)))
    assert same.checks["shift"] is Check.OK
    both = candidates(4 * CYCLE)
    both.poses_m[:, :, 1] += 3.0  # within half a second: no car can
    decision = guard.step(4 * CYCLE, inputs(4 * CYCLE, both))
    assert decision.checks["shift"] is Check.FAILED
    assert decision.outcomes["shift"].verdict.text(1).startswith("candidate 1: shift of 3.")


def shift_of(guard: Guard, now_ns: int, age_ns: int, gain_mps2: float) -> Check:
    plan = gaining(now_ns - age_ns, gain_mps2)
    outcomes = guard.step(now_ns, inputs(now_ns, plan)).outcomes
    assert outcomes["feasibility"].result(0) is Check.OK
    return outcomes["shift"].result(0)


@pytest.mark.parametrize("age_ns", [0, 2 * CYCLE, 5 * CYCLE, 9 * CYCLE])
def test_braking_is_no_sudden_shift_nor_is_going_on_after_it_but_a_leap_ahead_is(age_ns):
    now = 20 * CYCLE
    guard = Guard(GuardSettings())
    assert shift_of(guard, now - CYCLE, age_ns, 0.0) is Check.NOT_CHECKED
    assert shift_of(guard, now, age_ns, -5.0) is Check.OK
    for gain_mps2, expected in ((4.9, Check.FAILED), (0.0, Check.OK)):
        assert shift_of(guard, now + CYCLE, age_ns, gain_mps2) is expected


@pytest.mark.parametrize("age_ns", [0, 2 * CYCLE, 5 * CYCLE, 9 * CYCLE])
@pytest.mark.parametrize(("speed_mps", "radius_m"), [(5.0, 8.0), (6.0, 10.0)])
def test_braking_on_the_same_arc_is_no_sudden_shift_and_leaving_it_is(age_ns, speed_mps, radius_m):
    now = 20 * CYCLE
    ego = replace(odometry(now - age_ns), vx_mps=speed_mps)

    def arc(gain_mps2: float, left_m: float) -> Candidates:
        times_s = np.minimum(0.5 * np.arange(1, 11), speed_mps / max(-gain_mps2, 1e-9))
        yaw = (speed_mps * times_s + 0.5 * gain_mps2 * times_s**2) / radius_m
        x, y = radius_m * np.sin(yaw), radius_m * (1.0 - np.cos(yaw)) + left_m * times_s
        return candidates_of(np.stack([ego.x_m + x, y, yaw], axis=1)[None], [1.0], ego)

    for gain_mps2, left_m, expected in ((-5.0, 0.0, Check.OK), (0.0, 1.6, Check.FAILED)):
        guard = Guard(GuardSettings())
        guard.step(now, GuardInputs(arc(0.0, 0.0), replace(ego, stamp_ns=now), ego))
        later = now + CYCLE
        newest = GuardInputs(arc(gain_mps2, left_m), replace(ego, stamp_ns=later), ego)
        assert guard.step(later, newest).outcomes["shift"].result(0) is expected


@pytest.mark.parametrize(
    ("change", "name", "expected"),
    [
        ({"camera_sources": np.array([1, 2, 1], np.uint8)}, "cameras", Check.OK),
        ({"camera_sources": np.array([1, 0, 1], np.uint8)}, "cameras", Check.FAILED),
        ({"camera_sources": np.zeros(0, np.uint8)}, "cameras", Check.NOT_CHECKED),
        ({"alignment_distance": 0.9}, "alignment", Check.OK),
        ({"alignment_distance": 1.1}, "alignment", Check.FAILED),
        ({"alignment_distance": float("inf")}, "alignment", Check.FAILED),
        ({"alignment_distance": float("nan")}, "alignment", Check.NOT_CHECKED),
        ({"uncertainty": 0.9}, "uncertainty", Check.FAILED),
        ({"uncertainty": float("nan")}, "uncertainty", Check.NOT_CHECKED),
    ],
)
def test_what_the_planner_saw_and_how_sure_it_is(change, name, expected):
    newest = replace(candidates(0), **change)
    assert Guard(GuardSettings()).step(0, inputs(0, newest)).checks[name] is expected


@given(st.floats(0, 30), st.floats(0, 6), st.floats(0.5, 7), st.floats(0.5, 15))
def test_a_stop_that_begins_braking_loses_exactly_its_speed(speed_mps, begin_mps2, most, jerk):
    """Speed and deceleration by differences of the distance."""
    profile = StopProfile(speed_mps, most, jerk, begin_mps2)
    times_s = np.linspace(0.0, profile.duration_s + 0.5, 4001)
    dt_s = times_s[1]
    speeds = np.diff(profile.distance_m(times_s)) / dt_s
    assert speeds[-1] == pytest.approx(0.0, abs=1e-4)
    assert speeds.min() > -1e-3
    assert speeds[0] == pytest.approx(speed_mps, abs=8 * dt_s + 1e-9)
    assert (-np.diff(speeds) / dt_s).max() < max(most, begin_mps2) + 0.05


@settings(deadline=None)
@given(
    st.floats(3.0, 35.0), st.floats(0.5, 35.0), st.floats(-1.5, 1.5), st.sampled_from([0.0, 0.3])
)
def test_headway_is_the_distance_of_responsibility_sensitive_safety(
    speed_mps, leader_mps, spare_m, delay_s
):
    """v r + v^2 / 2b - w^2 / 2b (definition 1, with no acceleration within the response time r).

    Response: two cycles of the guard, half of the time that brakes take, and the vehicle's delay.
    """
    braking = BicycleLimits().braking_mps2
    wanted_m = (0.3 + delay_s) * speed_mps + (speed_mps**2 - leader_mps**2) / (2.0 * braking)
    gap_m = max(wanted_m, 0.0) + spare_m
    body = VehicleDimensions(4.0, 2.0, 1.6, 1.0)
    guard = Guard(GuardSettings(CheckLimits(response_delay_s=delay_s, body=body)))
    seen = objects(0, (1.0 + 2.0 + gap_m + 2.0, 0.0, 0.0, leader_mps, 0.0))
    ego = odometry(0, speed_mps)
    found = guard.step(0, GuardInputs(candidates(0, speed_mps), ego, ego, seen))
    # Looked at every 0.2 s, and by who has stopped as well as by who still rolls.
    if spare_m > 0.3:
        assert found.checks["headway"] is Check.OK
    elif spare_m < -0.6 and gap_m > 0.2:
        assert found.checks["headway"] is Check.FAILED
        text = found.outcomes["headway"].verdict.text(0)
        assert text == "candidate 0: could not stop behind object 1 if that braked"


@pytest.mark.parametrize("way_rad", [np.pi, 0.5 * np.pi])
def test_headway_is_kept_to_who_drives_ahead_alone(way_rad):
    """Who comes towards the ego or crosses is left to `collision`."""
    seen = objects(0, (16.0, 0.0, way_rad, 8.0 * np.cos(way_rad), 8.0 * np.sin(way_rad)))
    found = Guard(GuardSettings()).step(0, inputs(0, candidates(0), seen))
    assert found.checks["headway"] is Check.OK
