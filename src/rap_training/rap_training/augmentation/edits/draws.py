"""Draws edits of a scene at random, plausible ones only.

Road users keep to paths that somebody drove or that the lane graph has, and to accelerations that
tyres allow. Whether the ego can cope with an edit is not asked here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rap_evaluation.expert.paths import FRONT_M
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.recording import Tracks
from rap_evaluation.planners.observation import LEVEL_M
from rap_evaluation.pseudo_sim.log_scene import nearest
from rap_raster.frames import FloatArray, to_local, wrap_angle
from rap_raster.scene import LightState
from rap_training.augmentation.edits.added_users import NEAR_M, AddedUsers
from rap_training.augmentation.edits.motion import at_rate, shifted_across, shifted_along
from rap_training.augmentation.edits.plausibility import Plausibility
from rap_training.augmentation.edits.scene_edit import (
    LEAD_STEPS,
    Edit,
    EditKind,
    Stage,
    nobody,
    of_lights,
    of_track,
)

ATTEMPTS = 5
"""Draws before a kind is given up at a moment."""

_BEHIND_M = 10.0  # Who is farther behind is not edited.
_BESIDE_M = 2.0  # At each such distance from the ego's path a road user is drawn e times less,
_APART_M = 20.0  # and at each such distance from the ego itself.
_ALONG_M, _ACROSS_M = (2.0, 10.0), (0.3, 1.5)
_GAINED_MPS2, _LOST_MPS2 = (1.0, 3.0), (2.0, 6.0)
_MOVING_MPS = 2.0  # Who is slower has hardly a path to speed up or brake on.
_TURNING_MPS2 = 4.0  # Across, of who speeds up.
_LIGHT_M = 80.0  # Along the way: drivers brake for a red light from there.
_KNOWN = (LightState.RED, LightState.YELLOW, LightState.GREEN)
_TWIN_M, _TWIN_RAD = 15.0, 0.4  # Between heads of one approach.


class EditDraws:
    """Draws edits of moments of one log."""

    def __init__(self, log: DriveLog) -> None:
        """Indexes the log's map."""
        self._added = AddedUsers(log.map.lanes)
        self._is_plausible = Plausibility(log)

    def draw(self, stage: Stage, kind: EditKind, rng: np.random.Generator) -> Edit | None:
        """Draws an edit of a kind, or returns None where the moment has none that is plausible."""
        for _ in range(ATTEMPTS):
            edit = self._drawn(stage, kind, rng)
            if edit is not None and self._is_plausible(stage, edit):
                return edit
        return None

    def _drawn(self, stage: Stage, kind: EditKind, rng: np.random.Generator) -> Edit | None:
        if kind is EditKind.LIGHT:
            return _switched_lights(stage, rng)
        if kind is EditKind.ADD:
            motion = self._added.draw(stage, rng)
            if motion is None:
                return None
            speed_mps = float(np.hypot(*motion.states[0, 4:6]))
            return of_track(kind, speed_mps, int(motion.ids[0]), motion)
        track = _drawn_track(stage, rng)
        if track is None:
            return None
        if kind is EditKind.REMOVE:
            return of_track(kind, 0.0, track, nobody(stage.moment.log))
        return _moved(stage, kind, track, rng)


def _drawn_track(stage: Stage, rng: np.random.Generator) -> int | None:
    """Draws a road user, the likelier the more it matters."""
    moment = stage.moment
    tracks = moment.log.tracks.window(moment.step, moment.step + len(stage.drive) - 1)
    begins, ends = tracks.offsets[:-1], tracks.offsets[1:]
    now = tracks.states[begins]
    local = to_local(stage.pose, now[:, [0, 1, 3]])
    usable = (tracks.first_steps == moment.step) & (tracks.ids != moment.seat)
    usable &= np.abs(now[:, 2] - moment.ego().z_m) < LEVEL_M
    usable &= (np.hypot(local[:, 0], local[:, 1]) < NEAR_M) & (local[:, 0] > -_BEHIND_M)
    rows = np.flatnonzero(usable)
    if not len(rows):
        return None
    weights = np.array(
        [_relevance(tracks.states[begins[row] : ends[row], :2], stage.drive) for row in rows]
    )
    return int(tracks.ids[rng.choice(rows, p=weights / weights.sum())])


