"""Thinning and cutting map lines, so that bags stay small and maps crop well."""

from __future__ import annotations

import numpy as np
import shapely

from rap_raster.frames import FloatArray

TOLERANCE_M = 0.05
"""Half a painted line's width: thinner deviations are not visible in any raster."""

SEAM_M = 0.2
"""Digitised areas of one road leave gaps of this size between them; no kerb is that thin."""

PIECE_M = 50.0
"""Cropping keeps whole pieces, so a piece must be short against the 120 m drawing range."""


def thinned(points_m: FloatArray, *, closed: bool = False) -> FloatArray:
    """Drops points that lie within `TOLERANCE_M` of the line without them, seen from above.

    Args:
        points_m: (n, 3) metres.
        closed: True for the outline of an area, first point not repeated.

    Returns:
        (m, 3) some of the points; of an open line the first and the last one always.

    Source: Ramer 1972, Douglas and Peucker 1973.
    """
    line = np.concatenate([points_m, points_m[:1]]) if closed else points_m
    keep = np.zeros(len(line), dtype=bool)
    keep[[0, -1]] = True
    spans = [(0, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _distances(line[first + 1 : last, :2], line[first, :2], line[last, :2])
        farthest = first + 1 + int(np.argmax(distances))
        if distances.max() > TOLERANCE_M:
            keep[farthest] = True
            spans += [(first, farthest), (farthest, last)]
    kept = line[keep]
    if not closed:
        return kept
    return kept[:-1] if len(kept) > 3 else points_m


def _distances(points: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    """Distances of (n, 2) points to the segment from `start` to `end`."""
    step = end - start
    length2 = float(step @ step)
    share = np.clip((points - start) @ step / length2, 0.0, 1.0) if length2 > 0 else 0.0
    nearest = start + np.multiply.outer(share, step)
    result: FloatArray = np.linalg.norm(points - nearest, axis=1)
    return result


def pieces(points_m: FloatArray, piece_m: float = PIECE_M) -> list[FloatArray]:
    """Cuts a line into consecutive pieces of at most about `piece_m`, sharing their end points.

    Args:
        points_m: (n, 3) metres, n >= 2.
        piece_m: Longest piece; one segment longer than that stays whole.
    """
    lengths = np.linalg.norm(np.diff(points_m[:, :2], axis=0), axis=1)
    result, start, length = [], 0, 0.0
    for index, segment in enumerate(lengths):
        if length + segment > piece_m and index > start:
            result.append(points_m[start : index + 1])
            start, length = index, 0.0
        length += float(segment)
    result.append(points_m[start:])
    return result


def outlines(areas_m: list[FloatArray]) -> list[FloatArray]:
    """Returns the closed outer edges of overlapping or touching areas taken together.

    Edges that two areas share are no edges of the road. Areas closer than `SEAM_M` touch.

    Args:
        areas_m: (n, 3) rings; heights are ignored.

    Returns:
        (m, 3) closed lines on z = 0, holes included.
    """
    polygons = [shapely.make_valid(shapely.Polygon(ring[:, :2])) for ring in areas_m]
    whole = shapely.union_all([polygon.buffer(SEAM_M) for polygon in polygons]).buffer(-SEAM_M)
    rings = []
    for part in shapely.get_parts(whole):
        if isinstance(part, shapely.Polygon):
            rings += [part.exterior, *part.interiors]
    lines = [np.asarray(ring.coords, dtype=np.float64)[:, :2] for ring in rings]
    return [np.column_stack([line, np.zeros(len(line))]) for line in lines]
