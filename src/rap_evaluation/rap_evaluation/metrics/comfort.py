"""Comfort of driven or simulated motion: NAVSIM's comfort, history comfort and extended comfort.

All three filter the same signals of the ego states (acceleration, jerk, yaw rate, yaw
acceleration) with Savitzky-Golay filters and compare them with bounds; they differ in windows,
orders and in the states they look at. Such a filter is linear, so each is one matrix, made once
by SciPy, and a batch of plans is filtered by one product.

Source: NAVSIM `pdm_comfort_metrics.py`, v1.1 for comfort, v2.2 for the other two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import savgol_filter

from rap_evaluation.metrics.pdm_scene import DT_S, STATE_SIZE, STATES, StateIndex
from rap_raster.frames import FloatArray

COMFORT_BOUNDS = (
    (-4.05, 2.40),  # Longitudinal acceleration, m/s^2.
    (-4.89, 4.89),  # Lateral acceleration, m/s^2.
    (-8.37, 8.37),  # Jerk of the magnitude of the acceleration, m/s^3.
    (-4.13, 4.13),  # Longitudinal jerk, m/s^3.
    (-1.93, 1.93),  # Yaw acceleration, rad/s^2.
    (-0.95, 0.95),  # Yaw rate, rad/s.
)
"""What is comfortable lies strictly between; in the order of the comfort flags.

