"""Curves of road files: plan views, piecewise cubics, and polylines made sparse again.

Everything is evaluated on arrays of distances, because a town has some ten thousand lane edges.

Source of the formulas: ASAM OpenDRIVE 1.6, chapters 7 (geometry), 8 (elevation), 9 (lanes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray

SIMPLIFY_TOLERANCE_M = 0.03
"""Largest deviation that a simplified polyline may have: less than half a lane marking's width."""

_SPIRAL_NODES, _SPIRAL_WEIGHTS = np.polynomial.legendre.leggauss(20)
# 20 nodes: exact to 1e-9 m for spirals that turn by less than half a circle.

_ARC_LENGTH_SAMPLES = 200  # Of a poly3 element, whose parameter is not the distance.


@dataclass(frozen=True, slots=True)
class PiecewiseCubic:
    """A function of distance, a + b ds + c ds^2 + d ds^3 from each start on.

    Attributes:
        starts_m: (R,) ascending distances where the records begin.
        coefficients: (R, 4) a, b, c, d.
    """

    starts_m: FloatArray
    coefficients: FloatArray

    @classmethod
    def from_records(
        cls, records: list[tuple[float, float, float, float, float]]
    ) -> PiecewiseCubic:
        """Builds the function from (start, a, b, c, d) records; no records means zero."""
        table = np.array(
            sorted(records, key=lambda record: record[0]) or [(0.0,) * 5], dtype=np.float64
        )
        return cls(table[:, 0], table[:, 1:])

    def __call__(self, s_m: FloatArray) -> FloatArray:
        """Evaluates at (n,) distances; before the first start the value is the one there."""
        index = np.clip(np.searchsorted(self.starts_m, s_m, side="right") - 1, 0, None)
        ds = np.maximum(s_m - self.starts_m[index], 0.0)
        a, b, c, d = self.coefficients[index].T
        value: FloatArray = a + ds * (b + ds * (c + ds * d))
        return value


@dataclass(frozen=True, slots=True)
class PlanElement:
    """One piece of a road's reference line.

    Attributes:
        s_m: Distance along the road where it starts.
        x_m: Start, map frame.
        y_m: Start, map frame.
        heading_rad: Direction at the start.
        length_m: Metres.
        kind: "line", "arc", "spiral", "poly3" or "paramPoly3".
        parameters: arc: curvature; spiral: curvature at start and end; poly3: a b c d;
            paramPoly3: aU bU cU dU aV bV cV dV and the parameter's value at the end.
    """

    s_m: float
    x_m: float
    y_m: float
    heading_rad: float
    length_m: float
    kind: str
    parameters: tuple[float, ...] = ()


def evaluate_plan(plan: tuple[PlanElement, ...], s_m: FloatArray) -> FloatArray:
    """Evaluates a reference line.

    Args:
        plan: Elements in order, at least one.
        s_m: (n,) distances along the road; beyond the ends the end elements are extended.

    Returns:
        (n, 3) x, y (metres, map frame) and heading (radians).
    """
    index = np.clip(np.searchsorted([e.s_m for e in plan], s_m, side="right") - 1, 0, None)
    result = np.empty((len(s_m), 3))
    for i in np.unique(index):
        here = index == i
        result[here] = _evaluate_element(plan[i], s_m[here] - plan[i].s_m)
    return result


def _evaluate_element(element: PlanElement, ds_m: FloatArray) -> FloatArray:
    u, v, turn = _local_curve(element, ds_m)
    cos, sin = np.cos(element.heading_rad), np.sin(element.heading_rad)
    x = element.x_m + cos * u - sin * v
    y = element.y_m + sin * u + cos * v
    return np.stack([x, y, element.heading_rad + turn], axis=-1)


