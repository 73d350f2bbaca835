"""Straight edges through a lens: halved until each piece is close to the curve the lens makes."""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math

from rap_raster.compiled import helper
from rap_raster.frames import FloatArray
from rap_raster.projection import Quad, View, to_pixel

CHORD_PX = 0.1
"""Largest deviation of a drawn edge from the curve that the lens makes of it (contract: 1 px)."""

LONGEST_CHORD_PX = 64.0
"""Longer pieces are halved unseen: an S-shaped curve can meet the middle of its chord."""

SHORT_CHORD = 0.25
"""Chords of a squared length below this times the focal length, in pixels, are straight enough.

An edge bends with a radius of about the focal length, so that its arrow is 1/32 px there.
"""

WIDEST_COSINE2 = 0.97
"""Square of the cosine of the widest angle, 10 degrees, that a chord may span: a lens can compress
a wide arc into a few pixels, and then its ends say nothing about what is between them."""

MAX_HALVINGS = 12
"""An edge from the axis to 90 degrees needs some ten; what is finer than that is not visible."""


@helper
def chord_fits(
    model: int, coeffs: FloatArray, pinhole: Quad,
    ax: float, ay: float, az: float, bx: float, by: float, bz: float,
    au: float, av: float, bu: float, bv: float,
) -> bool:  # fmt: skip
    """True if the straight line between two image points is the lens image of the edge a, b.

    It is measured where the ray half-way in angle meets the image: the middle of the edge in space
    may lie next to one of its ends.
    """
    aa, bb = ax * ax + ay * ay + az * az, bx * bx + by * by + bz * bz
    ab = ax * bx + ay * by + az * bz
    if not (ab > 0.0 and ab * ab >= WIDEST_COSINE2 * aa * bb):
        return False
    du, dv = bu - au, bv - av
    squared = du * du + dv * dv
    if squared <= SHORT_CHORD * pinhole[0]:
        return True
    if squared > LONGEST_CHORD_PX * LONGEST_CHORD_PX:
        return False
    s = math.sqrt(bb / aa)
    z = s * az + bz
    u, v = to_pixel(model, coeffs, pinhole, (s * ax + bx) / z, (s * ay + by) / z)
    across = (u - au) * dv - (v - av) * du
    return across * across <= CHORD_PX * CHORD_PX * squared


@helper
def is_straight(
    model: int, coeffs: FloatArray, pinhole: Quad, x: Quad, y: Quad, z: Quad, u: Quad, v: Quad
) -> bool:
    """True if none of the four edges of a projected face needs to be bent."""
    if model == 0:
        return True
    (x0, x1, x2, x3), (y0, y1, y2, y3), (z0, z1, z2, z3) = x, y, z
    (u0, u1, u2, u3), (v0, v1, v2, v3) = u, v
    lens = (model, coeffs, pinhole)
    return (
        chord_fits(*lens, x0, y0, z0, x1, y1, z1, u0, v0, u1, v1)
        and chord_fits(*lens, x1, y1, z1, x2, y2, z2, u1, v1, u2, v2)
        and chord_fits(*lens, x2, y2, z2, x3, y3, z3, u2, v2, u3, v3)
        and chord_fits(*lens, x3, y3, z3, x0, y0, z0, u3, v3, u0, v0)
    )


@helper
def next_piece(piece: int, halvings: int, fits: bool) -> tuple[int, int]:
    """Walks over the pieces of 0..1: halves one that does not fit, else goes on to the next.

    Piece k of level n is k / 2^n .. (k + 1) / 2^n. The walk ends with piece 1 of level 0.
    """
    if not fits and halvings < MAX_HALVINGS:
        return 2 * piece, halvings + 1
    piece += 1
    while halvings > 0 and piece % 2 == 0:
        piece, halvings = piece // 2, halvings - 1
    return piece, halvings


@helper
def _bend_edge(
    view: View, a: FloatArray, b: FloatArray, us: FloatArray, vs: FloatArray, count: int
) -> int:
    """Appends the lens image of the edge from a to b, without its end; returns the new count.

    Only directions matter here. With both ends equally far from the camera, halves of the edge are
    halves of its angle.
    """
    aa, bb = a[0] * a[0] + a[1] * a[1] + a[2] * a[2], b[0] * b[0] + b[1] * b[1] + b[2] * b[2]
    far = math.sqrt(aa / bb)
    dx, dy, dz = far * b[0] - a[0], far * b[1] - a[1], far * b[2] - a[2]
    piece, halvings = 0, 0
    while halvings > 0 or piece == 0:
        share = 0.5**halvings
        s, t = piece * share, (piece + 1) * share
        sx, sy, sz = a[0] + s * dx, a[1] + s * dy, a[2] + s * dz
        tx, ty, tz = a[0] + t * dx, a[1] + t * dy, a[2] + t * dz
        su, sv = to_pixel(view.model, view.coeffs, view.pinhole, sx / sz, sy / sz)
        tu, tv = to_pixel(view.model, view.coeffs, view.pinhole, tx / tz, ty / tz)
        fits = chord_fits(
            view.model, view.coeffs, view.pinhole, sx, sy, sz, tx, ty, tz, su, sv, tu, tv
        )
        if fits or halvings == MAX_HALVINGS:
            if count < len(us):
                us[count], vs[count] = su, sv
            count += 1
        piece, halvings = next_piece(piece, halvings, fits)
    return count


@helper
def outline(
    view: View, points: FloatArray, count: int, us: FloatArray, vs: FloatArray, first: int
) -> int:
    """Appends the lens image of a face; returns where it ends, beyond the arrays if it is cut."""
    written = first
    for i in range(count):
        a, b = points[:, i].copy(), points[:, (i + 1) % count].copy()
        # The same pieces from either side, so that neighbours share them exactly.
        if a[0] < b[0] or (a[0] == b[0] and (a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]))):
            written = _bend_edge(view, a, b, us, vs, written)
            continue
        start = written
        written = _bend_edge(view, b, a, us, vs, written)
        if written > len(us):
            continue
        # Turned around: begin with a, and leave out b, which the next edge brings.
        for k in range((written - start - 1) // 2):
            i0, i1 = start + 1 + k, written - 1 - k
            us[i0], us[i1] = us[i1], us[i0]
            vs[i0], vs[i1] = vs[i1], vs[i0]
        us[start], vs[start] = to_pixel(
            view.model, view.coeffs, view.pinhole, a[0] / a[2], a[1] / a[2]
        )
    return written
