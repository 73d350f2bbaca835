"""Follows objects from message to message: ids, velocities, and what is hidden for a moment.

Detections are matched to predicted objects by distance in units of its uncertainty, all at once
(global nearest neighbour). What is not detected coasts on with growing uncertainty and shrinking
probability of existence until it is dropped; what is new is reported once it was seen again.

The point that is followed is the one that moves where the object heads: of vehicles not the centre,
which swings sideways in turns, but a point near the rear axle. People and what nobody knows go in
any direction, whatever their heading; of them it is the centre.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from rap_perception import ctrv, drift
from rap_perception.objects import ObjectsError
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.observations import TrackedObjects
from rap_raster.scene import Boxes, ObjectClass

JUMP_NS = 1_000_000_000
"""Stamps that go back further than this are a new drive (a bag that loops), not a late message."""

MAX_STEP_S = 0.5
"""Longer gaps are predicted in several steps."""

GATE = 18.4
"""Largest squared Mahalanobis distance of a match: 99.99 % of a chi-square with 2 degrees."""

NEAR_M = 1.0
"""A detection this close that fits nothing better is the object, however oddly it moved."""

FASTEST_MPS = 55.0
"""A detection that would take more than this is another one's: the gate alone would let an object
that was seen once jump to its neighbour at 60 m/s."""

FAR_M = 4.0
"""A second detection this far from the first may still be the neighbour's in a queue that is seen
five times a second or less: to be reported, it takes a third."""

OTHER_CLASS_COST = 4.0
"""Added for another class of the same group: a car may be called a truck now and then."""

POSITION_SIGMA_M = 0.3
VELOCITY_SIGMA_MPS = 0.5
"""Of detections, where they have a velocity."""

SEEN_LOG_ODDS = 2.0
"""Evidence of one detection of certainty 1: missed and false detections at typical rates."""

UNSEEN_LOG_ODDS_PER_S = 6.0
MAX_LOG_ODDS = 7.0
CONFIRMED_LOG_ODDS = 1.5
DROPPED_LOG_ODDS = -1.0
"""Together: reported from the second certain detection on, kept 1.3 s after the last one."""

LONGEST_GAP_S = (MAX_LOG_ODDS - DROPPED_LOG_ODDS) / UNSEEN_LOG_ODDS_PER_S
"""Between messages: after a longer one nobody is whom he was. A shorter one is no evidence against
anybody, since nobody looked: slow detectors have one before every message."""

STANDSTILL_SIGMAS = np.array([1.0, 0.05])
"""How firmly standing objects are held, m/s and rad/s: without it noise turns and moves them."""

SURE_MPS = 1.5
"""Speeds less certain than this say nothing about standing; a second unseen adds 1 m/s."""

BACKWARDS_MPS = 1.0
"""Faster than this against its heading, an object whose heading is in doubt has it wrong."""

SMOOTHING = 0.2
"""Share of a new detection in size, height and class once an object is known for a while."""

HEADING_MEMORY = 0.9
HEADING_DOUBT, HEADING_WRONG = 0.5, -0.5
"""Mean agreement of headings (1: always, -1: never) below which driving backwards means that front
and rear are confused, and below which they are swapped whatever the motion."""


@dataclass(frozen=True, slots=True)
class _Habit:
    """How objects of a class move and how well their heading is seen.

    Attributes:
        group: Classes of one group may be taken for each other; 0 fits all.
        acceleration_mps2: Standard deviation.
        yaw_acceleration_radps2: Standard deviation.
        yaw_sigma_rad: Of detections.
        speed_sigma_mps: Of an object just seen for the first time.
        standstill_mps: Slower ones stand.
        axle_share: Distance from the centre back to the rear axle, as a share of the length.
        any_way: Whether they may go elsewhere than they head.
    """

    group: int
    acceleration_mps2: float
    yaw_acceleration_radps2: float
    yaw_sigma_rad: float
    speed_sigma_mps: float
    standstill_mps: float
    axle_share: float
    any_way: bool


_DRIVES = _Habit(1, 3.0, 1.5, 0.1, 15.0, 0.5, 0.25, any_way=False)
_RIDES = _Habit(2, 2.0, 1.5, 0.2, 8.0, 0.5, 0.25, any_way=False)
_WALKS = _Habit(3, 1.5, 1.5, 0.4, 2.0, 0.3, 0.0, any_way=True)
_STANDS = _Habit(4, 0.0, 0.0, 0.2, 0.01, 0.5, 0.0, any_way=False)
_HABITS = {
    ObjectClass.VEHICLE: _DRIVES,
    ObjectClass.TRUCK: _DRIVES,
    ObjectClass.BUS: _DRIVES,
    ObjectClass.MOTORCYCLE: _RIDES,
    ObjectClass.BICYCLE: _RIDES,
    ObjectClass.PEDESTRIAN: _WALKS,
    ObjectClass.CONE: _STANDS,
    ObjectClass.BARRIER: _STANDS,
    ObjectClass.GENERIC: replace(_WALKS, group=0, speed_sigma_mps=8.0),
}
_CODES = 1 + max(ObjectClass)
_HABIT_TABLE = np.zeros((_CODES, len(fields(_Habit))))
for _code, _habit in _HABITS.items():
    _HABIT_TABLE[_code] = [getattr(_habit, field.name) for field in fields(_Habit)]
_GROUP, _MOTION, _YAW_SIGMA, _SPEED_SIGMA, _STANDSTILL, _AXLE = 0, slice(1, 3), 3, 4, 5, 6
_ACCELERATION, _ANY_WAY = 1, 7

FIRST_YAW_RATE_SIGMA_RADPS = 0.3


@dataclass(frozen=True, slots=True)
class Tracks:
    """N objects that are followed.

    Attributes:
        ids: (N,) int32.
        states: Motion of the points that are followed, of those that go where they head.
        drifts: Motion of the centres, of those that may go any way.
        heights_m: (N,) z of the centres, map frame.
        sizes_m: (N, 3).
        class_votes: (N, codes) weight of each class among the detections.
        heading_votes: (N,) mean agreement of detected headings, -1 to 1.
        log_odds: (N,) of existence.
        confirmed: (N,) True for those seen often enough to be reported.
        hits: (N,) detections so far.
        seen_ns: (N,) stamp of the last detection.
    """

    ids: npt.NDArray[np.int32]
    states: ctrv.MotionStates
    drifts: drift.DriftStates
    heights_m: FloatArray
    sizes_m: FloatArray
    class_votes: FloatArray
    heading_votes: FloatArray
    log_odds: FloatArray
    confirmed: npt.NDArray[np.bool_]
    hits: npt.NDArray[np.int64]
    seen_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> npt.NDArray[np.uint8]:
        """(N,) `ObjectClass` codes."""
        codes: npt.NDArray[np.uint8] = self.class_votes.argmax(axis=1).astype(np.uint8)
        return codes

    @property
    def habits(self) -> FloatArray:
        """(N, 8) rows of `_HABIT_TABLE`."""
        return _HABIT_TABLE[self.classes]

    @property
    def any_way(self) -> npt.NDArray[np.bool_]:
        """(N,) True for those that may go elsewhere than they head."""
        return self.habits[:, _ANY_WAY] > 0.0

    @property
    def to_center_m(self) -> FloatArray:
        """(N, 2) from the points that are followed to the centres, map frame."""
        length_m = self.habits[:, _AXLE] * self.sizes_m[:, 0]
        return length_m[:, None] * ctrv.along(self.states.mean[:, ctrv.YAW])

    @property
    def centers_m(self) -> FloatArray:
        """(N, 3) centres, map frame."""
        headed = self.states.mean[:, :2] + self.to_center_m
        places = np.where(self.any_way[:, None], self.drifts.mean[:, drift.PLACE], headed)
        return np.column_stack([places, self.heights_m])

    @property
    def velocities_mps(self) -> FloatArray:
        """(N, 2) velocities of the centres, map frame."""
        headed = self.states.velocities_mps() + self.swings_mps
        velocities: FloatArray = np.where(
            self.any_way[:, None], self.drifts.mean[:, drift.VELOCITY], headed
        )
        return velocities

    @property
    def place_covariance_m2(self) -> FloatArray:
        """(N, 2, 2) of the places."""
        both = self.drifts.covariance[:, :2, :2], self.states.covariance[:, :2, :2]
        covariance: FloatArray = np.where(self.any_way[:, None, None], *both)
        return covariance

    @property
    def speed_variance_m2ps2(self) -> FloatArray:
        """(N,) of the speeds; of those that go any way that of the less certain direction."""
        drifting = self.drifts.covariance[:, [2, 3], [2, 3]].max(axis=1)
        headed = self.states.covariance[:, ctrv.SPEED, ctrv.SPEED]
        variance: FloatArray = np.where(self.any_way, drifting, headed)
        return variance

    @property
    def swings_mps(self) -> FloatArray:
        """(N, 2) velocity of the centres against the points that are followed, map frame."""
        x, y = self.to_center_m.T
        left_m: FloatArray = np.stack([-y, x], axis=1)
        return self.states.mean[:, ctrv.YAW_RATE, None] * left_m

    @property
    def stand(self) -> npt.NDArray[np.bool_]:
        """(N,) True for those that are known to stand."""
        drifting = np.hypot(*self.drifts.mean[:, drift.VELOCITY].T)
        headed = np.abs(self.states.mean[:, ctrv.SPEED])
        slow = np.where(self.any_way, drifting, headed) < self.habits[:, _STANDSTILL]
        stand: npt.NDArray[np.bool_] = slow & (self.speed_variance_m2ps2 < SURE_MPS**2)
        return stand

    def select(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Tracks:
        """Returns some of the tracks."""
        return _mapped(lambda array: array[rows], self)


class Tracker:
    """Turns detections, one message after the other, into tracked objects."""

    def __init__(self) -> None:
        """Starts empty."""
        self._next_id = 1
        self._stamp_ns: int | None = None
        self.tracks = _born(0, Boxes.empty(), np.zeros(0, np.float32), first_id=1)

    def update(self, seen: TrackedObjects) -> TrackedObjects:
        """Takes the objects of one message in.

        Args:
            seen: Detections in the map frame. Their ids and ages are not looked at; velocities are
                used where they are known.

        Returns:
            The confirmed objects at the same stamp, with ids that stay, velocities, seconds since
            each was last seen, and probability of existence. Lights are passed through.

        Raises:
            ObjectsError: If the message is not later than the last one: the same once more would be
                evidence of what was seen once.
        """
        dt_s = self._step_s(seen.stamp_ns)
        before = _predicted(self.tracks, dt_s)
        rows, columns = _matched(before, seen.boxes, seen.stamp_ns)
        found = _corrected(before.select(rows), seen, columns)
        missed = _missed(before.select(np.setdiff1d(np.arange(len(before)), rows)), dt_s)
        new = np.setdiff1d(np.arange(len(seen.boxes)), columns)
        born = _born(
            seen.stamp_ns, seen.boxes.select(new), seen.existences[new], first_id=self._next_id
        )
        self._next_id += len(new)
        self.tracks = _joined(found, missed, born)
        return _reported(self.tracks, seen)

    def _step_s(self, stamp_ns: int) -> float:
        """Returns the time since the last message; forgets all where it jumped or was too long."""
        if self._stamp_ns is None:
            self._stamp_ns = stamp_ns
            return 0.0
        since_ns = stamp_ns - self._stamp_ns
        if -JUMP_NS <= since_ns <= 0:
            raise ObjectsError(
                f"stamp is {-since_ns * 1e-9:.3f} s before that of the last objects, expected later"
            )
        self._stamp_ns = stamp_ns
        if not 0 < since_ns <= LONGEST_GAP_S * 1e9:
            self.tracks = self.tracks.select(np.zeros(len(self.tracks), bool))
            return 0.0
        return since_ns * 1e-9


def _predicted(tracks: Tracks, dt_s: float) -> Tracks:
    """Moves tracks on, in steps: nobody accelerates alike throughout a long gap."""
    steps = max(1, math.ceil(dt_s / MAX_STEP_S))
    states, drifts, habits = tracks.states, tracks.drifts, tracks.habits
    for _ in range(steps):
        states = ctrv.predicted(states, dt_s / steps, habits[:, _MOTION])
        drifts = drift.predicted(drifts, dt_s / steps, habits[:, _ACCELERATION])
    return replace(tracks, states=states, drifts=drifts)


def _matched(
    tracks: Tracks, boxes: Boxes, stamp_ns: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Returns the rows of tracks and of boxes that belong together, at the least total distance."""
    difference = boxes.centers_m[None, :, :2] - tracks.centers_m[:, None, :2]
    covariance = tracks.place_covariance_m2 + POSITION_SIGMA_M**2 * np.eye(2)
    distance = np.einsum(
        "nmi,nij,nmj->nm", difference, np.linalg.inv(covariance), difference, optimize=True
    )
    groups = tracks.habits[:, _GROUP, None], _HABIT_TABLE[boxes.classes][None, :, _GROUP]
    fits = (groups[0] == groups[1]) | (groups[0] == 0) | (groups[1] == 0)
    apart_m = np.hypot(difference[..., 0], difference[..., 1])
    unseen_s = 1e-9 * (stamp_ns - tracks.seen_ns)
    likely = (distance < GATE) & (apart_m < FASTEST_MPS * unseen_s[:, None])
    possible = (likely | (apart_m < NEAR_M)) & fits
    # Who may be anywhere fits everywhere: the likelier one is who has said where it will be.
    spread = np.log(np.linalg.det(covariance))[:, None]
    other = tracks.classes[:, None] != boxes.classes[None]
    cost = np.minimum(distance, GATE) + spread + OTHER_CLASS_COST * other
    cost = np.where(possible, cost, 1e6)
    rows, columns = linear_sum_assignment(cost)
    good = possible[rows, columns]
    return rows[good], columns[good]