def _local_curve(
    element: PlanElement, ds_m: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns u, v and heading in the frame of the element's start."""
    if element.kind == "line":
        return ds_m, np.zeros_like(ds_m), np.zeros_like(ds_m)
    if element.kind == "arc":
        return _spiral(ds_m, element.parameters[0], 0.0)
    if element.kind == "spiral":
        start, end = element.parameters
        return _spiral(ds_m, start, (end - start) / max(element.length_m, 1e-9))
    if element.kind == "poly3":
        return _poly3(ds_m, element)
    return _param_poly3(ds_m, element)


def _spiral(
    ds_m: FloatArray, curvature: float, curvature_rate: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Integrates a curve with linear curvature (a circle if the rate is zero) by quadrature."""
    along = 0.5 * ds_m[:, None] * (_SPIRAL_NODES + 1.0)
    heading = along * (curvature + 0.5 * curvature_rate * along)
    u = 0.5 * ds_m * (np.cos(heading) @ _SPIRAL_WEIGHTS)
    v = 0.5 * ds_m * (np.sin(heading) @ _SPIRAL_WEIGHTS)
    return u, v, ds_m * (curvature + 0.5 * curvature_rate * ds_m)


def _poly3(ds_m: FloatArray, element: PlanElement) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A cubic v(u); u is found from the distance by a table of the curve's length."""
    a, b, c, d = element.parameters
    u_table = np.linspace(0.0, max(element.length_m, 1e-9), _ARC_LENGTH_SAMPLES)
    v_table = a + u_table * (b + u_table * (c + u_table * d))
    steps = np.hypot(np.diff(u_table), np.diff(v_table))
    u = np.interp(ds_m, np.concatenate([[0.0], np.cumsum(steps)]), u_table)
    return u, a + u * (b + u * (c + u * d)), np.arctan(b + u * (2 * c + 3 * d * u))


def _param_poly3(
    ds_m: FloatArray, element: PlanElement
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Two cubics u(p), v(p), with p proportional to the distance as the standard has it."""
    au, bu, cu, du, av, bv, cv, dv, p_end = element.parameters
    p = ds_m * p_end / max(element.length_m, 1e-9)
    u = au + p * (bu + p * (cu + p * du))
    v = av + p * (bv + p * (cv + p * dv))
    slope_u = bu + p * (2 * cu + 3 * du * p)
    slope_v = bv + p * (2 * cv + 3 * dv * p)
    return u, v, np.arctan2(slope_v, slope_u)


def simplify(points_m: FloatArray, tolerance_m: float = SIMPLIFY_TOLERANCE_M) -> FloatArray:
    """Drops points of a polyline that lie within a tolerance of the line without them.

    Args:
        points_m: (n, 3) metres.
        tolerance_m: Largest deviation of a dropped point, in space.

    Returns:
        (m, 3) points, the ends always among them.

    Source: Ramer 1972; Douglas and Peucker 1973.
    """
    keep = np.zeros(len(points_m), dtype=bool)
    keep[[0, -1]] = True
    spans = [(0, len(points_m) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        squared = _squared_distance_to_chord(points_m[first : last + 1])
        worst = int(squared.argmax())
        if squared[worst] > tolerance_m**2:
            keep[first + worst] = True
            spans += [(first, first + worst), (first + worst, last)]
    return points_m[keep]


def _squared_distance_to_chord(points_m: FloatArray) -> FloatArray:
    """Squared distances of (n, 3) points to the segment from the first to the last."""
    offsets = points_m - points_m[0]
    chord = offsets[-1]
    along = offsets @ chord / max(float(chord @ chord), 1e-12)
    off_chord = offsets - np.minimum(np.maximum(along, 0.0), 1.0)[:, None] * chord
    squared: FloatArray = np.einsum("ij,ij->i", off_chord, off_chord)
    return squared


def distances_along(points_m: FloatArray) -> FloatArray:
    """Returns the (n,) distances of a (n, 2 or 3) polyline's points from its start, metres."""
    steps_m = np.hypot(*np.diff(points_m[:, :2], axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps_m)])


def polyline_length(points_m: FloatArray) -> float:
    """Returns the length of a (n, 2 or 3) polyline in the plane, metres."""
    return float(np.hypot(*np.diff(points_m[:, :2], axis=0).T).sum())
