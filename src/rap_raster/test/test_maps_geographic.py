from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from rap_raster.maps.geographic import UtmZone, covers, mgrs_square, utm_metres, utm_zone

A_M, F = 6_378_137.0, 1 / 298.257223563  # WGS 84.
E2 = F * (2 - F)


def project(latitude, longitude, zone=None):
    zone = zone or utm_zone(latitude, longitude)
    return utm_metres(np.array([latitude]), np.array([longitude]), zone)[0]


# GeoConvert: manual of GeographicLib. The others: documentation of the Python package utm 0.7.
PUBLISHED = [
    ("GeoConvert", 33.3, 44.4, "38N", 444140.54, 3684706.36, 0.006),
    ("Aachen", 50.77535, 6.08389, "32N", 294409, 5628898, 0.6),
    ("New York", 40.71435, -74.00597, "18N", 583960, 4507523, 0.6),
    ("Wellington", -41.28646, 174.77624, "60S", 313784, 5427057, 0.6),
    ("Cape Town", -33.92487, 18.42406, "34S", 261878, 6243186, 0.6),
    ("Mendoza", -32.89018, -68.84405, "19S", 514586, 6360877, 0.6),
]


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case[0])
def test_published_places(case):
    _, latitude, longitude, zone, east, north, tolerance = case
    assert str(utm_zone(latitude, longitude)) == zone
    np.testing.assert_allclose(project(latitude, longitude), [east, north], rtol=0, atol=tolerance)


def meridian_radius_m(latitude_rad):
    return A_M * (1 - E2) / (1 - E2 * np.sin(latitude_rad) ** 2) ** 1.5


@pytest.mark.parametrize("latitude", [5.0, 49.0, 70.0, 83.0])
def test_northing_on_the_central_meridian_is_its_length(latitude):
    """By definition 0.9996 of the meridian's arc, here by quadrature, to 0.01 mm."""
    arc_m, _ = quad(meridian_radius_m, 0.0, np.radians(latitude), epsabs=1e-7, epsrel=1e-13)
    np.testing.assert_allclose(
        project(latitude, 9.0, UtmZone(32, False)), [5e5, 0.9996 * arc_m], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("latitude", "longitude"), [(49.0, 8.4), (10.0, 11.9), (78.0, 6.5)])
def test_projection_is_conformal(latitude, longitude):
    """A step east is the step north of equal length on the ellipsoid turned by 90 degrees.

    With the meridian's arc this property defines the transverse Mercator projection.
    """
    zone, step = UtmZone(32, False), 1e-4
    north = project(latitude + step, longitude, zone) - project(latitude - step, longitude, zone)
    east = project(latitude, longitude + step, zone) - project(latitude, longitude - step, zone)
    sin = np.sin(np.radians(latitude))
    parallel_m = A_M / np.sqrt(1 - E2 * sin**2) * np.cos(np.radians(latitude))
    ratio = parallel_m / meridian_radius_m(np.radians(latitude))
    np.testing.assert_allclose(east / ratio, [north[1], -north[0]], rtol=1e-7, atol=2e-6)


def test_zones_of_norway_and_svalbard():
    """Bergen would be in zone 31 and Longyearbyen in 32 (6 degrees from 180 west on)."""
    assert utm_zone(60.4, 5.3).number == 32
    assert utm_zone(78.2, 11.0).number == 33
    assert utm_zone(60.4, 2.9).number == 31
    assert utm_zone(50.0, 5.3).number == 31


def test_places_across_the_date_line_are_near():
    east, west = (
        project(10.0, 179.9999, UtmZone(60, False)),
        project(10, -179.9999, UtmZone(60, False)),
    )
    assert np.hypot(*(east - west)) == pytest.approx(0.0002 * 109_600, rel=0.01)


@pytest.mark.parametrize(
    ("latitude", "longitude", "name"),
    [
        (33.3, 44.4, "38SMB"),  # GeoConvert: manual of GeographicLib.
        (38.8895, -77.0352, "18SUJ"),  # Washington Monument, 18SUJ2337106519: USGS.
        (21.3098, -157.8590, "04QFJ"),  # Honolulu, 4QFJ12345678: Wikipedia, MGRS.
        (35.6812, 139.7671, "54SUE"),  # Tokyo: mgrs_grid in Autoware's documentation.
    ],
)
def test_squares_of_published_places(latitude, longitude, name):
    utm_m = project(latitude, longitude)
    found, corner = mgrs_square(latitude, utm_m, utm_zone(latitude, longitude))
    assert found == name
    assert (corner <= utm_m).all()
    assert (utm_m < corner + 100_000).all()


@pytest.mark.parametrize("place", [(84.1, 0.0), (-80.1, 0.0), (0.0, 180.5), (np.nan, 0.0)])
def test_places_outside_utm_are_told(place):
    assert not covers(np.array([[50.0, 8.0], place]))
    assert covers(np.array([[50.0, 8.0], [84.0, -180.0]]))