def _corrected(tracks: Tracks, seen: TrackedObjects, columns: npt.NDArray[np.intp]) -> Tracks:
    """Updates tracks by the detections that belong to them, `columns` of `seen`."""
    boxes, certainty = seen.boxes.select(columns), seen.existences[columns]
    share = np.maximum(1.0 / (tracks.hits + 1), SMOOTHING)
    votes = (1.0 - share)[:, None] * tracks.class_votes
    votes[np.arange(len(votes)), boxes.classes] += share
    heights_m, sizes_m = boxes.centers_m[:, 2], boxes.sizes_m
    log_odds = np.minimum(tracks.log_odds + SEEN_LOG_ODDS * certainty, MAX_LOG_ODDS)
    apart_m = np.linalg.norm((boxes.centers_m - tracks.centers_m)[:, :2], axis=1)
    doubtful = (tracks.hits == 1) & (apart_m > FAR_M)
    found = replace(
        tracks,
        heights_m=tracks.heights_m + share * (heights_m - tracks.heights_m),
        sizes_m=tracks.sizes_m + share[:, None] * (sizes_m - tracks.sizes_m),
        class_votes=votes,
        log_odds=log_odds,
        confirmed=tracks.confirmed | ((log_odds >= CONFIRMED_LOG_ODDS) & ~doubtful),
        hits=tracks.hits + 1,
        seen_ns=np.full(len(tracks), seen.stamp_ns),
    )
    # The centre stays where class or size say otherwise where the followed point is.
    shifted = found.states.mean.copy()
    shifted[:, :2] += tracks.to_center_m - found.to_center_m
    found = replace(found, states=replace(found.states, mean=shifted))
    return _held(_faced(_measured(found, boxes)))


