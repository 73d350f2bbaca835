"""How good a drive was: completion, penalties and comfort, after Bench2Drive's driving score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rap_evaluation.closed_loop.drive import Drive
from rap_evaluation.closed_loop.events import Collision
from rap_evaluation.metrics.bench2drive import CHUNK_SAMPLES, PENALTIES
from rap_evaluation.metrics.comfort import savitzky_golay, within_bounds
from rap_evaluation.metrics.pdm_scene import StateIndex
from rap_raster.frames import FloatArray
from rap_raster.scene import ObjectClass

_FILTER_STEPS = 7  # Savitzky-Golay window, order 2, as in Bench2Drive.


@dataclass(frozen=True, slots=True)
class DriveScore:
    """The figures of one drive.

    Attributes:
        completion: Share of the route, 0 to 1.
        off_road_share: Part of the driven distance with a corner of the box off the road.
        off_lane_share: Part of it outside the lanes of the route, see `Events.off_lane_steps`.
        penalty: Product of all penalties, 0 to 1.
        off_road: How often the ego left the road.
        off_road_m: How far it did, at most; 0 if it did not.
        collisions_at_fault: How many.
        collisions_not_at_fault: How many.
        red_lights: How many were run.
        comfort: Share of the drive within the bounds of comfort, 0 to 1; None if it is too short.
    """

    completion: float
    off_road_share: float
    off_lane_share: float
    penalty: float
    off_road: int
    off_road_m: float
    collisions_at_fault: int
    collisions_not_at_fault: int
    red_lights: int
    comfort: float | None

    @property
    def driving_score(self) -> float:
        """Completion times penalties, 0 to 100."""
        return 100.0 * self.completion * self.penalty

    @property
    def faultless(self) -> bool:
        """True without at-fault collision, leaving road or lanes, or running a red light."""
        return not self.off_road and self.faultless_within(0.0)

    def faultless_within(self, tolerance_m: float) -> bool:
        """As `faultless`, where corners may be that far off the road."""
        outside = self.off_road_m > tolerance_m or self.off_lane_share > 0.0
        return not (self.collisions_at_fault or outside or self.red_lights)


def score_drive(drive: Drive) -> DriveScore:
    """Scores a drive.

    Collisions that others are to blame for cost nothing. Driving off the road or outside the lanes
    of the route costs the share of the distance driven so, as the latter does in Bench2Drive.
    """
    events = drive.events
    at_fault = [collision for collision in events.collisions if collision.at_fault]
    off_road, off_lane = set(events.off_road_m), set(events.off_lane_steps)
    red_lights = len(events.red_light_steps)
    outside = _share(drive, off_road | off_lane)
    penalty = (1.0 - outside) * PENALTIES["TRAFFIC_LIGHT_INFRACTION"] ** red_lights
    for collision in at_fault:
        penalty *= collision_penalty(collision)
    return DriveScore(
        completion=_completion(drive),
        off_road_share=_share(drive, off_road),
        off_lane_share=_share(drive, off_lane),
        penalty=penalty,
        off_road=len(runs(events.off_road_m)),
        off_road_m=max(events.off_road_m.values(), default=0.0),
        collisions_at_fault=len(at_fault),
        collisions_not_at_fault=len(events.collisions) - len(at_fault),
        red_lights=red_lights,
        comfort=comfort_share(drive.states),
    )


def collision_penalty(collision: Collision) -> float:
    """Returns the factor that an at-fault collision leaves of the score."""
    on_foot = collision.object_class is ObjectClass.PEDESTRIAN
    return PENALTIES["COLLISION_PEDESTRIAN" if on_foot else "COLLISION_VEHICLE"]


def runs(steps: Iterable[int]) -> list[list[int]]:
    """Returns the runs of consecutive numbers among ascending steps."""
    found: list[list[int]] = []
    for step in steps:
        if found and step == found[-1][-1] + 1:
            found[-1].append(step)
        else:
            found.append([step])
    return found


def comfort_share(states: FloatArray) -> float | None:
    """Returns the share of full stretches of 2 s that keep all bounds of comfort, 0 to 1.

    As Bench2Drive, which drops the rest and judges shorter drives as a whole; but at 10 Hz and with
    the yaw acceleration where its code has the yaw rate twice.

    Args:
        states: (n, 11) `StateIndex` states every 0.1 s; None if n is too small to be filtered.
    """
    chunk = min(CHUNK_SAMPLES, len(states))
    if chunk < _FILTER_STEPS:
        return None
    count = len(states) // chunk
    chunks = states[: count * chunk].reshape(count, chunk, -1)
    along = chunks[..., StateIndex.AX]
    across = chunks[..., StateIndex.VX] * chunks[..., StateIndex.ANGULAR_VELOCITY]
    yaw_rate = _filtered(chunks[..., StateIndex.ANGULAR_VELOCITY])
    signals = (
        _filtered(along),
        _filtered(across),
        _slope(_filtered(np.hypot(along, across))),
        _slope(_filtered(along)),
        _slope(yaw_rate),
        yaw_rate,
    )
    return float(within_bounds(signals).all(axis=-1).mean())


def _filtered(values: FloatArray) -> FloatArray:
    return savitzky_golay(values, _FILTER_STEPS, order=2)


def _slope(values: FloatArray) -> FloatArray:
    return savitzky_golay(values, _FILTER_STEPS, order=2, derivative=1)


def _completion(drive: Drive) -> float:
    if not drive.failure:
        return 1.0
    done_m = float(drive.along_m.max()) - drive.route.start_m
    return min(done_m / drive.route.length_m, 1.0)


def _share(drive: Drive, steps: set[int]) -> float:
    """Returns the part of the driven distance that some steps are."""
    steps_m = np.hypot(*np.diff(drive.states[:, :2], axis=0).T)
    driven_m = float(steps_m.sum())
    # Step i of the drive leads from state i - 1 to state i.
    chosen_m = float(steps_m[np.array(sorted(steps), dtype=np.intp) - 1].sum())
    return chosen_m / driven_m if driven_m > 0.0 else 0.0
