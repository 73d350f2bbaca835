"""Whether an edit could have happened: nobody drives through anybody, or off the road."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.recording import Tracks
from rap_evaluation.planners.observation import LEVEL_M
from rap_raster.frames import FloatArray
from rap_raster.scene import ObjectClass
from rap_training.augmentation.edits.scene_edit import Edit, EditKind, Stage
from rap_training.augmentation.road import all_areas, drivable_area

Outlines = npt.NDArray[np.object_]


class Plausibility:
    """Judges edits of moments of one log."""

    def __init__(self, log: DriveLog) -> None:
        """Joins the drivable areas of the log's map; where it has none, all is road."""
        self._road = drivable_area(all_areas(log.map))
        self._everywhere = self._road.is_empty
        shapely.prepare(self._road)

    def __call__(self, stage: Stage, edit: Edit) -> bool:
        """True if whoever is edited meets nobody, and leaves the road no more than before."""
        if not len(edit.motion):
            return True
        boxes = outlines(edit.motion.states, edit.motion.sizes_m)
        if _meets_others(stage, edit, boxes):
            return False
        walks = edit.motion.classes[0] == ObjectClass.PEDESTRIAN
        return walks or self._covers(boxes) or self._was_off_road(stage, edit)

    def _covers(self, boxes: Outlines) -> bool:
        return self._everywhere or bool(shapely.covers(self._road, boxes).all())

    def _was_off_road(self, stage: Stage, edit: Edit) -> bool:
        """True if the track was off the road before the edit, as parked cars often are."""
        if edit.kind is EditKind.ADD:
            return False
        step = stage.moment.step
        now = stage.moment.log.tracks.window(step, step)
        row = now.ids == edit.track
        return not self._covers(outlines(now.states[row], now.sizes_m[row]))


def _meets_others(stage: Stage, edit: Edit, boxes: Outlines) -> bool:
    """True if the edited road user touches anybody, or the ego before the edit's moment."""
    moment, motion = stage.moment, edit.motion
    first, last = int(motion.first_steps[0]), int(motion.last_steps[0])
    others = moment.log.tracks.window(first, last, leave_out=edit.track)
    owners, steps = _rows_and_steps(others)
    mine = motion.states[steps - first]
    reach_m = 0.5 * np.hypot(*(others.sizes_m[owners, :2] + motion.sizes_m[0, :2]).T)
    close = np.hypot(*(others.states[:, :2] - mine[:, :2]).T) < reach_m
    close &= np.abs(others.states[:, 2] - mine[:, 2]) < LEVEL_M
    close &= (others.ids[owners] != moment.seat) | (steps <= moment.step)
    theirs = outlines(others.states[close], others.sizes_m[owners[close]])
    return bool(shapely.intersects(theirs, boxes[steps[close] - first]).any())


def _rows_and_steps(tracks: Tracks) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Returns of every state the row of its track and its step."""
    counts = np.diff(tracks.offsets)
    owners = np.repeat(np.arange(len(tracks)), counts)
    return owners, np.arange(len(owners)) - tracks.offsets[owners] + tracks.first_steps[owners]


def outlines(states: FloatArray, sizes_m: FloatArray) -> Outlines:
    """Returns the (n,) outlines of (n, 7) states of boxes with sizes (1, 3) or (n, 3)."""
    forward = np.stack([np.cos(states[:, 3]), np.sin(states[:, 3])], axis=-1)
    left = np.stack([-forward[:, 1], forward[:, 0]], axis=-1)
    half = 0.5 * np.broadcast_to(sizes_m, (len(states), 3))
    corners = [
        states[:, :2] + along * half[:, :1] * forward + across * half[:, 1:2] * left
        for along, across in ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ]
    return np.asarray(shapely.polygons(np.stack(corners, axis=1)))