def _measured(tracks: Tracks, boxes: Boxes) -> Tracks:
    """Corrects the motion by detected poses, and by velocities where they are known."""
    yaws = boxes.yaws_rad
    agrees = np.abs(wrap_angle(yaws - tracks.states.mean[:, ctrv.YAW])) <= 0.5 * np.pi
    yaws = np.where(agrees, yaws, yaws + np.pi)  # detectors confuse front and rear
    length_m = tracks.habits[:, _AXLE] * tracks.sizes_m[:, 0]
    axles = boxes.centers_m[:, :2] - length_m[:, None] * ctrv.along(yaws)
    sigmas = np.full((len(tracks), 3), POSITION_SIGMA_M)
    sigmas[:, 2] = tracks.habits[:, _YAW_SIGMA]
    states = ctrv.seen_at(tracks.states, np.column_stack([axles, yaws]), sigmas)
    velocities = np.nan_to_num(boxes.velocities_mps) - tracks.swings_mps
    with_velocity = ctrv.moving_at(states, velocities, VELOCITY_SIGMA_MPS)
    agreement = np.where(agrees, 1.0, -1.0)
    known = ~np.isnan(boxes.velocities_mps[:, 0] + boxes.velocities_mps[:, 1])
    drifts = drift.seen_at(tracks.drifts, boxes.centers_m[:, :2], POSITION_SIGMA_M)
    moving = drift.moving_at(drifts, np.nan_to_num(boxes.velocities_mps), VELOCITY_SIGMA_MPS)
    votes = HEADING_MEMORY * tracks.heading_votes + (1.0 - HEADING_MEMORY) * agreement
    return replace(
        tracks,
        states=_chosen(known, with_velocity, states),
        drifts=_chosen(known, moving, drifts),
        heading_votes=votes,
    )


