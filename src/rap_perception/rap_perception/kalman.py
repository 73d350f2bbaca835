"""The correction of N Kalman filters at once."""

from __future__ import annotations

import numpy as np

from rap_raster.frames import FloatArray


def corrected(
    mean: FloatArray,
    covariance: FloatArray,
    difference: FloatArray,
    measured: FloatArray,
    sigmas: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Applies a measurement.

    Args:
        mean: (N, S) before.
        covariance: (N, S, S) before.
        difference: (N, M) measured minus expected.
        measured: (N, M, S) derivative of what is expected.
        sigmas: (N, M) standard deviations of the measurement.

    Returns:
        Mean and covariance after it.
    """
    spread = covariance @ measured.transpose(0, 2, 1)
    noise = sigmas[:, :, None] ** 2 * np.eye(sigmas.shape[1])
    gain = spread @ np.linalg.inv(measured @ spread + noise)
    # Joseph's form stays symmetric and positive whatever the rounding.
    rest = np.eye(mean.shape[1]) - gain @ measured
    after = rest @ covariance @ rest.transpose(0, 2, 1) + gain @ noise @ gain.transpose(0, 2, 1)
    return mean + (gain @ difference[:, :, None])[:, :, 0], after
