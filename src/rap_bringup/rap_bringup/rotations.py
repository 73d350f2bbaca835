"""Quaternions of rotation matrices, for messages. The other direction is `rap_perception.rig`."""

from __future__ import annotations

import numpy as np

from rap_raster.frames import FloatArray


def quaternion_from_rotation(rotation: FloatArray) -> FloatArray:
    """Returns the (4,) unit quaternion x, y, z, w of a (3, 3) rotation, with w >= 0.

    Source: the quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix made
    of the rotation (Bar-Itzhack 2000), which has no special case for half turns.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation
    matrix = np.array(
        [
            [a - e - i, b + d, c + g, h - f],
            [b + d, e - a - i, f + h, c - g],
            [c + g, f + h, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    _, vectors = np.linalg.eigh(matrix / 3.0)
    xyzw: FloatArray = vectors[:, -1]
    return xyzw if xyzw[3] >= 0 else -xyzw
