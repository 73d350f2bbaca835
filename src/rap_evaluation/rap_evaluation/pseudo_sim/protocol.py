"""The two stages of the pseudo-simulation, after NAVSIM v2.

A scene is a moment of a log. In the first stage a planner plans there, and half a second before;
in the second stage it plans 4 s later from many starts around where the vehicle was, drawn by our
own rasterizer or camera simulator. What counts most is the start nearest to where the first plan
ended.

Beside the protocol, plans can be scored that start off the path, displaced and turned: there a
planner has to find back. The second stage hardly asks for it: none of its starts is turned, and
most of the weight lies on the path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.kept_arrays import KEEP_NOTHING, KeptArrays
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.metrics.pdm_scene import HORIZON_STEPS
from rap_evaluation.metrics.two_stage import ScoredFrames, StagedScene, proximity_weights
from rap_evaluation.planners.observation import Planner
from rap_evaluation.pseudo_sim.frames import COMFORT_STEPS, Frame, score_frame
from rap_evaluation.pseudo_sim.seat_drive import SeatDrive, Start

PAIR_STEPS = 5
"""Between the two plans of a pair: 0.5 s. Source: NAVSIM v2."""

AHEAD_M = (-13.0, -10.0, -7.0, -4.0, -2.0, 0.0, 2.0, 4.0, 7.0, 10.0, 13.0)
"""Along the driven path, so dense that a plan between two of them gives both a weight: beyond 1.9 m
there is none."""

LEFT_M = (-0.6, 0.0, 0.6)
"""Across it: as far as still near the lane's middle, twice the weight's standard deviation."""

StartChoice = Literal["all", "near"]
"""Which starts of the second stage are planned from: `near` leaves out those that hardly count."""

LEAST_WEIGHT = 1e-3
"""Of a start that is near. In 30 scenes, those below changed EPDMS by less than 1e-5."""

COARSE_AHEAD_M, COARSE_LEFT_M = (-10.0, -4.0, 0.0, 4.0, 10.0), (-0.6, 0.6)
"""What stands for the whole grid with `near` where none is near and all would count the same: in 40
scenes of two planners, scene scores differed by 0.008 and 0.013 (root mean square)."""

OFF_PATH_LEFT_M, OFF_PATH_YAW_RAD = (-1.2, -0.6, 0.6, 1.2), (-0.1, 0.1)
"""Every pair of these is a start off the path. In a lane of 3.5 m the ego, 2.3 m wide, has 0.6 m to
each side; 0.1 rad takes it as far in a second at 6 m/s."""

MIN_TRAVEL_M = 5.0
"""Scenes in which the driver hardly moves tell little."""

_STRIDE = 5  # Steps between moments to draw from.


@dataclass(frozen=True, slots=True)
class Moment:
    """Which scene: a seat of a log at a step.

    Attributes:
        log: Number of the log.
        seat: Track id.
        step: Step of the log.
        seed: Of light and noise of simulated pictures.
    """

    log: int
    seat: int
    step: int
    seed: int


@dataclass(frozen=True, slots=True)
class PlannedScene:
    """All plans of one scene.

    Attributes:
        name: Of the scene.
        log: Name of its log.
        pairs: The recorded frame and the one before it, then each follow-up and the one before.
        off_path: Frames that start off the path; empty unless asked for.
    """

    name: str
    log: str
    pairs: tuple[tuple[Frame, Frame], ...]
    off_path: tuple[Frame, ...] = ()


class Stage:
    """One log with what all its scenes share."""

    def __init__(
        self,
        log: DriveLog,
        planner: Planner,
        starts: StartChoice = "all",
        kept: KeptArrays = KEEP_NOTHING,
    ) -> None:
        """Prepares the map of a log for a planner; reference plans are kept where `kept` says."""
        self._log, self._planner, self._starts, self._kept = log, planner, starts, kept
        self._areas = RoadAreas(log.map)
        self._expert = PdmClosed(log.map.lanes)

    def play(self, moment: Moment, *, off_path: bool = False) -> PlannedScene:
        """Plans both stages of a scene.

        Args:
            moment: Which scene.
            off_path: Whether to plan off the path as well, when the second stage begins.

        Raises:
            PlanError: If a plan cannot be scored.
        """
        drive = SeatDrive(self._log, moment.seat, self._areas, moment.seed)
        recorded = self._pair(drive, Start(moment.step))
        later = moment.step + HORIZON_STEPS
        starts = [Start(later, *offset, follow_up=True) for offset in product(AHEAD_M, LEFT_M)]
        if self._starts == "near":
            starts = _near(drive, recorded, starts)
        return PlannedScene(
            name=f"{self._log.name}/{moment.seat}/{moment.step}",
            log=self._log.name,
            pairs=(recorded, *(self._pair(drive, start) for start in starts)),
            off_path=tuple(self._off_path(drive, later)) if off_path else (),
        )

    def _off_path(self, drive: SeatDrive, step: int) -> Iterator[Frame]:
        """Yields the plans from all starts off the path that are on the road."""
        for left_m, yaw_rad in product(OFF_PATH_LEFT_M, OFF_PATH_YAW_RAD):
            start = Start(step, left_m=left_m, yaw_rad=yaw_rad, follow_up=True)
            if drive.is_on_road(start):
                yield self._frame(drive, start)

    def _pair(self, drive: SeatDrive, start: Start) -> tuple[Frame, Frame]:
        before = replace(start, step=start.step - PAIR_STEPS)
        return self._frame(drive, start), self._frame(drive, before)

    def _frame(self, drive: SeatDrive, start: Start) -> Frame:
        return score_frame(drive, start, self._planner, self._expert, self._kept)


def _near(drive: SeatDrive, recorded: tuple[Frame, Frame], starts: Sequence[Start]) -> list[Start]:
    """Returns the starts that count for one of the two recorded plans."""
    counts = np.zeros(len(starts), dtype=bool)
    for plan, earlier in zip(recorded, (0, PAIR_STEPS), strict=True):
        places_m = np.array(
            [drive.state(replace(start, step=start.step - earlier))[:2] for start in starts]
        )
        weights = proximity_weights(np.sum((places_m - plan.endpoint_m) ** 2, axis=1))
        counts |= _is_coarse(starts) if np.ptp(weights) == 0.0 else weights >= LEAST_WEIGHT
    return [start for start, kept in zip(starts, counts, strict=True) if kept]


def _is_coarse(starts: Sequence[Start]) -> npt.NDArray[np.bool_]:
    return np.array(
        [start.ahead_m in COARSE_AHEAD_M and start.left_m in COARSE_LEFT_M for start in starts]
    )


def draw_moments(
    logs: Sequence[DriveLog], count: int, seed: int, *, egos_only: bool = False
) -> list[Moment]:
    """Draws scenes, the same number from every log as far as they go.

    Scenes in which the driver leaves the mapped road say more about the map than about a planner,
    so they are left out.

    Args:
        logs: Where from.
        count: How many; all there are if fewer.
        seed: Of the draw.
        egos_only: From recording vehicles alone.
    """
    waiting = [_drawn(number, log, seed, egos_only) for number, log in enumerate(logs)]
    drawn: list[Moment] = []
    while waiting and len(drawn) < count:
        found = [(moments, next(moments, None)) for moments in waiting]
        drawn += [moment for _, moment in found if moment is not None]
        waiting = [moments for moments, moment in found if moment is not None]
    return drawn[:count]


def _drawn(number: int, log: DriveLog, seed: int, egos_only: bool) -> Iterator[Moment]:
    """Yields the usable moments of a log in drawn order."""
    found = [m for m in _moments(number, log, seed) if not egos_only or m.seat in log.egos]
    areas = RoadAreas(log.map)
    for k in np.random.default_rng([seed, number]).permutation(len(found)):
        moment = found[k]
        if SeatDrive(log, moment.seat, areas).stays_on_road(moment.step, 2 * HORIZON_STEPS):
            yield moment


def _moments(number: int, log: DriveLog, seed: int) -> Iterator[Moment]:
    """Yields the moments with enough past and future in which the vehicle gets somewhere."""
    before = PAIR_STEPS - int(COMFORT_STEPS[0])
    for seat in log.seats(min_steps=before + 2 * HORIZON_STEPS + 1):
        if log.route_lanes(seat) is None:
            continue
        path = log.ego_poses(seat)[:, :2]
        first = log.first_step(seat)
        for row in range(before, len(path) - 2 * HORIZON_STEPS, _STRIDE):
            if np.hypot(*(path[row + HORIZON_STEPS] - path[row])) >= MIN_TRAVEL_M:
                key = [seed, number, seat, first + row]
                light = int(np.random.default_rng(key).integers(2**31))
                yield Moment(number, seat, first + row, light)


def as_frames(scenes: Sequence[PlannedScene]) -> tuple[ScoredFrames, list[StagedScene]]:
    """Returns the plans of all scenes as the aggregation wants them."""
    frames: dict[str, tuple[str, Frame]] = {}
    staged = []
    for scene in scenes:
        tokens = []
        for row, pair in enumerate(scene.pairs):
            names = tuple(f"{scene.name}/{row}/{part}" for part in ("current", "previous"))
            frames |= {name: (scene.log, frame) for name, frame in zip(names, pair, strict=True)}
            tokens.append((names[0], names[1]))
        staged.append(StagedScene(*tokens[0], tuple(tokens[1:])))
    plans = [frame for _, frame in frames.values()]
    return ScoredFrames(
        rows={token: row for row, token in enumerate(frames)},
        logs=tuple(log for log, _ in frames.values()),
        recorded=np.array([not frame.start.follow_up for frame in plans]),
        times_s=np.array([frame.time_s for frame in plans]),
        endpoints_m=np.array([frame.endpoint_m for frame in plans]),
        starts_m=np.array([frame.start_m for frame in plans]),
        sub_scores=np.array([frame.sub_scores for frame in plans]),
        states=np.array([frame.states for frame in plans]),
    ), staged
