from __future__ import annotations

import numpy as np
import pytest
import torch

from rap_raster.camera import project_points
from rap_training.config import ModelConfig
from rap_training.model.attention import Attention, sample_cameras, viewing_rays
from rap_training.model.head import integrate, rolled_speeds, without_creeping
from rap_training.model.rap_model import RapModel
from rap_training.model.route_following import driven
from rap_training.model.route_offsets import route_offsets
from rap_training.rig import HEIGHT, NOMINAL_RIG, WIDTH

STRIDE = 16


def model_inputs(batch: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    projections = np.stack([camera.image_from_ego() for camera in NOMINAL_RIG])
    history = torch.randn(batch, 4, 7, generator=generator)
    history[..., 3] = history[..., 3].abs() * 5
    return (
        torch.randn(batch, 3, 3, HEIGHT, WIDTH, generator=generator),
        torch.ones(batch, 3),
        torch.from_numpy(projections).float().expand(batch, -1, -1, -1),
        history,
        torch.eye(4)[torch.arange(batch) % 4],
        route_inputs(batch, generator),
    )


def route_inputs(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Returns (B, 30, 3) bends of some curvature, 2.5 m between points."""
    along = 2.5 * torch.arange(30)
    curvature = 0.1 * torch.rand(batch, 1, generator=generator) + 1e-3
    x, y = torch.sin(curvature * along) / curvature, (1 - torch.cos(curvature * along)) / curvature
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return RapModel(ModelConfig()).eval()


def rolled(acceleration: float, curvature: float, speed_mps: float, steps: int, dt_s: float):
    """Returns the (steps, 3) poses of controls that stay the same."""
    accelerations = torch.full((1, 1, steps), acceleration)
    speeds = rolled_speeds(accelerations, torch.tensor([speed_mps]), dt_s)
    return integrate(driven(speeds, dt_s), torch.full((1, 1, steps), curvature))[0, 0]


@pytest.mark.parametrize(
    ("speeds_mps", "expected_mps"),
    [
        ([0.6, 0.5, 0.2, 0.0], [0.6, 0.0, 0.0, 0.0]),  # Half a metre left: it stops.
        ([0.6, 1.5, 2.5, 3.5], None),  # It drives off.
        ([3.0, 1.5, 0.0, 0.0], None),  # A stop from some speed.
        ([0.0, 0.0, 0.0, 0.0], None),
    ],
)
def test_who_only_creeps_stops(speeds_mps, expected_mps):
    speeds = torch.tensor(speeds_mps)[None, None]
    kept = without_creeping(speeds, 0.5)[0, 0].tolist()
    assert kept == pytest.approx(expected_mps or speeds_mps)


def test_no_control_is_constant_velocity():
    poses = rolled(0.0, 0.0, 8.0, 10, 0.5)
    expected = torch.stack([4.0 * torch.arange(1, 11), torch.zeros(10), torch.zeros(10)], dim=-1)
    torch.testing.assert_close(poses, expected)


def test_constant_curvature_is_a_circle():
    poses = rolled(0.0, 0.05, 5.0, 40, 0.1)
    center = torch.tensor([0.0, 20.0])
    radius = (poses[:, :2] - center).norm(dim=-1)
    torch.testing.assert_close(radius, torch.full((40,), 20.0), atol=2e-3, rtol=0)
    torch.testing.assert_close(poses[-1, 2], torch.tensor(5.0 * 4.0 * 0.05))


def test_braking_stops_and_never_reverses():
    x = rolled(-4.0, 0.0, 4.0, 10, 0.5)[:, 0]
    assert (x.diff() >= 0).all()
    assert x[-1] == pytest.approx(2.0)  # v^2 / 2a


@torch.no_grad()
def test_the_last_proposals_brake_straight_on_or_along_the_route(model):
    *rest, history, command, route = model_inputs(1)
    history[0, -1] = torch.tensor([0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 1.0])
    for straight in (torch.zeros_like(route), route_along_x(route)):
        found = model(*rest, history, command, straight).proposals[-1][0, -8:]
        torch.testing.assert_close(found[..., 1:], torch.zeros_like(found[..., 1:]))
        ends_m = dict(zip(ModelConfig().braking_mps2, found[:, -1, 0].tolist(), strict=True))
        assert ends_m[1.0] == pytest.approx(27.5)  # v t - a t^2 / 2 after 5 s
        for rate in (2.0, 4.0, 8.0):
            assert ends_m[rate] == pytest.approx(8.0**2 / (2 * rate))
    bend = model(*rest, history, command, route).proposals[-1][0, -8:]
    assert (bend[..., 1].abs() > 0.1).any()


@torch.no_grad()
def test_plans_lead_the_steering_in_use_and_not_in_training():
    torch.manual_seed(0)
    model = RapModel(ModelConfig())
    *rest, history, command, route = model_inputs(1)
    history[0, -1] = torch.tensor([0.0, 0.0, 0.0, 8.0, 0.0, 0.2, 1.0])  # It turns, the route not.
    sides_m = [
        model.train(training)(*rest, history, command, route_along_x(route)).proposals[-1][
            0, -8:, :, 1
        ]
        for training in (True, False)
    ]
    torch.testing.assert_close(sides_m[0], torch.zeros_like(sides_m[0]))
    assert (sides_m[1] < -0.05).any()


def route_along_x(like: torch.Tensor) -> torch.Tensor:
    along = torch.zeros_like(like)
    along[..., 0], along[..., 2] = 2.5 * torch.arange(like.shape[1]), 1.0
    return along


@torch.no_grad()
def test_batch_of_three_equals_three_batches_of_one(model):
    inputs = model_inputs(3)
    together = model(*inputs)
    for row in range(3):
        alone = model(*(x[row : row + 1] for x in inputs))
        torch.testing.assert_close(
            alone.proposals[-1][0], together.proposals[-1][row], atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(alone.scores[0], together.scores[row], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_cameras_plans_and_one_more_that_is_missing_changes_nothing(model, count):
    images, valid, projections, *status = model_inputs(2)
    cameras = torch.arange(count + 1) % 3
    images, projections = images[:, cameras], projections[:, cameras]
    valid = torch.ones(2, count + 1)
    valid[:, -1] = 0.0
    fewer = model(images[:, :-1], valid[:, :-1], projections[:, :-1], *status)
    more = model(images, valid, projections, *status)
    assert fewer.features.shape[1] == count
    torch.testing.assert_close(more.proposals[-1], fewer.proposals[-1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(more.scores, fewer.scores, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(256, 128), (768, 448)])
def test_geometry_does_not_suffer_from_half_precision(model, dtype, size):
    rig = [camera.resized(*size) for camera in NOMINAL_RIG]
    projections = np.stack([camera.image_from_ego() for camera in rig])
    image_from_ego = torch.from_numpy(projections).float()[None]
    _, valid, _, history, _, route = model_inputs(1)
    maps = torch.randn(1, 3, 4, size[1] // STRIDE, size[0] // STRIDE)
    controls = 0.3 * torch.randn(1, 64, 10, 2).to(dtype)

    def computed():
        poses = model.head._driven(history[:, -1], route, controls)
        points = torch.cat([poses[0, :, :, :2].flatten(0, 1), torch.zeros(640, 1)], -1)[None]
        return [
            viewing_rays(image_from_ego, *maps.shape[-2:], STRIDE),
            poses,
            route_offsets(poses, route),
            sample_cameras(maps, valid, image_from_ego, points, STRIDE),
        ]

    exact = computed()
    with torch.autocast("cpu", dtype=dtype):
        assert (controls.float() @ torch.ones(2, 2)).dtype is dtype
        for found, expected in zip(computed(), exact, strict=True):
            torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert all(torch.isfinite(x).all() for x in exact)


@torch.no_grad()
def test_a_masked_camera_changes_nothing_whatever_it_shows(model):
    images, valid, *rest = model_inputs(1)
    valid[0, 1] = 0.0
    first = model(images, valid, *rest)
    images[0, 1] = 100.0
    second = model(images, valid, *rest)
    torch.testing.assert_close(first.proposals[-1], second.proposals[-1])
    valid[0, 1] = 1.0  # the positive: seen, it does change the plan
    assert not torch.allclose(model(images, valid, *rest).scores, second.scores)


@torch.no_grad()
def test_without_any_camera_the_plan_does_not_depend_on_what_they_show(model):
    images, valid, *rest = model_inputs(2)
    valid[0] = 0.0  # All of the first sample, none of the second.
    first, second = (model(shown, valid, *rest) for shown in (images, images + 1.0))
    for a, b in ((first.proposals[-1], second.proposals[-1]), (first.scores, second.scores)):
        torch.testing.assert_close(a[0], b[0], rtol=0.0, atol=0.0)
        assert not torch.allclose(a[1], b[1])


@torch.no_grad()
def test_a_moved_camera_changes_the_plan(model):
    images, valid, projections, *rest = model_inputs(1)
    shifted = projections.clone()
    shifted[0, 0, :, 3] += shifted[0, 0, :, :3] @ torch.tensor([0.0, 2.0, 0.0])
    first, second = model(images, valid, projections, *rest), model(images, valid, shifted, *rest)
    assert not torch.allclose(first.scores, second.scores)


@torch.no_grad()
def test_command_history_and_route_reach_the_plan(model):
    *rest, history, command, route = model_inputs(1)
    base = model(*rest, history, command, route).scores
    assert not torch.allclose(base, model(*rest, history, command.roll(1, dims=1), route).scores)
    assert not torch.allclose(base, model(*rest, history + 0.5, command, route).scores)
    assert not torch.allclose(base, model(*rest, history, command, route + 0.5).scores)


@torch.no_grad()
def test_a_route_that_is_not_valid_changes_nothing_whatever_it_holds(model):
    *rest, route = model_inputs(1)
    hidden, other = route.clone(), route + 3.0
    hidden[..., 2] = other[..., 2] = 0.0
    torch.testing.assert_close(model(*rest, hidden).scores, model(*rest, other).scores)


def test_features_are_sampled_where_the_camera_model_says_the_point_is():
    # Feature maps that hold their own pixel coordinates: sampling must return the projection.
    columns, rows = WIDTH // STRIDE, HEIGHT // STRIDE
    u = (torch.arange(columns) + 0.5) * STRIDE - 0.5
    v = (torch.arange(rows) + 0.5) * STRIDE - 0.5
    grid = torch.stack([u.expand(rows, columns), v[:, None].expand(rows, columns)])
    camera = NOMINAL_RIG[0]
    points = np.random.default_rng(0).uniform([6.0, -2.0, 0.0], [40.0, 2.0, 2.0], (200, 3))
    pixels, visible = project_points(camera, points)
    inner = (
        visible
        & (pixels > STRIDE).all(axis=1)
        & (pixels < [WIDTH - STRIDE, HEIGHT - STRIDE]).all(axis=1)
    )
    assert inner.sum() > 50
    sampled = sample_cameras(
        grid[None, None].float(),
        torch.ones(1, 1),
        torch.from_numpy(camera.image_from_ego()).float()[None, None],
        torch.from_numpy(points).float()[None],
        STRIDE,
    )[0].numpy()
    np.testing.assert_allclose(sampled[inner], pixels[inner], atol=1e-2)


def test_points_no_camera_sees_sample_as_zero():
    behind = torch.tensor([[[-20.0, 0.0, 0.0]]])
    projections = model_inputs(1)[2]
    sampled = sample_cameras(torch.ones(1, 3, 4, 8, 16), torch.ones(1, 3), projections, behind, 16)
    assert (sampled == 0).all()


def test_viewing_rays_meet_the_pixels_they_belong_to():
    projections = model_inputs(1)[2]
    rays = viewing_rays(projections, 8, 16, STRIDE)[0].numpy()
    for camera, camera_rays in zip(NOMINAL_RIG, rays, strict=True):
        along = camera.ego_from_camera[:3, 3] + 10.0 * camera_rays.reshape(-1, 3)
        pixels, _ = project_points(camera, along)
        u, v = np.meshgrid((np.arange(16) + 0.5) * 16 - 0.5, (np.arange(8) + 0.5) * 16 - 0.5)
        np.testing.assert_allclose(pixels, np.stack([u, v], -1).reshape(-1, 2), atol=0.05)


def test_attention_ignores_masked_keys():
    torch.manual_seed(0)
    attention = Attention(8, 2)
    queries, keys = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(attention(queries, keys, mask), attention(queries, keys[:, :3]))
