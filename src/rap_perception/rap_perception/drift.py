"""Motion of N road users that may go in any direction, at constant velocity: a Kalman filter.

For those whose heading says nothing about where they go: people turn on the spot, and cylinders and
boxes along the axes of the map have no heading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_perception.kalman import corrected
from rap_raster.frames import FloatArray

PLACE, VELOCITY = slice(0, 2), slice(2, 4)


@dataclass(frozen=True, slots=True)
class DriftStates:
    """Estimates of N objects.

    Attributes:
        mean: (N, 4) x, y (metres), their velocities (m/s), map frame.
        covariance: (N, 4, 4).
    """

    mean: FloatArray
    covariance: FloatArray


def predicted(states: DriftStates, dt_s: float, sigmas_mps2: FloatArray) -> DriftStates:
    """Moves all objects on by `dt_s`, each with (N,) random accelerations, constant meanwhile."""
    motion = np.eye(4)
    motion[PLACE, VELOCITY] = dt_s * np.eye(2)
    gain = np.concatenate([0.5 * dt_s**2 * np.eye(2), dt_s * np.eye(2)])
    noise = sigmas_mps2[:, None, None] ** 2 * (gain @ gain.T)
    return DriftStates(states.mean @ motion.T, motion @ states.covariance @ motion.T + noise)


def seen_at(states: DriftStates, places_m: FloatArray, sigma_m: float) -> DriftStates:
    """Corrects all objects by (N, 2) measured places."""
    return _measured(states, places_m, PLACE, sigma_m)


def moving_at(states: DriftStates, velocities_mps: FloatArray, sigma_mps: float) -> DriftStates:
    """Corrects all objects by (N, 2) measured velocities, or by the knowledge that they stand."""
    return _measured(states, velocities_mps, VELOCITY, sigma_mps)


def _measured(states: DriftStates, values: FloatArray, which: slice, sigma: float) -> DriftStates:
    count = len(values)
    measured = np.broadcast_to(np.eye(4)[which], (count, 2, 4))
    difference = values - states.mean[:, which]
    sigmas = np.full((count, 2), sigma)
    return DriftStates(*corrected(states.mean, states.covariance, difference, measured, sigmas))
