"""The way a vehicle of a log took, smooth enough to drive it, and how far along it was when.

Recorded poses are noisy, and between sparse annotations they are chords of the way driven. Driven
exactly they ask for jerks of 50 m/s^3 and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline, make_smoothing_spline
from scipy.ndimage import gaussian_filter1d

from rap_evaluation.logs.drive_log import DriveLog
from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import distances_along

STEP_M = 0.25
"""Between the rows of a path's table."""

_EXTENSION_M = 120.0  # Of a path at both ends: the largest perturbation gets 110 m ahead at 40 m/s.
_KNOT_M = 0.1  # Between poses that shape the path: a standing vehicle shapes nothing.
_MIN_KNOTS = 5  # SciPy's smoothing spline wants as many.
_FINENESS = 40  # Places per pose at which the length of a path is summed up.
_STIFFNESS = 30.0  # Halves waves of 15 knots; a bend of 10 m at 5 m/s is moved by 0.02 m.
_TANGENT_KNOTS, _MIRRORED_KNOTS = 10, 20  # At the ends: two annotations, and four.
_SMOOTHING_S = 0.4  # Speeds of tracks annotated at 2 Hz are steps; fades them out.
_SMOOTHING_REACH = 4.0  # Four times its width.
_BACKWARD_M = 1.0  # What is driven back by more than this is no noise.


class PathTable(NamedTuple):
    """A path by distance.

    Attributes:
        rows: (m, 6) x, y (metres), yaw (radians, continuous), curvature (1/m, counter-clockwise),
            its derivative (1/m^2) and z (metres) every `STEP_M`, map frame.
        start_m: Distance of the first row.
    """

    rows: FloatArray
    start_m: float


@dataclass(frozen=True, slots=True)
class SmoothPath:
    """The path of a seat's rear axle and its progress along it.

    Attributes:
        table: The path; the first pose of the seat is at distance 0.
        progress: (n, 3) at each step of the seat: distance along the path (metres), its rate (m/s)
            and the rate of that (m/s^2). Never backwards.
        forward: (n,) True where the seat has not driven backwards.
    """

    table: PathTable
    progress: FloatArray
    forward: npt.NDArray[np.bool_]


def smooth_path(log: DriveLog, seat: int) -> SmoothPath | None:
    """Returns the path of a seat, or None if it did not go anywhere."""
    poses = log.ego_states(seat).poses
    travelled_m, forward = _travelled(poses)
    knots = _knots(travelled_m)
    if len(knots) < _MIN_KNOTS:
        return None
    table, knots_m = _smooth_table(poses[knots])
    distances_m = np.interp(travelled_m, travelled_m[knots], knots_m)
    return SmoothPath(table, _progress(distances_m, log.dt_s), forward)


