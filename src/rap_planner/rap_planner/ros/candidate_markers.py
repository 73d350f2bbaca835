"""Candidates as lines, for RViz and Foxglove."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from rap_planner.candidates import Candidates
from rap_raster.frames import FloatArray
from rap_raster.ros.conversions import header

ALL, BEST = 0, 1
"""Ids of the two markers."""

WIDTHS_M = {ALL: 0.08, BEST: 0.25}
ORANGE, GREEN = (0.95, 0.61, 0.07), (0.18, 0.80, 0.44)

LEAST_OPACITY = 0.05
"""Of the least likely ones: they should be seen where they lie alone."""


def candidate_markers(candidates: Candidates, map_frame: str) -> MarkerArray:
    """Returns all candidates, the likelier the more opaque, and the best one.

    Args:
        candidates: Of one plan.
        map_frame: Their frame.
    """
    everybody, best = (_marker(candidates, map_frame, which) for which in (ALL, BEST))
    likelihoods = np.exp(candidates.scores - candidates.scores.max())
    for poses_m, likelihood in zip(candidates.poses_m, likelihoods, strict=True):
        places = _places(candidates, poses_m)
        pairs = [place for ends in pairwise(places) for place in ends]
        color = _color(ORANGE, max(LEAST_OPACITY, float(likelihood)))
        everybody.points += pairs
        everybody.colors += [color] * len(pairs)
    best.points = _places(candidates, candidates.poses_m[candidates.best])
    return MarkerArray(markers=[everybody, best])


def _marker(candidates: Candidates, map_frame: str, which: int) -> Marker:
    marker = Marker(header=header(candidates.stamp_ns, map_frame), ns="candidates", id=which)
    marker.type = Marker.LINE_LIST if which == ALL else Marker.LINE_STRIP
    marker.action = Marker.ADD
    marker.pose.orientation.w = 1.0
    marker.scale.x = WIDTHS_M[which]
    marker.color = _color(GREEN, 1.0)
    return marker


def _places(candidates: Candidates, poses_m: FloatArray) -> list[Point]:
    """Returns the ego and what follows, at the height of the ego."""
    ego = candidates.ego
    places_m = [[ego.x_m, ego.y_m], *poses_m[:, :2].tolist()]
    return [Point(x=float(x_m), y=float(y_m), z=ego.z_m) for x_m, y_m in places_m]


def _color(rgb: tuple[float, float, float], opacity: float) -> ColorRGBA:
    red, green, blue = rgb
    return ColorRGBA(r=red, g=green, b=blue, a=opacity)