def _faced(tracks: Tracks) -> Tracks:
    """Swaps front and rear where detections or motion say so."""
    backwards = tracks.states.mean[:, ctrv.SPEED] < -BACKWARDS_MPS
    doubted = tracks.heading_votes < HEADING_DOUBT
    wrong = tracks.heading_votes < HEADING_WRONG
    wrong[backwards & doubted] = True
    turned = ctrv.turned_round(tracks.states, 2.0 * tracks.to_center_m)
    return replace(
        tracks,
        states=_chosen(wrong, turned, tracks.states),
        heading_votes=np.where(wrong, HEADING_DOUBT, tracks.heading_votes),
    )


def _held(tracks: Tracks) -> Tracks:
    """Keeps standing objects from turning and creeping with the noise of their detections."""
    still = np.zeros((len(tracks), 2))
    return replace(
        tracks,
        states=_chosen(
            tracks.stand, ctrv.standing(tracks.states, STANDSTILL_SIGMAS), tracks.states
        ),
        drifts=_chosen(
            tracks.stand,
            drift.moving_at(tracks.drifts, still, STANDSTILL_SIGMAS[0]),
            tracks.drifts,
        ),
    )


def _missed(tracks: Tracks, dt_s: float) -> Tracks:
    """Makes tracks without detection less certain, and drops those that are too uncertain."""
    coasting = replace(tracks, log_odds=tracks.log_odds - UNSEEN_LOG_ODDS_PER_S * dt_s)
    return coasting.select(coasting.log_odds > DROPPED_LOG_ODDS)


