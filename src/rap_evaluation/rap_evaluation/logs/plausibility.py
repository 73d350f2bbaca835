"""What looks wrong in the drive of a recording vehicle: its odometry, and the map it is on."""

from __future__ import annotations

import numpy as np

from rap_evaluation.logs.recording import STEP_NS, Recording
from rap_planner.drivable import DrivableArea
from rap_raster.frames import FloatArray

JUMP_MPS = 5.0
"""Poses that are farther apart than the speed says, by this much, are those of two places."""

SPEED_MPS = 1.0
"""A speed that is off by more than this for most of the drive is not the vehicle's."""

OFF_ROAD_SHARE = 0.1
"""Of the drive. Maps with gaps have more: seven of the eight nuScenes scenes of the tests."""


def doubts(recording: Recording) -> list[str]:
    """Returns a line for everything about the recording vehicle that can hardly be true."""
    tracks = recording.tracks
    rows = [tracks.ids.tolist().index(ego) for ego in recording.egos]
    pieces = [tracks.states[tracks.offsets[row] : tracks.offsets[row + 1]] for row in rows]
    return [*_motion(pieces), *_place(pieces, DrivableArea(recording.map.polygons))]


def _motion(pieces: list[FloatArray]) -> list[str]:
    """Compares how far the vehicle got from step to step with its speeds."""
    dt_s = STEP_NS * 1e-9
    moved, told = [], []
    for states in pieces:
        moved.append(np.linalg.norm(np.diff(states[:, :2], axis=0), axis=1) / dt_s)
        speeds = np.linalg.norm(states[:, 4:6], axis=1)
        told.append(0.5 * (speeds[1:] + speeds[:-1]))
    moved_mps, told_mps = np.concatenate(moved), np.concatenate(told)
    if not len(moved_mps):
        return []
    lines = []
    off_mps = float(np.median(np.abs(moved_mps - told_mps)))
    if off_mps > SPEED_MPS:
        lines.append(f"speeds of the odometry differ from its poses by {off_mps:.1f} m/s (median)")
    jumps = int((moved_mps > told_mps + max(JUMP_MPS, 2.0 * off_mps)).sum())
    if jumps:
        lines.append(f"jumps in the odometry: {jumps}; samples near them are of no use")
    return lines


def _place(pieces: list[FloatArray], road: DrivableArea) -> list[str]:
    if road.is_empty:
        return []
    off = ~road.contains(np.concatenate(pieces)[:, :2])
    if off.mean() <= OFF_ROAD_SHARE:
        return []
    share = f"{100 * off.mean():.0f} % of the drive is off the drivable area"
    return [f"{share}: is the map complete, and of this place?"]
