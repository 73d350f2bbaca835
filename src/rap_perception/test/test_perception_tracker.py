"""The tracker against the ground truth of simulated motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from rap_perception import ctrv
from rap_perception.objects import ObjectsError
from rap_perception.tracker import Tracker
from rap_raster.frames import wrap_angle
from rap_raster.observations import TrackedObjects
from rap_raster.scene import Boxes, Lights, ObjectClass

DT_S = 0.1
CAR, WALKER = ObjectClass.VEHICLE, ObjectClass.PEDESTRIAN
SIZES = {CAR: (4.5, 1.9, 1.6), ObjectClass.TRUCK: (8.6, 2.2, 3.1), WALKER: (0.6, 0.6, 1.8)}

Motion = Callable[[float], tuple[float, float, float, float, float]]
"""Time to centre x, y, yaw, velocity x, y."""


@dataclass(frozen=True)
class Actor:
    """A road user, where it is when, when it is hidden, and how its detections look."""

    motion: Motion
    kind: ObjectClass = CAR
    hidden_s: tuple[float, float] = (0.0, 0.0)
    position_sigma_m: float = 0.2
    yaw_sigma_rad: float = 0.05
    flips: float = 0.0  # share of detections with front and rear confused


@dataclass(frozen=True)
class Answer:
    """What was reported of one actor at one instant."""

    actor: int
    t_s: float
    id: int
    position_error_m: float
    velocity_error_mps: float
    yaw_error_rad: float
    age_s: float
    existence: float


def straight(x: float, y: float, yaw: float, speed: float) -> Motion:
    vx, vy = speed * np.cos(yaw), speed * np.sin(yaw)
    return lambda t: (x + vx * t, y + vy * t, yaw, vx, vy)


def turning(speed: float, rate: float, axle_m: float = 1.2) -> Motion:
    """The rear axle drives a circle; the centre lies ahead of it and swings outwards."""
    radius = speed / rate

    def motion(t: float) -> tuple[float, float, float, float, float]:
        sin, cos = np.sin(rate * t), np.cos(rate * t)
        x, y = radius * sin + axle_m * cos, radius * (1 - cos) + axle_m * sin
        return x, y, rate * t, speed * cos - rate * axle_m * sin, speed * sin + rate * axle_m * cos

    return motion


def starting(t: float) -> tuple[float, float, float, float, float]:
    """Stands for 3 s, then accelerates by 2 m/s2."""
    moving_s = max(t - 3.0, 0.0)
    return moving_s**2, 0.0, 0.0, 2.0 * moving_s, 0.0


def detection(actor: Actor, t_s: float, rng: np.random.Generator) -> list[float]:
    x, y, yaw, _, _ = actor.motion(t_s)
    dx, dy = rng.normal(0.0, actor.position_sigma_m, 2)
    turn = rng.normal(0.0, actor.yaw_sigma_rad) + np.pi * (rng.random() < actor.flips)
    return [x + dx, y + dy, 0.8, *SIZES[actor.kind], yaw + turn, np.nan, np.nan]


def drive(
    *actors: Actor, seconds: float = 10.0, drop: float = 0.0, seed: int = 0
) -> tuple[list[Answer], Tracker]:
    """Tracks the actors; what is reported farther than 5 m from all of them fails the test."""
    rng, tracker, answers = np.random.default_rng(seed), Tracker(), []
    for step in range(round(seconds / DT_S)):
        t_s = step * DT_S
        seen = [
            [number, actor.kind, *detection(actor, t_s, rng)]
            for number, actor in enumerate(actors, start=1)
            if rng.random() >= drop and not actor.hidden_s[0] <= t_s < actor.hidden_s[1]
        ]
        ones = np.ones(len(seen), np.float32)
        given = TrackedObjects(
            round(t_s * 1e9), Boxes.from_rows(seen), Lights.empty(), 0 * ones, ones
        )
        answers += judged(tracker.update(given), actors, t_s)
    return answers, tracker


def judged(objects: TrackedObjects, actors: tuple[Actor, ...], t_s: float) -> list[Answer]:
    truth = np.array([actor.motion(t_s) for actor in actors])
    answers = []
    for row, box in enumerate(objects.boxes.centers_m):
        distances = np.hypot(*(truth[:, :2] - box[:2]).T)
        actor = int(distances.argmin())
        assert distances[actor] < 5.0
        yaw, velocity = truth[actor, 2], truth[actor, 3:]
        answers.append(
            Answer(
                actor,
                t_s,
                int(objects.boxes.ids[row]),
                float(distances[actor]),
                float(np.hypot(*(objects.boxes.velocities_mps[row] - velocity))),
                float(abs(wrap_angle(objects.boxes.yaws_rad[row] - yaw))),
                float(objects.ages_s[row]),
                float(objects.existences[row]),
            )
        )
    return answers


def ids_of(answers: list[Answer], actor: int = 0) -> set[int]:
    return {answer.id for answer in answers if answer.actor == actor}


def rms(answers: list[Answer], name: str, after_s: float = 1.5) -> float:
    errors = [getattr(answer, name) for answer in answers if answer.t_s >= after_s]
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.parametrize("drop", [0.0, 0.2])
@pytest.mark.parametrize(
    ("actor", "bound_mps"),
    [
        (Actor(straight(0, 0, 0.5, 10)), 0.6),
        (Actor(straight(0, 0, np.pi, 30)), 0.9),
        (Actor(turning(10, 0.4)), 0.7),
        (Actor(turning(4, -0.6, axle_m=2.1), ObjectClass.TRUCK), 0.7),
        (Actor(straight(0, 0, 2.0, 1.4), WALKER, position_sigma_m=0.1, yaw_sigma_rad=0.3), 0.4),
        (Actor(starting), 1.5),
    ],
    ids=["straight", "fast", "turning", "truck", "walking", "starting"],
)
def test_one_id_and_a_velocity_close_to_the_truth(actor, bound_mps, drop):
    """A filter that only differenced positions would be wrong by 2.8 m/s (0.2 m * sqrt 2 / 0.1 s
    for each axis), so the bounds show that it filters; it must also be nearer than a detection."""
    answers, _ = drive(actor, drop=drop)
    assert len(ids_of(answers)) == 1
    assert rms(answers, "velocity_error_mps") < bound_mps
    if actor.motion is not starting:
        assert rms(answers, "position_error_m") < actor.position_sigma_m * np.sqrt(2)
    assert len(answers) >= 95  # from the second detection on, dropped ones included


@pytest.mark.parametrize("seed", range(2))
def test_ids_stay_when_paths_cross_and_a_fifth_of_the_detections_is_missing(seed):
    """Two cars pass each other at 3 m; one crosses behind another; a walker passes a parked car."""
    actors = (
        Actor(straight(-50, 0, 0, 10)),
        Actor(straight(50, 3, np.pi, 10)),
        Actor(straight(0, -62, np.pi / 2, 10)),
        Actor(straight(20, 20, 0, 0)),
        Actor(straight(13, 22.2, 0, 1.4), WALKER, position_sigma_m=0.1, yaw_sigma_rad=0.3),
    )
    answers, _ = drive(*actors, drop=0.2, seed=seed)
    ids = [ids_of(answers, actor) for actor in range(len(actors))]
    assert [len(known) for known in ids] == [1] * len(actors)
    assert len(set.union(*ids)) == len(actors)


@pytest.mark.parametrize("motion", [straight(0, 0, 0, 10), turning(8, 0.3)])
def test_a_second_behind_another_car_is_bridged_with_growing_doubt(motion):
    answers, _ = drive(Actor(motion, hidden_s=(4.0, 5.0)))
    assert len(ids_of(answers)) == 1
    hidden = [answer for answer in answers if 3.95 < answer.t_s < 4.95]
    assert len(hidden) == 10
    assert np.diff([answer.age_s for answer in hidden]) == pytest.approx(DT_S, abs=1e-4)
    assert (np.diff([answer.existence for answer in hidden]) < 0).all()
    assert hidden[-1].existence > 0.5
    assert max(answer.position_error_m for answer in hidden) < 1.5


def test_uncertainty_grows_while_nothing_is_seen_and_the_object_is_dropped_in_the_end():
    actor = Actor(straight(0, 0, 0, 10), hidden_s=(3.0, 99.0))
    spreads = []
    for seconds in (3.0, 3.5, 4.0):
        _, tracker = drive(actor, seconds=seconds)
        spreads.append(tracker.tracks.states.covariance[0, ctrv.X, ctrv.X])
    assert spreads[0] < spreads[1] < spreads[2]
    answers, tracker = drive(actor, seconds=6.0)
    assert 4.0 < answers[-1].t_s < 4.6
    assert len(tracker.tracks) == 0


def test_a_single_false_detection_is_never_reported():
    answers, _ = drive(Actor(straight(0, 0, 0, 5), hidden_s=(0.1, 99.0)))
    assert answers == []


def test_a_parked_car_neither_turns_nor_creeps():
    """For 30 s with a fifth of the detections missing; 2 s of them in a row, too."""
    parked = Actor(straight(10, 5, 1.0, 0.0), hidden_s=(20.0, 21.0))
    answers, _ = drive(parked, seconds=30.0, drop=0.2)
    settled = [answer for answer in answers if answer.t_s >= 1.5]
    assert len(ids_of(answers)) == 1
    assert max(answer.velocity_error_mps for answer in settled) == 0.0
    assert max(answer.yaw_error_rad for answer in settled) < 0.06
    assert max(answer.position_error_m for answer in settled) < 0.4


@pytest.mark.parametrize("speed", [0.0, 8.0])
def test_front_and_rear_confused_now_and_then_do_not_turn_the_object(speed):
    answers, _ = drive(Actor(straight(0, 0, 0.3, speed), flips=0.2), seed=1)
    assert rms(answers, "yaw_error_rad", after_s=3.0) < 0.1
    assert rms(answers, "velocity_error_mps", after_s=3.0) < 0.6


def test_the_motion_settles_what_a_detector_cannot_tell():
    """Headings are a coin toss; whoever drives at 8 m/s drives forwards."""
    answers, _ = drive(Actor(straight(0, 0, 0.3, 8.0), flips=0.5), seconds=6.0, seed=2)
    late = [answer.yaw_error_rad for answer in answers if answer.t_s > 3.0]
    assert np.median(late) < 0.1


def test_a_detector_that_is_sure_may_see_a_car_reverse():
    answers, _ = drive(Actor(straight(0, 0, 0.3, -2.0)))
    assert rms(answers, "yaw_error_rad") < 0.1


def test_known_velocities_are_used_from_the_start():
    row = [9, CAR, 0.0, 0.0, 0.8, *SIZES[CAR], 0.0, 20.0, 0.0]
    one, tracker = np.ones(1, np.float32), Tracker()
    for step in range(2):
        row[2] = 2.0 * step
        seen = TrackedObjects(
            step * 100_000_000, Boxes.from_rows([row]), Lights.empty(), 0 * one, one
        )
        objects = tracker.update(seen)
    np.testing.assert_allclose(objects.boxes.velocities_mps, [[20.0, 0.0]], atol=0.5)


def test_a_car_and_a_walker_at_one_place_are_two():
    actors = (Actor(straight(0, 0, 0, 0)), Actor(straight(0.3, 0, 0, 0), WALKER))
    _, tracker = drive(*actors, seconds=2.0)
    assert sorted(tracker.tracks.classes) == [CAR, WALKER]


def message(t_s: float, *rows: list[float]) -> TrackedObjects:
    boxes = Boxes.from_rows([[number, *row] for number, row in enumerate(rows)])
    ones = np.ones(len(boxes), np.float32)
    return TrackedObjects(round(t_s * 1e9), boxes, Lights.empty(), 0 * ones, ones)


def parked(x: float, y: float = 0.0, kind: ObjectClass = CAR) -> list[float]:
    return [kind, x, y, 0.8, *SIZES.get(kind, (12.0, 2.5, 3.0)), 0.0, np.nan, np.nan]


@pytest.mark.parametrize(("gap_s", "there_m"), [(1.4, 12.0), (2.0, 25.0), (3.0, 30.0)])
def test_who_stands_elsewhere_after_a_gap_is_somebody_else(gap_s, there_m):
    tracker = Tracker()
    for step in range(20):
        before = tracker.update(message(0.1 * step, parked(0.0)))
    after = [tracker.update(message(1.9 + gap_s + 0.1 * k, parked(there_m))) for k in range(8)]
    assert len(after[0].boxes) == 0
    ids = {number for objects in after for number in objects.boxes.ids.tolist()}
    assert ids
    assert ids.isdisjoint(before.boxes.ids.tolist())
    speeds = [np.hypot(*v) for objects in after for v in objects.boxes.velocities_mps]
    assert max(speeds) < 0.1


def test_the_same_message_again_is_no_evidence():
    tracker = Tracker()
    assert len(tracker.update(message(1.0, parked(5.0))).boxes) == 0
    for _ in range(3):
        with pytest.raises(ObjectsError, match="expected later"):
            tracker.update(message(1.0, parked(5.0)))
    assert len(tracker.tracks) == 1
    assert not tracker.tracks.confirmed.any()


def test_a_standing_bus_that_is_called_something_else_stays_where_it_is():
    tracker = Tracker()
    for step in range(60):
        kind = ObjectClass.BUS if step < 30 else ObjectClass.GENERIC
        row = parked(20.0, kind=kind)
        row[4:7] = 12.0, 2.5, 3.0
        found = tracker.update(message(0.1 * step, row))
        if step > 3:
            assert found.boxes.ids.tolist() == [1]
            assert found.boxes.centers_m[0, 0] == pytest.approx(20.0, abs=0.1)
            assert np.hypot(*found.boxes.velocities_mps[0]) < 0.1


@pytest.mark.parametrize("speed", [0.0, 10.0])
def test_of_who_has_just_been_seen_twice_no_great_speed_is_claimed_for_noise(speed):
    """Two places 0.2 m off make 2.8 m/s of noise in a tenth of a second."""
    claimed = []
    for seed in range(60):
        rng, tracker = np.random.default_rng(seed), Tracker()
        for step in range(2):
            x, y = speed * 0.1 * step + rng.normal(0.0, 0.2), rng.normal(0.0, 0.2)
            found = tracker.update(message(0.1 * step, parked(x, y)))
        claimed.append(found.boxes.velocities_mps[0, 0])
    rms_mps = float(np.sqrt(np.mean(np.square(claimed))))
    assert rms_mps < 1.8 if speed == 0.0 else np.mean(claimed) > 6.0


@pytest.mark.parametrize(("period_s", "fast_share"), [(0.1, 0.0), (0.2, 0.02), (0.5, 0.02)])
def test_a_queue_of_which_a_fifth_is_not_seen_stands(period_s, fast_share):
    """Six cars 6 m apart. Seen rarely, a new one may take the place of another: two detections of
    neighbours are what one car that drives would give."""
    speeds, reported = [], []
    for seed in range(8):
        rng, tracker = np.random.default_rng(seed), Tracker()
        for step in range(40):
            rows = [
                parked(6.0 * k + rng.normal(0.0, 0.2), rng.normal(0.0, 0.2))
                for k in range(6)
                if rng.random() > 0.2
            ]
            found = tracker.update(message(period_s * step, *rows))
            speeds += np.hypot(*found.boxes.velocities_mps.T).tolist()
            reported += [len(found.boxes)] if step > 3 else []
    assert np.mean(reported) > 5.5
    assert np.mean(np.array(speeds) > 7.0) <= fast_share


@pytest.mark.parametrize(
    ("period_s", "score", "first"),
    [(0.5, 1.0, 1), (0.2, 1.0, 1), (0.2, 0.6, 2), (0.1, 0.75, 2), (0.1, 0.5, 3), (0.05, 0.6, 2)],
)
def test_what_is_seen_in_every_message_is_reported_at_every_rate_and_score(period_s, score, first):
    """`first`: the message from which on it is; two certain ones are enough, or as much again."""
    tracker, counts, ids = Tracker(), [], set()
    for step in range(20):
        seen = message(period_s * step, parked(20.0, 0.0))
        found = tracker.update(replace(seen, existences=np.full(1, score, np.float32)))
        counts.append(len(found.boxes))
        ids |= set(found.boxes.ids.tolist())
    assert counts == [0] * first + [1] * (20 - first)
    assert len(ids) == 1


@pytest.mark.parametrize("period_s", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("velocity", [50.0, np.nan])
def test_fast_cars_are_followed_at_every_rate(period_s, velocity):
    """Faster than anybody drives but on a motorway; who is not followed is not reported."""
    tracker, found = Tracker(), []
    for step in range(12):
        moved = [CAR, 50.0 * period_s * step, 0.0, 0.8, *SIZES[CAR], 0.0, velocity, 0.0]
        found.append(tracker.update(message(period_s * step, moved)))
    assert [len(objects.boxes) for objects in found[2:]] == [1] * 10
    assert found[-1].boxes.velocities_mps[0, 0] == pytest.approx(50.0, abs=0.5)


def test_a_clock_that_is_set_forgets_everybody_at_once():
    """Without PTP, computers start in 1970: the way from there must not be simulated."""
    tracker = Tracker()
    for stamp_s in (1.0, 1.1, 1.2, 1.7e9, 1.7e9 + 0.1):
        found = tracker.update(message(stamp_s, parked(20.0, 0.0)))
        if stamp_s == 1.7e9:
            assert len(found.boxes) == 0
    assert found.boxes.ids.tolist() == [2]


@pytest.mark.parametrize(
    ("kind", "speed", "seconds"),
    [(WALKER, 1.4, 6.0), (WALKER, 3.0, 6.0), (ObjectClass.GENERIC, 1.4, 6.0),
     (ObjectClass.GENERIC, 8.0, 4.0)],
)  # fmt: skip
@pytest.mark.parametrize("yaw", ["none", "random"])
def test_who_has_no_heading_is_followed_whichever_way_it_goes(kind, speed, seconds, yaw):
    """Cylinders and boxes along the axes: across their heading, from standing at 3 m/s2."""
    rng, tracker, ids, errors_m, speeds = np.random.default_rng(3), Tracker(), set(), [], []
    for step in range(round((2.0 + seconds) / DT_S)):
        moving_s, gaining_s = max(0.0, step * DT_S - 2.0), speed / 3.0
        y = 1.5 * min(moving_s, gaining_s) ** 2 + speed * max(0.0, moving_s - gaining_s)
        row = parked(rng.normal(0.0, 0.1), y + rng.normal(0.0, 0.1), kind)
        row[7] = 0.0 if yaw == "none" else rng.uniform(-np.pi, np.pi)
        found = tracker.update(message(DT_S * step, row))
        ids |= set(found.boxes.ids.tolist())
        if moving_s > gaining_s + 1.0:
            assert len(found.boxes) == 1
            errors_m.append(abs(found.boxes.centers_m[0, 1] - y))
            speeds.append(found.boxes.velocities_mps[0, 1])
    assert len(ids) == 1
    assert max(errors_m) < 0.6
    assert np.median(speeds) == pytest.approx(speed, rel=0.1)


def objects_at(stamp_ns: int) -> TrackedObjects:
    row = [1, CAR, 0.0, 0.0, 0.8, *SIZES[CAR], 0.0, np.nan, np.nan]
    one = np.ones(1, np.float32)
    return TrackedObjects(stamp_ns, Boxes.from_rows([row]), Lights.empty(), 0 * one, one)


def test_late_messages_are_refused_and_a_new_drive_starts_with_new_ids():
    tracker = Tracker()
    for stamp_ns in (5_000_000_000, 5_100_000_000):
        before = tracker.update(objects_at(stamp_ns))
    with pytest.raises(ObjectsError, match=r"stamp is 0\.050 s before that of the last objects"):
        tracker.update(objects_at(5_050_000_000))
    assert len(tracker.update(objects_at(0)).boxes) == 0
    again = tracker.update(objects_at(100_000_000))
    assert again.boxes.ids[0] != before.boxes.ids[0]


def test_prediction_follows_the_circle_and_its_derivative_is_right():
    """Against the closed form of the arc, and against differences of the prediction itself."""
    mean = np.array([[1.0, 2.0, 0.7, 9.0, 0.4]])
    nothing = np.zeros((1, 2))
    moved = ctrv.predicted(ctrv.MotionStates(mean, np.zeros((1, 5, 5))), 0.5, nothing).mean[0]
    radius = 9.0 / 0.4
    x = 1.0 + radius * (np.sin(0.9) - np.sin(0.7))
    y = 2.0 - radius * (np.cos(0.9) - np.cos(0.7))
    np.testing.assert_allclose(moved, [x, y, 0.9, 9.0, 0.4])
    for column in range(5):
        step = 1e-6 * np.eye(5)[column]
        pair = ctrv.MotionStates(mean + np.stack([step, -step]), np.zeros((2, 5, 5)))
        ends = ctrv.predicted(pair, 0.5, np.zeros((2, 2))).mean
        slope = (ends[0] - ends[1]) / 2e-6
        one = np.zeros((1, 5, 5))
        one[0, column, column] = 1.0
        spread = ctrv.predicted(ctrv.MotionStates(mean, one), 0.5, nothing).covariance[0]
        np.testing.assert_allclose(spread, np.outer(slope, slope), atol=1e-3)