def _born(
    stamp_ns: int, boxes: Boxes, certainty: npt.NDArray[np.float32], *, first_id: int
) -> Tracks:
    """Returns tracks of detections that belong to none."""
    count = len(boxes)
    mean = np.zeros((count, 5))
    habits = _HABIT_TABLE[boxes.classes]
    length_m = habits[:, _AXLE] * boxes.sizes_m[:, 0]
    mean[:, :2] = boxes.centers_m[:, :2] - length_m[:, None] * ctrv.along(boxes.yaws_rad)
    mean[:, ctrv.YAW] = boxes.yaws_rad
    sigmas = np.full((count, 5), POSITION_SIGMA_M)
    sigmas[:, ctrv.YAW] = habits[:, _YAW_SIGMA]
    sigmas[:, ctrv.SPEED] = habits[:, _SPEED_SIGMA]
    sigmas[:, ctrv.YAW_RATE] = FIRST_YAW_RATE_SIGMA_RADPS
    drifts = np.zeros((count, 4))
    drifts[:, drift.PLACE] = boxes.centers_m[:, :2]
    spreads = np.full((count, 4), POSITION_SIGMA_M)
    spreads[:, drift.VELOCITY] = habits[:, _SPEED_SIGMA, None]
    votes = np.zeros((count, _CODES))
    votes[np.arange(count), boxes.classes] = 1.0
    return Tracks(
        ids=np.arange(first_id, first_id + count, dtype=np.int32),
        states=ctrv.MotionStates(mean, sigmas[:, :, None] ** 2 * np.eye(5)),
        drifts=drift.DriftStates(drifts, spreads[:, :, None] ** 2 * np.eye(4)),
        heights_m=boxes.centers_m[:, 2].copy(),
        sizes_m=boxes.sizes_m.copy(),
        class_votes=votes,
        heading_votes=np.full(count, HEADING_DOUBT),
        log_odds=SEEN_LOG_ODDS * (certainty.astype(np.float64) - 1.0),
        confirmed=np.zeros(count, bool),
        hits=np.ones(count, np.int64),
        seen_ns=np.full(count, stamp_ns),
    )


