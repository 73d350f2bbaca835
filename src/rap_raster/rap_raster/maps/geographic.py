"""Latitude and longitude (WGS 84) as UTM metres, and the squares of MGRS.

Source of the formulas: C. F. F. Karney, "Transverse Mercator with an accuracy of a few nanometers",
Journal of Geodesy 85 (2011), equations 7-9 and 35 (Krueger's series to sixth order; exact to a
micrometre within a zone). Zones, letters and false origins: NGA.STND.0037 (2014), UTM and MGRS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.frames import FloatArray

SQUARE_M = 100_000.0
"""Side of an MGRS square."""

_EQUATORIAL_RADIUS_M = 6_378_137.0
_FLATTENING = 1.0 / 298.257223563
_SCALE = 0.9996  # On the central meridian.
_FALSE_EASTING_M = 500_000.0
_FALSE_NORTHING_M = 10_000_000.0  # South of the equator.
_MAX_LATITUDE_DEG = 84.0  # Of UTM; -80 in the south.
_MIN_LATITUDE_DEG = -80.0

_N = _FLATTENING / (2.0 - _FLATTENING)  # Third flattening.
_ECCENTRICITY = np.sqrt(_FLATTENING * (2.0 - _FLATTENING))
_RADIUS_M = _EQUATORIAL_RADIUS_M / (1.0 + _N) * (1.0 + _N**2 / 4 + _N**4 / 64 + _N**6 / 256)
_ALPHA = np.array([
    [1 / 2, -2 / 3, 5 / 16, 41 / 180, -127 / 288, 7891 / 37800],
    [0, 13 / 48, -3 / 5, 557 / 1440, 281 / 630, -1983433 / 1935360],
    [0, 0, 61 / 240, -103 / 140, 15061 / 26880, 167603 / 181440],
    [0, 0, 0, 49561 / 161280, -179 / 168, 6601661 / 7257600],
    [0, 0, 0, 0, 34729 / 80640, -3418889 / 1995840],
    [0, 0, 0, 0, 0, 212378941 / 319334400],
]) @ _N ** np.arange(1, 7)  # fmt: skip

_BANDS = "CDEFGHJKLMNPQRSTUVWXX"  # Eight degrees each from 80 south on, the last one twelve.
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")  # By zone modulo 3.
_ROWS = "ABCDEFGHJKLMNPQRSTUV"


@dataclass(frozen=True, slots=True)
class UtmZone:
    """A zone and a hemisphere."""

    number: int
    south: bool

    def __str__(self) -> str:
        """Such as 32N."""
        return f"{self.number}{'S' if self.south else 'N'}"


def covers(places_deg: FloatArray) -> bool:
    """Returns whether UTM is defined at all of (n, 2) latitudes and longitudes."""
    latitude, longitude = places_deg.T
    inside = (latitude >= _MIN_LATITUDE_DEG) & (latitude <= _MAX_LATITUDE_DEG)
    return bool(np.all(inside & (np.abs(longitude) <= 180.0)))


def utm_zone(latitude_deg: float, longitude_deg: float) -> UtmZone:
    """Returns the zone of a place, with the exceptions for Norway and Svalbard."""
    number = int((longitude_deg + 180.0) // 6.0) % 60 + 1
    if 56.0 <= latitude_deg < 64.0 and 3.0 <= longitude_deg < 12.0:
        number = 32
    elif latitude_deg >= 72.0 and 0.0 <= longitude_deg < 42.0:
        number = 31 + 2 * int((longitude_deg + 3.0) // 12.0)
    return UtmZone(number, latitude_deg < 0.0)


def utm_metres(latitudes_deg: FloatArray, longitudes_deg: FloatArray, zone: UtmZone) -> FloatArray:
    """Projects places into a zone; it need not be their own.

    Args:
        latitudes_deg: (n,) degrees, WGS 84.
        longitudes_deg: (n,) degrees.
        zone: Zone of the result.

    Returns:
        (n, 2) easting and northing, metres.
    """
    meridian_deg = 6.0 * zone.number - 183.0
    sin = np.sin(np.radians(latitudes_deg))
    # tau of the conformal latitude, of a sphere on which angles are those of the ellipsoid.
    tau = np.sinh(np.arctanh(sin) - _ECCENTRICITY * np.arctanh(_ECCENTRICITY * sin))
    away = np.radians((longitudes_deg - meridian_deg + 180.0) % 360.0 - 180.0)
    xi = np.arctan2(tau, np.cos(away))
    eta = np.arcsinh(np.sin(away) / np.hypot(tau, np.cos(away)))
    even = 2.0 * np.arange(1, 7)[:, None]
    north = xi + _ALPHA @ (np.sin(even * xi) * np.cosh(even * eta))
    east = eta + _ALPHA @ (np.cos(even * xi) * np.sinh(even * eta))
    origin = np.array([_FALSE_EASTING_M, _FALSE_NORTHING_M if zone.south else 0.0])
    metres: FloatArray = origin + _SCALE * _RADIUS_M * np.stack([east, north], axis=-1)
    return metres


def mgrs_square(latitude_deg: float, utm_m: FloatArray, zone: UtmZone) -> tuple[str, FloatArray]:
    """Returns the square of a place, such as 32UMV, and its (2,) south-west corner in UTM."""
    corner = np.floor(utm_m / SQUARE_M)
    column, row = int(corner[0]) - 1, int(corner[1])
    row += 5 if zone.number % 2 == 0 else 0  # Rows of even zones begin with F.
    band = _BANDS[int((latitude_deg - _MIN_LATITUDE_DEG) // 8.0)]
    letters = _COLUMNS[zone.number % 3][column % 8] + _ROWS[row % 20]
    return f"{zone.number:02}{band}{letters}", corner * SQUARE_M