Source: NAVSIM `pdm_comfort_metrics.py`, nuPlan's bounds of expert driving.
"""

EXTENDED_COMFORT_LIMITS = {"acceleration": 0.7, "jerk": 0.5, "yaw_rate": 0.1, "yaw_accel": 0.1}
"""Largest RMS differences of two plans: m/s^2, m/s^3, rad/s, rad/s^2. Source: same file."""

JERK_WINDOW = 15
"""Of history and extended comfort, the longest of theirs. Source: same file."""

_SMOOTHING_WINDOW = 8  # Even: SciPy then centers it between two samples.
_YAW_WINDOW = 5
_SAME_TIME_S = 1e-3
_DECIMALS = 8  # To which every filtered signal is rounded.


def future_comfort_flags(states: FloatArray) -> npt.NDArray[np.bool_]:
    """Judges the comfort of C plans as NAVSIM v1 does.

    Acceleration and jerk come from one parabola through the whole plan: the filter's window is
    as long as the plan.

    Args:
        states: (C, 41, 11) simulated rear-axle states.

    Returns:
        (C, 6) True where a signal stays within `COMFORT_BOUNDS`.

    Source: NAVSIM v1.1 `pdm_comfort_metrics.py`.
    """
    along, across = states[..., StateIndex.AX], states[..., StateIndex.AY]
    return _comfort_flags(states, along, across, acceleration_window=STATES, jerk_window=STATES)


def history_comfort_flags(
    states: FloatArray, *, rear_axle_to_center_m: float
) -> npt.NDArray[np.bool_]:
    """Judges the comfort of C plans together with what was driven before, as NAVSIM v2 does.

    The acceleration along x is moved to the center of the box, with both terms of the rotation
    on x: ax + d w^2 + d alpha. That is no rigid body's acceleration, but the metric's.

    Args:
        states: (C, m + 41, 11) rear-axle states: `history_samples`, then the simulated ones.
        rear_axle_to_center_m: From the rear axle to the center of the box.

    Returns:
        (C, 6) True where a signal stays within `COMFORT_BOUNDS`.

    Source: NAVSIM v2.2 `pdm_comfort_metrics.py`, `pdm_geometry_utils.py:158-178`.
    """
    rate = states[..., StateIndex.ANGULAR_VELOCITY]
    rotation = rate * rate + states[..., StateIndex.ANGULAR_ACCELERATION]
    along = states[..., StateIndex.AX] + rear_axle_to_center_m * rotation
    across = states[..., StateIndex.AY]
    return _comfort_flags(
        states, along, across, acceleration_window=_SMOOTHING_WINDOW, jerk_window=JERK_WINDOW
    )


def as_scores(flags: npt.NDArray[np.bool_]) -> FloatArray:
    """Returns the (C,) scores of (C, 6) comfort flags: 1 where all are True, else 0."""
    return np.asarray(flags.all(axis=-1), dtype=np.float64)


def history_samples(times_s: FloatArray, states: FloatArray) -> FloatArray:
    """Samples the driven past for history comfort.

    The official code means to stop before the present, but drops one sample more; the gap of 0.2 s
    that is left is treated as one step. The usual 1.5 s give 14 samples.

    Args:
        times_s: (n,) ascending; the first is where the past begins, the last is 0, the present.
        states: (n, 7) the first seven `StateIndex` columns of the rear axle.

    Returns:
        (m, 11) states every 0.1 s, interpolated linearly; their steering and angular columns are 0,
        as the official code has them.

    Raises:
        ValueError: If the history is shorter than 0.2 s or does not end at the present.

    Source: NAVSIM v2.2 `pdm_scorer.py:656-700`.
    """
    count = round(-times_s[0] / DT_S) - 1 if len(times_s) else 0
    if count < 1 or abs(times_s[-1]) > _SAME_TIME_S:
        raise ValueError("ego_history: expected states from -0.2 s or earlier to now, t = 0")
    sampled_s = times_s[0] + DT_S * np.arange(count)
    columns = np.array(states, dtype=np.float64)
    columns[:, StateIndex.HEADING] = np.unwrap(columns[:, StateIndex.HEADING])
    samples = np.zeros((count, STATE_SIZE))
    for index in range(StateIndex.AY + 1):
        samples[:, index] = np.interp(sampled_s, times_s, columns[:, index])
    return samples


def extended_comfort_rms(current: FloatArray, previous: FloatArray) -> dict[str, float]:
    """Measures how much two plans for the same time differ.

    Args:
        current: (T, 11) simulated rear-axle states of the later plan, T at least `JERK_WINDOW`.
        previous: (T, 11) states of the earlier plan at the same times.

    Returns:
        Root mean square differences by the names of `EXTENDED_COMFORT_LIMITS`.

    Source: NAVSIM v2.2 `pdm_comfort_metrics.py:430-467`.
    """
    states = np.stack([current, previous])
    acceleration = _smoothed(_magnitude(states), _SMOOTHING_WINDOW)
    heading = np.unwrap(states[..., StateIndex.HEADING])
    signals = {
        "acceleration": acceleration,
        "jerk": savitzky_golay(acceleration, JERK_WINDOW, order=2, derivative=1),
        "yaw_rate": _yaw_rate(heading),
        "yaw_accel": _yaw_acceleration(heading, order=2),
    }
    return {
        name: float(np.sqrt(np.mean(np.square(now - before))))
        for name, (now, before) in signals.items()
    }


def is_extended_comfortable(rms: dict[str, float]) -> bool:
    """Tells whether two plans agree: no difference is above `EXTENDED_COMFORT_LIMITS`."""
    return all(rms[name] <= limit for name, limit in EXTENDED_COMFORT_LIMITS.items())


def within_bounds(signals: Sequence[FloatArray]) -> npt.NDArray[np.bool_]:
    """Compares six (..., T) signals with `COMFORT_BOUNDS`, returns (..., 6)."""
    flags = [
        ((signal > lower) & (signal < upper)).all(axis=-1)
        for signal, (lower, upper) in zip(signals, COMFORT_BOUNDS, strict=True)
    ]
    return np.stack(flags, axis=-1)


def savitzky_golay(
    values: FloatArray, window: int, *, order: int, derivative: int = 0
) -> FloatArray:
    """Filters (..., T) samples that are `DT_S` apart; polynomials are extended at both ends.

    Returns:
        (..., T) the smoothed signal or its derivative, rounded to 8 decimals as NAVSIM does.

    Source: `scipy.signal.savgol_filter`, mode `interp`.
    """
    matrix = _filter_matrix(values.shape[-1], window, order, derivative)
    return np.round(values @ matrix, _DECIMALS)


@lru_cache(maxsize=64)
def _filter_matrix(samples: int, window: int, order: int, derivative: int) -> FloatArray:
    """Returns the (T, T) matrix of a filter: row i is its response to an impulse at sample i."""
    impulses = np.eye(samples)
    matrix = np.asarray(
        savgol_filter(impulses, window, order, deriv=derivative, delta=DT_S, axis=-1)
    )
    matrix.flags.writeable = False
    return matrix


def _comfort_flags(
    states: FloatArray,
    along: FloatArray,
    across: FloatArray,
    *,
    acceleration_window: int,
    jerk_window: int,
) -> npt.NDArray[np.bool_]:
    heading = np.unwrap(states[..., StateIndex.HEADING])
    return within_bounds(
        (
            _smoothed(along, acceleration_window),
            _smoothed(across, acceleration_window),
            _jerk(_magnitude(states), jerk_window),
            _jerk(along, jerk_window),
            _yaw_acceleration(heading, order=3),
            _yaw_rate(heading),
        )
    )


def _magnitude(states: FloatArray) -> FloatArray:
    return np.hypot(states[..., StateIndex.AX], states[..., StateIndex.AY])


def _smoothed(values: FloatArray, window: int) -> FloatArray:
    return savitzky_golay(values, window, order=2)


def _jerk(acceleration: FloatArray, window: int) -> FloatArray:
    smoothed = _smoothed(acceleration, _SMOOTHING_WINDOW)
    return savitzky_golay(smoothed, window, order=2, derivative=1)


def _yaw_rate(heading: FloatArray) -> FloatArray:
    return savitzky_golay(heading, _YAW_WINDOW, order=2, derivative=1)


def _yaw_acceleration(heading: FloatArray, order: int) -> FloatArray:
    return savitzky_golay(heading, _YAW_WINDOW, order=order, derivative=2)