def _joined(*parts: Tracks) -> Tracks:
    return _mapped(lambda *arrays: np.concatenate(arrays), *parts)


_States = TypeVar("_States", ctrv.MotionStates, drift.DriftStates)


def _chosen(where: npt.NDArray[np.bool_], yes: _States, no: _States) -> _States:
    mean = np.where(where[:, None], yes.mean, no.mean)
    covariance = np.where(where[:, None, None], yes.covariance, no.covariance)
    return replace(yes, mean=mean, covariance=covariance)


def _mapped(function: Callable[..., npt.NDArray[Any]], *parts: Tracks) -> Tracks:
    """Applies a function to each array of tracks, those of the motion included."""
    values = {}
    for name in (field.name for field in fields(Tracks)):
        arrays = [getattr(part, name) for part in parts]
        if name in {"states", "drifts"}:
            means = function(*(states.mean for states in arrays))
            covariances = function(*(states.covariance for states in arrays))
            values[name] = replace(arrays[0], mean=means, covariance=covariances)
        else:
            values[name] = function(*arrays)
    return Tracks(**values)


def _reported(tracks: Tracks, seen: TrackedObjects) -> TrackedObjects:
    """Returns the confirmed tracks, in the order of their ids."""
    confirmed = tracks.select(tracks.confirmed)
    confirmed = confirmed.select(np.argsort(confirmed.ids))
    velocities = confirmed.velocities_mps
    velocities[confirmed.stand] = 0.0
    # Two detections differ by their noise as well; the less is known, the less is claimed.
    doubt = np.maximum(confirmed.speed_variance_m2ps2 - SURE_MPS**2, 0.0)
    squares = (velocities**2).sum(axis=1)
    velocities *= (squares / np.maximum(squares + doubt, 1e-9))[:, None]
    boxes = Boxes(
        ids=confirmed.ids,
        classes=confirmed.classes,
        centers_m=confirmed.centers_m,
        sizes_m=confirmed.sizes_m,
        yaws_rad=confirmed.states.mean[:, ctrv.YAW],
        velocities_mps=velocities,
    )
    return TrackedObjects(
        stamp_ns=seen.stamp_ns,
        boxes=boxes,
        lights=seen.lights,
        ages_s=((seen.stamp_ns - confirmed.seen_ns) * 1e-9).astype(np.float32),
        existences=(1.0 / (1.0 + np.exp(-confirmed.log_odds))).astype(np.float32),
    )