def _relevance(places_m: FloatArray, drive: FloatArray) -> float:
    """Returns how much a road user matters: who is on the ego's path, and near it at a time."""
    gaps_m = np.hypot(*(places_m[:, None] - drive[None, :, :2]).transpose(2, 0, 1))
    return float(np.exp(-gaps_m.min() / _BESIDE_M - np.diag(gaps_m).min() / _APART_M))


def _moved(stage: Stage, kind: EditKind, track: int, rng: np.random.Generator) -> Edit | None:
    """Returns the edit that moves a road user along or across its path, or changes its speed."""
    motion = stage.moment.log.tracks.window(stage.first_step, stage.last_step).only(track)
    if kind is EditKind.SHIFT_ALONG:
        amount = _either_way(_ALONG_M, rng)
        states = shifted_along(motion.states, amount)
    elif kind is EditKind.SHIFT_ACROSS:
        amount = _either_way(_ACROSS_M, rng)
        states = shifted_across(motion.states, amount)
    else:
        gains = kind is EditKind.SPEED_UP
        amount = float(rng.uniform(*(_GAINED_MPS2 if gains else _LOST_MPS2)))
        first = _first_row(stage, motion, rng)
        if np.hypot(*motion.states[first, 4:6]) < _MOVING_MPS:
            return None
        states = at_rate(motion.states, first, amount if gains else -amount)
        if np.abs(states[:, 6] * np.hypot(*states[:, 4:6].T)).max() > _TURNING_MPS2:
            return None
    return of_track(kind, amount, track, replace(motion, states=states))


def _either_way(bounds_m: tuple[float, float], rng: np.random.Generator) -> float:
    return float(rng.uniform(*bounds_m) * rng.choice((-1.0, 1.0)))


def _first_row(stage: Stage, motion: Tracks, rng: np.random.Generator) -> int:
    """Draws from which row on a motion changes: half a second before the moment or sooner."""
    step = stage.moment.step - int(rng.integers(5, LEAD_STEPS))
    return max(0, step - int(motion.first_steps[0]))


def _switched_lights(stage: Stage, rng: np.random.Generator) -> Edit | None:
    """Returns the edit of the next light on the ego's way, and of all heads of its approach."""
    log, lights = stage.moment.log, stage.moment.log.lights
    head = _next_light(stage)
    if head is None or lights.states[stage.moment.step, head] not in _KNOWN:
        return None
    was_green = lights.states[stage.moment.step, head] == LightState.GREEN
    apart_m = np.hypot(*(lights.centers_m[:, :2] - lights.centers_m[head, :2]).T)
    turned = np.abs(wrap_angle(lights.yaws_rad - lights.yaws_rad[head]))
    in_step = (lights.states == lights.states[:, [head]]).all(axis=0)
    heads = np.flatnonzero(in_step & (apart_m < _TWIN_M) & (turned < _TWIN_RAD))
    first = max(0, stage.moment.step - int(rng.integers(LEAD_STEPS)))
    state = LightState.RED if was_green else LightState.GREEN
    return of_lights(heads.astype(np.int32), int(state), first, log)


def _next_light(stage: Stage) -> int | None:
    """Returns the light of the first connector that the ego reaches soon, if it has one."""
    lanes, lights, way = stage.moment.log.map.lanes, stage.moment.log.lights, stage.way
    here_m = way.along_m[nearest(way.line_m, stage.pose)]
    for key in way.lane_ids:
        if key in lights.lane_ids:
            entry_m = lanes[key].centerline_m[0, :2]
            at_m = way.along_m[np.argmin(np.hypot(*(way.line_m[:, :2] - entry_m).T))]
            if FRONT_M < at_m - here_m < _LIGHT_M:
                return lights.lane_ids.index(key)
    return None
