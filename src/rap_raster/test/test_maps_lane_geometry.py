from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import fresnel

from rap_raster.maps.lane_geometry import PiecewiseCubic, PlanElement, evaluate_plan, simplify


def element(kind, parameters, length_m=20.0, heading_rad=0.0, s_m=0.0):
    return PlanElement(s_m, 3.0, -2.0, heading_rad, length_m, kind, parameters)


def test_line_goes_straight_along_its_heading():
    x, y, heading = evaluate_plan((element("line", (), heading_rad=np.pi / 6),), np.array([10.0]))[
        0
    ]
    assert (x, y) == pytest.approx((3 + 10 * np.cos(np.pi / 6), -2 + 5.0))
    assert heading == pytest.approx(np.pi / 6)


@pytest.mark.parametrize("curvature", [0.2, -0.05])
def test_arc_lies_on_its_circle(curvature):
    s = np.linspace(0.0, 20.0, 9)
    pose = evaluate_plan((element("arc", (curvature,)),), s)
    center = np.array([3.0, -2.0 + 1.0 / curvature])
    np.testing.assert_allclose(np.hypot(*(pose[:, :2] - center).T), 1.0 / abs(curvature), rtol=1e-9)
    np.testing.assert_allclose(pose[:, 2], s * curvature, atol=1e-12)


def test_spiral_agrees_with_fresnel_integrals():
    """A clothoid from curvature 0 with rate c is a scaled Fresnel integral (scipy's)."""
    rate, length = 0.02, 15.0
    s = np.linspace(0.0, length, 7)
    pose = evaluate_plan((element("spiral", (0.0, rate * length), length),), s)
    scale = np.sqrt(np.pi / rate)
    sine, cosine = fresnel(s / scale)
    np.testing.assert_allclose(pose[:, 0] - 3.0, scale * cosine, atol=1e-7)
    np.testing.assert_allclose(pose[:, 1] + 2.0, scale * sine, atol=1e-7)
    np.testing.assert_allclose(pose[:, 2], 0.5 * rate * s**2, atol=1e-12)


def test_poly3_is_followed_by_its_length():
    """v = u: a line at 45 degrees, so 10 m along it are 10 / sqrt(2) in each direction."""
    pose = evaluate_plan((element("poly3", (0.0, 1.0, 0.0, 0.0)),), np.array([10.0]))[0]
    np.testing.assert_allclose(pose - [3.0, -2.0, 0.0], [50**0.5, 50**0.5, np.pi / 4], atol=1e-6)


@pytest.mark.parametrize("p_end", [1.0, 20.0])
def test_param_poly3_ends_where_its_cubics_end(p_end):
    """Normalised parameters run to 1, those by arc length to the element's length."""
    parameters = (0.0, 20.0 / p_end, 0.0, 0.0, 0.0, 0.0, 4.0 / p_end**2, 0.0, p_end)
    x, y, heading = evaluate_plan((element("paramPoly3", parameters),), np.array([20.0]))[0]
    assert (x, y) == pytest.approx((23.0, 2.0))
    assert heading == pytest.approx(np.arctan2(8.0, 20.0))


def test_elements_are_chosen_by_distance():
    plan = (element("line", (), 10.0), element("arc", (0.1,), 10.0, s_m=10.0))
    headings = evaluate_plan(plan, np.array([5.0, 15.0]))[:, 2]
    np.testing.assert_allclose(headings, [0.0, 0.5])


def test_piecewise_cubic_uses_the_record_that_began_last():
    cubic = PiecewiseCubic.from_records([(10.0, 5.0, 0.0, 0.0, 0.0), (0.0, 1.0, 2.0, 3.0, 4.0)])
    np.testing.assert_allclose(cubic(np.array([2.0, 10.0, 99.0])), [1 + 4 + 12 + 32, 5.0, 5.0])
    np.testing.assert_allclose(PiecewiseCubic.from_records([])(np.array([7.0])), [0.0])


def test_before_its_first_record_a_road_is_not_shifted():
    """ASAM OpenDRIVE 1.7, 11.4: the example of a lane offset that begins 25 m after the road."""
    cubic = PiecewiseCubic.from_records([(25.0, 0.0, 0.0, 3.9e-3, -5.2e-5)])
    np.testing.assert_allclose(cubic(np.array([0.0, 10.0, 25.0])), 0.0)
    np.testing.assert_allclose(cubic(np.array([75.0])), [3.25])


def test_of_records_at_one_distance_the_later_one_in_the_file_holds():
    cubic = PiecewiseCubic.from_records([(0.0, 3.5, 0.0, 0.0, 0.0), (0.0, 3.0, 0.0, 0.0, 0.0)])
    np.testing.assert_allclose(cubic(np.array([0.0, 5.0])), 3.0)


@given(
    st.lists(st.tuples(*[st.floats(-100, 100)] * 3), min_size=2, max_size=40),
    st.floats(0.001, 5.0),
)
def test_simplified_line_stays_within_the_tolerance(points, tolerance_m):
    """Every dropped point lies within the tolerance of the segment that replaced it."""
    points = np.array(points)
    kept = simplify(points, tolerance_m)
    assert (kept[0] == points[0]).all()
    assert (kept[-1] == points[-1]).all()
    steps = np.diff(kept, axis=0)
    for point in points:
        share = np.einsum("ij,ij->i", point - kept[:-1], steps)
        share = np.clip(share / np.maximum((steps**2).sum(1), 1e-12), 0.0, 1.0)
        nearest = np.linalg.norm(kept[:-1] + share[:, None] * steps - point, axis=1).min()
        assert nearest <= tolerance_m + 1e-6


def test_straight_line_keeps_only_its_ends():
    points = np.linspace([0.0, 0.0, 0.0], [50.0, 20.0, 3.0], 60)
    assert len(simplify(points)) == 2
