"""Driving along the route: what proposals do where the network adds nothing.

Offsets from the route are driven back in a critically damped way over the distance driven; what the
network adds pushes against that. Source: de Luca, Oriolo and Samson 1998, "Feedback control of a
nonholonomic car-like robot", path following in chained form. Speeds are kept to what bends allow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rap_evaluation.expert.paths import FRONT_M
from rap_evaluation.traffic.curve_speed import MAX_LATERAL_MPS2

RETURN_M = 3.0
RETURN_S = 1.0
"""An offset is mostly gone after twice `RETURN_M` plus `RETURN_S` times the speed. A tracker with a
lag (NAVSIM's, or any vehicle's) swings around the route behind plans that return sooner."""

STEERING_LEAD_S = 1.0
"""Turns that the route makes within this time and the wheels, as they stand, do not are steered
twice. A tracker needs that time to turn them (NAVSIM's looks so far ahead); without the lead the
vehicle strays by 1.1 m from a bend of 7 m radius, with it by 0.4 m. For use only: trained with a
lead, planners left the road more often."""

LEAST_WAY_M = 1.0
"""The excess is spread over this way at least: who hardly moves would have to turn on the spot."""

MAX_TURN = 0.7
"""Tangent of the largest angle to the route that is driven back: 35 degrees."""

BRAKING_MPS2 = 1.5
"""Braking before bends."""

HARD_BRAKING_MPS2 = 4.0
"""Where a bend comes into sight late, or a vehicle is to stop at once."""

INSET_M2 = 0.25 * FRONT_M**2
"""Over the radius of a bend: how far the rear axle runs inside of the route, as PDM-Closed's does.
It halves what the front sweeps outside beyond the rear."""


@dataclass(frozen=True, slots=True)
class RouteAhead:
    """The route at its points, and in between.

    Attributes:
        columns: (B, R, 5) x, y, heading, curvature, highest speed.
        spacing_m: Between the points.
        last: (B, 1, 1) number of the last known point.
        valid: (B, 1) 1 where there is a route.
    """

    columns: Tensor
    spacing_m: float
    last: Tensor
    valid: Tensor

    def at(self, along_m: Tensor) -> Tensor:
        """Returns the (B, K, T, 5) columns some (B, K, T) way along; straight on past its end."""
        place = torch.minimum(along_m / self.spacing_m, self.last)
        number = torch.arange(self.columns.shape[1], dtype=place.dtype, device=place.device)
        shares = torch.relu(1.0 - torch.abs(place[..., None] - number))  # Points on both sides.
        there = (shares.flatten(1, 2) @ self.columns).reshape(*place.shape, 5)
        x, y, heading, curvature, speed = there.unbind(-1)
        past_m = torch.relu(along_m - self.last * self.spacing_m)
        x, y = x + past_m * torch.cos(heading), y + past_m * torch.sin(heading)
        return torch.stack([x, y, heading, curvature, speed], dim=-1)


def read_route(route: Tensor, spacing_m: float) -> RouteAhead:
    """Reads the route.

    Args:
        route: (B, R, 3) x, y, valid, `spacing_m` apart, the first one beside the ego; R >= 3.
        spacing_m: Between the points.
    """
    pieces = (route[:, 1:, :2] - route[:, :-1, :2]) * route[:, 1:, 2:]
    behind = 2.0 * pieces[:, :1] - pieces[:, 1:2]  # As if the first bend had begun before.
    before, after = torch.cat([behind, pieces], dim=1), torch.cat([pieces, 0.0 * behind], dim=1)
    ways = before + after
    ahead = torch.zeros_like(ways[:, :1])
    ahead[..., 0] = 1.0
    heading = torch.cumsum(_turns(torch.cat([ahead, ways[:, :-1]], dim=1), ways), dim=1)
    first = 2.0 * heading[:, :1] - heading[:, 1:2]
    around = torch.cat([first, heading, heading[:, -1:]], dim=1)
    curvature = (around[:, 2:] - around[:, :-2]) / (2.0 * spacing_m)
    columns = [route[..., 0], route[..., 1], heading, curvature]
    known = route[..., 2].sum(dim=-1)
    return RouteAhead(
        columns=torch.stack([*columns, _highest_speeds(curvature, spacing_m)], dim=-1),
        spacing_m=spacing_m,
        last=(known - 1.0).clamp(min=0.0)[:, None, None],
        valid=route[:, :1, 2],
    )


def _turns(before: Tensor, after: Tensor) -> Tensor:
    """Returns the angles from some directions (..., 2) to others, less than 180 degrees each.

    By half the angle, whose tangent needs no branch; none where a direction is zero.
    """
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    dot = (before * after).sum(dim=-1)
    lengths = before.norm(dim=-1) * after.norm(dim=-1)
    return 2.0 * torch.atan(cross / (lengths + dot).clamp(min=1e-3))


def _highest_speeds(curvature: Tensor, spacing_m: float) -> Tensor:
    """Returns (B, R) speeds that suit the bend at each point and those that follow."""
    squares = MAX_LATERAL_MPS2 / torch.abs(curvature).clamp(min=1e-3)
    number = torch.arange(curvature.shape[1], dtype=squares.dtype, device=squares.device)
    gaps_m = spacing_m * (number[None, :] - number[:, None])
    braking = 2.0 * BRAKING_MPS2 * gaps_m + 1e6 * torch.relu(-gaps_m)
    return torch.sqrt((squares[:, None, :] + braking).amin(dim=-1))


def within_bends(speeds_mps: Tensor, dt_s: float, ahead: RouteAhead) -> Tensor:
    """Lowers (B, K, T + 1) speeds, the present one first, to what the route's bends allow."""
    speed, along = speeds_mps[..., 0], torch.zeros_like(speeds_mps[..., 0])
    lowered = [speed]
    for change in (speeds_mps[..., 1:] - speeds_mps[..., :-1]).unbind(-1):
        allowed = ahead.at((along + speed * dt_s)[..., None])[..., 0, -1]
        allowed = torch.maximum(allowed, speed - HARD_BRAKING_MPS2 * dt_s)
        after = torch.minimum(speed + change, allowed).clamp(min=0.0)
        along = along + 0.5 * (speed + after) * dt_s
        speed = after
        lowered.append(speed)
    return torch.stack(lowered, dim=-1)


def driven(speeds_mps: Tensor, dt_s: float) -> Tensor:
    """Returns the (B, K, T) metres that are driven between (B, K, T + 1) speeds."""
    return 0.5 * (speeds_mps[..., :-1] + speeds_mps[..., 1:]) * dt_s


def follow(  # noqa: PLR0917 - all is needed, and in this order
    ahead: RouteAhead, yaw_rate_radps: Tensor, speeds_mps: Tensor, dt_s: float, pushes: Tensor,
    lead_s: float,
) -> Tensor:  # fmt: skip
    """Drives along the route.

    Args:
        ahead: The route; not looked at where it is not valid.
        yaw_rate_radps: (B,) of the ego now.
        speeds_mps: (B, K, T + 1), the present one first.
        dt_s: Step.
        pushes: (B, K, T) curvature that is added, 1/m, constant within a step.
        lead_s: `STEERING_LEAD_S`, or 0.

    Returns:
        (B, K, T, 3) x, y, yaw after each step.
    """
    lengths = driven(speeds_mps, dt_s)
    x, y, heading, curvature, _ = ahead.at(torch.cumsum(lengths, dim=-1)).unbind(-1)
    led = round(lead_s / dt_s)
    if led:
        way_m, turn = lengths[..., :led].sum(dim=-1), lead_s * yaw_rate_radps[:, None]
        excess = _excess(ahead, turn, lead_s * speeds_mps[..., 0], way_m)
        pushes = torch.cat([pushes[..., :led] + excess[..., None], pushes[..., led:]], dim=-1)
    offset, slope = _start(ahead)
    offsets, slopes = [], []
    for step in range(lengths.shape[-1]):
        length = lengths[..., step]
        reach = RETURN_M + RETURN_S * speeds_mps[..., step]
        offset, slope = _damped(offset, slope, pushes[..., step], length, reach)
        offsets.append(offset)
        slopes.append(slope)
    left = torch.stack(offsets, dim=-1) + INSET_M2 * curvature
    yaw = heading + torch.atan(torch.stack(slopes, dim=-1))
    places = (x - left * torch.sin(heading), y + left * torch.cos(heading), yaw)
    return torch.stack(places, dim=-1)


def _excess(ahead: RouteAhead, turn: Tensor, steady_m: Tensor, way_m: Tensor) -> Tensor:
    """Returns the (B, K) curvature of what is steered in excess within the lead, 1/m.

    Args:
        ahead: The route.
        turn: (B, 1) of the ego within the lead, if its wheels stay as they are.
        steady_m: (B, K) way within the lead at the present speed, on which that turn is made.
        way_m: (B, K) way that is driven within the lead, over which the excess is spread.
    """
    bend = ahead.at(steady_m[..., None])[..., 0, 2] - ahead.columns[:, :1, 2]
    return (bend - turn) / way_m.clamp(min=LEAST_WAY_M)


def _start(ahead: RouteAhead) -> tuple[Tensor, Tensor]:
    """Returns offset (B, 1) and slope (B, 1) from which the ego, at the origin, is to return."""
    x, y, heading, curvature, _ = ahead.columns[:, :1].unbind(-1)
    cos, sin = torch.cos(heading), torch.sin(heading)
    slope = -sin / cos.clamp(min=0.1)
    return sin * x - cos * y - INSET_M2 * curvature, slope.clamp(-MAX_TURN, MAX_TURN)


def _damped(
    offset: Tensor, slope: Tensor, push: Tensor, length: Tensor, reach: Tensor
) -> tuple[Tensor, Tensor]:
    """Solves offset'' + 2 offset' / reach + offset / reach^2 = push over some length."""
    share = length / reach
    decay = torch.exp(-share)
    pushed = push * reach * reach
    gap = offset - pushed
    after = decay * ((1.0 + share) * gap + length * slope)
    return after + pushed, decay * ((1.0 - share) * slope - share / reach * gap)
