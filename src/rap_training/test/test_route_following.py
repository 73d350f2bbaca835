from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch

from rap_training.model.head import driven_lengths, integrate
from rap_training.model.route_following import pursue, pursued_points

SPACING_M = 2.5


def route_of(line: shapely.LineString, known: int = 20) -> torch.Tensor:
    """Returns the (1, 20, 3) route ahead of an ego at the start of a line."""
    points = [line.interpolate(SPACING_M * i).coords[0] for i in range(1, 21)]
    route = torch.tensor([[[x, y, 1.0] for x, y in points]])
    route[:, known:] = 0.0
    return route


def followed(route: torch.Tensor, speed_mps: float, turns: float = 0.0) -> np.ndarray:
    """Returns the (10, 2) places after steps of half a second at constant speed."""
    speeds, lengths = driven_lengths(torch.zeros(1, 1, 10), torch.tensor([speed_mps]), 0.5)
    along = torch.cumsum(lengths, dim=-1) - lengths
    points = pursued_points(route, SPACING_M, along, speeds)
    poses = pursue(points, route[:, 0, 2], lengths, torch.full((1, 1, 10), turns))
    return poses[0, 0, :, :2].numpy()


def bend(radius_m: float, straight_m: float) -> shapely.LineString:
    """Returns a line that goes straight and then turns left by a quarter."""
    angles = np.linspace(0.0, np.pi / 2, 50)
    arc = radius_m * np.column_stack([np.sin(angles), 1.0 - np.cos(angles)])
    arc[:, 0] += straight_m
    return shapely.LineString([[0.0, 0.0], *arc, arc[-1] + np.array([0.0, 60.0])])


@pytest.mark.parametrize(
    ("radius_m", "speed_mps"), [(8.0, 4.0), (12.0, 5.0), (50.0, 9.0), (1000.0, 9.5)]
)
def test_nothing_added_follows_the_route(radius_m, speed_mps):
    line = bend(radius_m, straight_m=6.0)
    places = followed(route_of(line), speed_mps)
    assert max(line.distance(shapely.Point(place)) for place in places) < 0.5


@pytest.mark.parametrize("speed_mps", [2.0, 5.0, 9.0])
def test_an_offset_is_driven_back(speed_mps):
    line = shapely.LineString([[0.0, 1.0], [60.0, 1.0]])
    offsets = np.abs(followed(route_of(line), speed_mps)[:, 1] - 1.0)
    assert offsets[-1] < 0.05
    assert (np.diff(offsets) < 0.05).all()  # Hardly beyond the route on its other side.


def test_without_a_route_the_network_steers_alone():
    route = torch.zeros(1, 20, 3)
    _, lengths = driven_lengths(torch.zeros(1, 1, 10), torch.tensor([6.0]), 0.5)
    alone = integrate(lengths, torch.full((1, 1, 10), 0.03))[0, 0, :, :2]
    np.testing.assert_allclose(followed(route, 6.0, 0.03), alone, atol=1e-4)


def test_past_the_end_of_the_route_it_goes_straight_on():
    places = followed(route_of(bend(1000.0, 60.0), known=4), speed_mps=8.0)
    np.testing.assert_allclose(places[:, 1], 0.0, atol=1e-4)
    np.testing.assert_allclose(places[:, 0], 4.0 * np.arange(1, 11), atol=1e-3)


def test_turns_lead_off_the_route():
    places = followed(route_of(bend(1000.0, 60.0)), speed_mps=8.0, turns=0.02)
    assert places[-1, 1] > 0.3
