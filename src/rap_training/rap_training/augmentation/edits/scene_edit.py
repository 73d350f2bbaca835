"""One change of a recorded scene, and the log in which it has happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.recording import LightTracks, Tracks
from rap_evaluation.moments import Moment
from rap_evaluation.pseudo_sim.log_scene import Way
from rap_raster.frames import FloatArray

LEAD_STEPS = 20
"""An edit acts so long before its moment, 2 s: by then it can be seen."""

BEFORE_STEPS, AFTER_STEPS = 30, 60
"""Of an edited log around its moment: what models may look back, and more than labels reach."""


class EditKind(IntEnum):
    """What an edit does, and in which unit it says how much."""

    REMOVE = 0
    """Takes a road user away."""
    ADD = 1
    """Puts a road user there; its speed, m/s."""
    SHIFT_ALONG = 2
    """Moves a road user ahead along its path, m."""
    SHIFT_ACROSS = 3
    """Moves a road user to the left, m."""
    SPEED_UP = 4
    """Makes a road user accelerate along its path, m/s^2."""
    BRAKE = 5
    """Makes a road user brake along its path, m/s^2."""
    LIGHT = 6
    """Switches the lights of one approach between red and green."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A change.

    Attributes:
        kind: What it does.
        amount: How much, in the unit of its kind; 0 where there is none.
        track: Id of the track that is removed, replaced or added; 0 where lights are switched.
        motion: What that track does instead: one track, or none.
        lights: (K,) int32 lights of the log that are switched.
        light_state: `LightState` code they get.
        light_step: Step from which they have it.
    """

    kind: EditKind
    amount: float
    track: int
    motion: Tracks
    lights: npt.NDArray[np.int32]
    light_state: int
    light_step: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A moment to edit.

    Attributes:
        moment: The moment.
        way: Where its ego goes.
        drive: (51, 11) `StateIndex` states every 0.1 s: what the ego would do without an edit.
    """

    moment: Moment
    way: Way
    drive: FloatArray

    @property
    def pose(self) -> FloatArray:
        """(3,) x, y, yaw of the ego now."""
        pose: FloatArray = self.drive[0, :3]
        return pose

    @property
    def first_step(self) -> int:
        """First step at which an edit acts."""
        return max(0, self.moment.step - LEAD_STEPS)

    @property
    def last_step(self) -> int:
        """Last step of an edited log."""
        return min(self.moment.step + AFTER_STEPS, len(self.moment.log.stamps_ns) - 1)


def of_track(kind: EditKind, amount: float, track: int, motion: Tracks) -> Edit:
    """Returns the edit of a road user."""
    return Edit(kind, amount, track, motion, np.zeros(0, dtype=np.int32), 0, 0)


def of_lights(lights: npt.NDArray[np.int32], state: int, step: int, log: DriveLog) -> Edit:
    """Returns the edit of lights of a log."""
    return Edit(EditKind.LIGHT, 0.0, 0, nobody(log), lights, state, step)


def nobody(log: DriveLog) -> Tracks:
    """Returns no tracks."""
    return log.tracks.window(-1, -1)


def edited(log: DriveLog, edit: Edit, step: int) -> DriveLog:
    """Returns a log as it would be with an edit, around a step; farther from it nobody is there."""
    first, last = step - BEFORE_STEPS, step + AFTER_STEPS
    tracks = log.tracks.window(first, last, leave_out=edit.track).joined(edit.motion)
    return log.with_traffic(tracks, _switched(log.lights, edit, last))


def _switched(lights: LightTracks, edit: Edit, last_step: int) -> LightTracks:
    if not len(edit.lights):
        return lights
    states = lights.states.copy()
    states[edit.light_step : last_step + 1, edit.lights] = edit.light_state
    return replace(lights, states=states)