def _travelled(poses: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Returns the (n,) distance driven forwards at each of (n, 4) poses, and where that is all."""
    steps = np.diff(poses[:, :2], axis=0)
    yaw = poses[:-1, 3]
    ahead = np.cumsum(np.cos(yaw) * steps[:, 0] + np.sin(yaw) * steps[:, 1])
    ahead_m = np.concatenate([[0.0], ahead])
    farthest_m = np.maximum.accumulate(ahead_m)
    return farthest_m, farthest_m - ahead_m < _BACKWARD_M


def _knots(travelled_m: FloatArray) -> npt.NDArray[np.int64]:
    """Returns the rows that are `_KNOT_M` or more ahead of the one chosen before."""
    rows = [0]
    for row, distance_m in enumerate(travelled_m.tolist()):
        if distance_m >= travelled_m[rows[-1]] + _KNOT_M:
            rows.append(row)
    return np.array(rows)


def _smooth_table(poses: FloatArray) -> tuple[PathTable, FloatArray]:
    """Lays a smooth path through (k, 4) poses; at both ends it goes on as it curved there.

    The splines are stiff per pose, not per metre: what is to be smoothed has the period of the
    annotation, which is a time.

    Returns:
        The table, and the (k,) distances of the poses along it.
    """
    places = np.arange(float(len(poses)))
    x, y = _splines(poses[:, :2])
    fine = np.linspace(0.0, places[-1], _FINENESS * len(places))
    along_m = distances_along(np.column_stack([x(fine), y(fine)]))
    count = int((along_m[-1] + 2.0 * _EXTENSION_M) / STEP_M) + 1
    at_m = STEP_M * np.arange(count) - _EXTENSION_M
    inside_m = np.clip(at_m, 0.0, along_m[-1])
    at = np.interp(inside_m, along_m, fine)
    line = _arcs_on(_curve(x, y, at), at_m - inside_m)
    z = np.interp(at, places, poses[:, 2])
    rows = np.column_stack([line, np.gradient(line[:, 3], STEP_M), z])
    return PathTable(rows, -_EXTENSION_M), np.interp(places, fine, along_m)


def _splines(points_m: FloatArray) -> tuple[BSpline, BSpline]:
    """Returns smooth x and y of (k, 2) points, by their number."""
    before, after = _continued(points_m[::-1])[::-1], _continued(points_m)
    longer = np.concatenate([before, points_m, after])
    places = np.arange(float(len(longer))) - len(before)
    x, y = (make_smoothing_spline(places, column, lam=_STIFFNESS) for column in longer.T)
    return x, y


def _continued(points_m: FloatArray) -> FloatArray:
    """Returns (n, 2) points after (k, 2) points: their mirror image, which curves the same way.

    Without them a spline ends straight.
    """
    last = points_m[-_TANGENT_KNOTS:]
    numbers = np.arange(1.0 - len(last), 1.0)
    slope = np.polynomial.polynomial.polyfit(numbers, last, 2)[1]
    tangent = slope / np.hypot(*slope)
    back = points_m[-2 : -_MIRRORED_KNOTS - 2 : -1] - points_m[-1]
    mirrored: FloatArray = points_m[-1] + back - 2.0 * np.outer(back @ tangent, tangent)
    return mirrored


def _curve(x: BSpline, y: BSpline, at: FloatArray) -> FloatArray:
    """Returns the (m, 4) position, direction and curvature of a curve at some places."""
    dx, dy, ddx, ddy = x(at, 1), y(at, 1), x(at, 2), y(at, 2)
    yaw = np.unwrap(np.arctan2(dy, dx))
    return np.column_stack([x(at), y(at), yaw, (dx * ddy - dy * ddx) / np.hypot(dx, dy) ** 3])


def _arcs_on(line: FloatArray, beyond_m: FloatArray) -> FloatArray:
    """Returns (m, 4) rows of `_curve` moved (m,) distances along their circles."""
    x, y, yaw, curvature = line.T
    middle = yaw + 0.5 * curvature * beyond_m
    chord_m = beyond_m * np.sinc(0.5 * curvature * beyond_m / np.pi)
    return np.column_stack(
        [
            x + chord_m * np.cos(middle),
            y + chord_m * np.sin(middle),
            yaw + curvature * beyond_m,
            curvature,
        ]
    )


def _progress(distances_m: FloatArray, dt_s: float) -> FloatArray:
    """Returns smoothed (n,) distances with their first and second derivatives, as (n, 3).

    A positive kernel keeps what only grows growing, and what stands standing.
    """
    width = _SMOOTHING_S / dt_s
    pad = int(_SMOOTHING_REACH * width) + 1
    longer = np.pad(distances_m, pad, mode="reflect", reflect_type="odd")
    smooth_m = gaussian_filter1d(longer, width, truncate=_SMOOTHING_REACH)
    speeds_mps = np.gradient(smooth_m, dt_s)
    return np.column_stack([smooth_m, speeds_mps, np.gradient(speeds_mps, dt_s)])[pad:-pad]
