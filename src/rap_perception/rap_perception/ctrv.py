"""Motion of N road users at constant turn rate and velocity, as an extended Kalman filter.

The state of each is x, y, yaw, speed along yaw, yaw rate; all N are predicted and corrected at
once. The model is the usual one of road user tracking (Schubert, Richter, Wanielik 2008,
"Comparison and evaluation of advanced motion models for vehicle tracking").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_perception.kalman import corrected
from rap_raster.frames import FloatArray, wrap_angle

X, Y, YAW, SPEED, YAW_RATE = range(5)


@dataclass(frozen=True, slots=True)
class MotionStates:
    """Estimates of N objects.

    Attributes:
        mean: (N, 5) x, y (metres, map), yaw (radians), speed (m/s), yaw rate (rad/s).
        covariance: (N, 5, 5).
    """

    mean: FloatArray
    covariance: FloatArray

    def velocities_mps(self) -> FloatArray:
        """Returns (N, 2) velocities, map frame."""
        return self.mean[:, SPEED, None] * along(self.mean[:, YAW])


def along(yaws_rad: FloatArray) -> FloatArray:
    """Returns (N, 2) unit vectors of headings."""
    vectors: FloatArray = np.stack([np.cos(yaws_rad), np.sin(yaws_rad)], axis=1)
    return vectors


def _left_of(vectors: FloatArray) -> FloatArray:
    return np.stack([-vectors[:, 1], vectors[:, 0]], axis=1)


def predicted(states: MotionStates, dt_s: float, sigmas: FloatArray) -> MotionStates:
    """Moves all objects on by `dt_s`.

    Args:
        states: Now.
        dt_s: Seconds, not negative.
        sigmas: (N, 2) how strongly each may accelerate (m/s2) and change its yaw rate (rad/s2).
    """
    half_turn = 0.5 * dt_s * states.mean[:, YAW_RATE]
    heading = states.mean[:, YAW] + half_turn
    # The chord of the arc: np.sinc has pi inside.
    shortening = np.sinc(half_turn / np.pi)
    speed = states.mean[:, SPEED]
    forwards, left = along(heading), _left_of(along(heading))
    chord_m = speed * dt_s * shortening
    mean = states.mean.copy()
    mean[:, :2] += chord_m[:, None] * forwards
    mean[:, YAW] = wrap_angle(mean[:, YAW] + 2.0 * half_turn)
    jacobian = np.tile(np.eye(5), (len(mean), 1, 1))
    jacobian[:, :2, YAW] = chord_m[:, None] * left
    jacobian[:, :2, SPEED] = (dt_s * shortening)[:, None] * forwards
    # The derivative of sin(x) / x is -x / 3 for the small turns of one step.
    shorter_m = -speed * dt_s * half_turn / 3.0
    by_half_turn = chord_m[:, None] * left + shorter_m[:, None] * forwards
    jacobian[:, :2, YAW_RATE] = 0.5 * dt_s * by_half_turn
    jacobian[:, YAW, YAW_RATE] = dt_s
    covariance = jacobian @ states.covariance @ jacobian.transpose(0, 2, 1)
    return MotionStates(mean, covariance + _process_noise(forwards, dt_s, sigmas))


def _process_noise(forwards: FloatArray, dt_s: float, sigmas: FloatArray) -> FloatArray:
    """Returns (N, 5, 5): accelerations that are constant within a step and random between steps."""
    gain = np.zeros((len(forwards), 5, 2))
    gain[:, :2, 0] = 0.5 * dt_s**2 * forwards
    gain[:, SPEED, 0] = dt_s
    gain[:, YAW, 1] = 0.5 * dt_s**2
    gain[:, YAW_RATE, 1] = dt_s
    scaled = gain * sigmas[:, None, :]
    noise: FloatArray = scaled @ scaled.transpose(0, 2, 1)
    return noise


def seen_at(states: MotionStates, poses: FloatArray, sigmas: FloatArray) -> MotionStates:
    """Corrects all objects by measured poses.

    Args:
        states: Predicted to the stamp of the measurement.
        poses: (N, 3) measured x, y, yaw.
        sigmas: (N, 3) standard deviations of `poses`.
    """
    difference = poses - states.mean[:, :3]
    difference[:, YAW] = wrap_angle(difference[:, YAW])
    measured = np.broadcast_to(np.eye(3, 5), (len(poses), 3, 5))
    return _corrected(states, difference, measured, sigmas)


def moving_at(states: MotionStates, velocities_mps: FloatArray, sigma_mps: float) -> MotionStates:
    """Corrects all objects by (N, 2) measured velocities, map frame."""
    forwards, speed = along(states.mean[:, YAW]), states.mean[:, SPEED]
    measured = np.zeros((len(speed), 2, 5))
    measured[:, :, SPEED] = forwards
    measured[:, :, YAW] = speed[:, None] * _left_of(forwards)
    difference = velocities_mps - speed[:, None] * forwards
    return _corrected(states, difference, measured, np.full((len(speed), 2), sigma_mps))


def standing(states: MotionStates, sigmas: FloatArray) -> MotionStates:
    """Corrects all objects by the knowledge that they stand: neither speed nor yaw rate.

    Args:
        states: Of objects that stand.
        sigmas: (2,) how sure that is: m/s, rad/s.
    """
    measured = np.broadcast_to(np.eye(5)[[SPEED, YAW_RATE]], (len(states.mean), 2, 5))
    difference = -states.mean[:, [SPEED, YAW_RATE]]
    return _corrected(states, difference, measured, np.broadcast_to(sigmas, difference.shape))


def turned_round(states: MotionStates, shift_m: FloatArray) -> MotionStates:
    """Swaps front and rear: the same motion, seen backwards.

    Args:
        states: Before.
        shift_m: (N, 2) how far the point that is followed moves by that, map frame.
    """
    mean = states.mean.copy()
    mean[:, :2] += shift_m
    mean[:, YAW] = wrap_angle(mean[:, YAW] + np.pi)
    mean[:, SPEED] *= -1.0
    sign = np.array([1.0, 1.0, 1.0, -1.0, 1.0])
    return MotionStates(mean, states.covariance * np.outer(sign, sign))


def _corrected(
    states: MotionStates, difference: FloatArray, measured: FloatArray, sigmas: FloatArray
) -> MotionStates:
    """Applies the Kalman correction.

    Args:
        states: Before.
        difference: (N, M) measured minus expected.
        measured: (N, M, 5) derivative of what is expected.
        sigmas: (N, M) standard deviations of the measurement.
    """
    mean, covariance = corrected(states.mean, states.covariance, difference, measured, sigmas)
    mean[:, YAW] = wrap_angle(mean[:, YAW])
    return MotionStates(mean, covariance)
