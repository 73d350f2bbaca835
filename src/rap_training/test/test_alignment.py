"""Alignment pulls camera features to raster features, never the reverse, and nothing to nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from rap_training.alignment import (
    FRONT,
    DomainClassifier,
    domain_loss,
    reversal_strength,
    spatial_distance,
    valid_fronts,
)

SHAPE = (3, 2, 4, 2, 5)  # Samples, cameras, channels, rows, columns.
ALL = torch.ones(SHAPE[:2])


def features(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).requires_grad_()


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return DomainClassifier(SHAPE[2], hidden=8)


def told(classifier, camera, raster, strength=1.0, *, camera_valid=ALL, raster_valid=ALL):
    """Returns loss and accuracy."""
    return domain_loss(
        classifier,
        valid_fronts(camera, camera_valid),
        valid_fronts(raster, raster_valid),
        strength,
    )


def loss_of(*args, **kwargs):
    return told(*args, **kwargs)[0]


def gradients(classifier: DomainClassifier) -> list[torch.Tensor]:
    return [weights.grad.clone() for weights in classifier.parameters()]


def test_the_distance_is_that_of_the_valid_cameras_relative_to_the_variance_of_their_rasters():
    camera, raster = features(0), features(1)
    valid = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    pairs = [(0, 0), (1, 0), (1, 1)]
    a = np.stack([camera[pair].detach().numpy() for pair in pairs])
    b = np.stack([raster[pair].detach().numpy() for pair in pairs])
    found = spatial_distance(camera, raster, valid).item()
    about = b - b.mean(axis=(0, 2, 3), keepdims=True)
    assert found == pytest.approx(((a - b) ** 2).sum() / (about**2).sum(), rel=1e-5)


def test_what_all_features_of_a_channel_have_in_common_is_no_size():
    """Or a distance would look small beside a mean that says nothing of the scene."""
    camera, raster = features(0), features(1)
    common = 50.0 * torch.arange(1.0, 5.0)[:, None, None]
    torch.testing.assert_close(
        spatial_distance(camera + common, raster + common, ALL),
        spatial_distance(camera, raster, ALL),
        rtol=1e-4, atol=0.0,
    )  # fmt: skip
    mean = raster.mean(dim=(0, 1, 3, 4), keepdim=True).expand(SHAPE)
    assert spatial_distance(mean, raster, ALL).item() == pytest.approx(1.0, rel=1e-5)


def test_the_absolute_distance_is_the_published_one():
    """The mean squared error of paired features, torch's own; of the valid cameras here."""
    camera, raster, valid = features(0), features(1), ALL.clone()
    valid[2, 1] = 0.0
    paired = valid > 0.0
    found = spatial_distance(camera, raster, valid, "absolute")
    torch.testing.assert_close(found, functional.mse_loss(camera[paired], raster[paired]))
    found.backward()
    assert raster.grad is None


def test_the_features_of_a_single_image_have_a_size_too():
    camera, raster, valid = features(0), features(1), torch.zeros(SHAPE[:2])
    valid[1, 0] = 1.0
    a, b = camera[1, 0].detach().numpy(), raster[1, 0].detach().numpy()
    about = b - b.mean(axis=(1, 2), keepdims=True)
    found = spatial_distance(camera, raster, valid).item()
    assert found == pytest.approx(((a - b) ** 2).sum() / (about**2).sum(), rel=1e-5)


def test_the_distance_moves_camera_features_towards_the_rasters_and_never_the_rasters():
    camera, raster = features(0), features(1)
    before = spatial_distance(camera, raster, ALL)
    before.backward()
    assert raster.grad is None
    moved = camera.detach() - 5.0 * camera.grad
    assert spatial_distance(moved, raster, ALL) < before
    assert ((camera.grad * (camera - raster)) >= 0.0).all()


def test_the_distance_does_not_depend_on_the_scale_of_the_features():
    camera, raster = features(0), features(1)
    torch.testing.assert_close(
        spatial_distance(camera, raster, ALL), spatial_distance(30 * camera, 30 * raster, ALL)
    )


def test_a_missing_image_is_aligned_with_nothing_whatever_it_shows():
    camera, raster, valid = features(0), features(1), ALL.clone()
    valid[1, 0] = 0.0
    found = spatial_distance(camera, raster, valid)
    found.backward()
    assert (camera.grad[1, 0] == 0.0).all()
    assert (camera.grad[valid > 0.0] != 0.0).all()
    other, drawn = camera.detach().clone(), raster.detach().clone()
    other[1, 0], drawn[1, 0] = 1e3, -1e3
    torch.testing.assert_close(spatial_distance(other, drawn, valid), found)


def test_without_any_image_there_is_no_distance():
    camera = features(0)
    found = spatial_distance(camera, features(1), torch.zeros(SHAPE[:2]))
    found.backward()
    assert found.item() == 0.0
    assert (camera.grad == 0.0).all()


# 2 / (1 + exp(-10 p)) - 1 (Ganin et al. 2016). RAP: 0.24 in the first of 20 epochs, 0.85 at 5.
@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.05, 0.245), (0.25, 0.848), (0.5, 0.9866), (1.0, 1.0)]
)
def test_the_reversal_grows_as_published(progress, expected):
    assert reversal_strength(progress, 1.0) == pytest.approx(expected, abs=5e-4)
    assert reversal_strength(progress, 0.3) == pytest.approx(0.3 * expected, abs=5e-4)


@pytest.mark.parametrize("strength", [0.0, 0.245, 1.0])
def test_the_reversal_turns_the_gradient_of_camera_features_round_and_no_other(
    classifier, strength
):
    camera, raster = features(0), features(1)
    loss_of(classifier, camera, raster, strength).backward()
    assert raster.grad is None
    reversed_, own = camera.grad.clone(), gradients(classifier)
    camera.grad = None
    classifier.zero_grad()
    logits = classifier(torch.cat([camera[:, FRONT], raster[:, FRONT].detach()]))
    truth = torch.cat([torch.ones(len(camera)), torch.zeros(len(raster))])
    functional.binary_cross_entropy_with_logits(logits, truth).backward()
    assert camera.grad[:, FRONT].abs().max() > 0.0
    torch.testing.assert_close(reversed_, -strength * camera.grad)
    for mine, plain in zip(own, gradients(classifier), strict=True):
        torch.testing.assert_close(mine, plain)


def test_pooled_features_are_told_apart_whatever_they_have_in_common(classifier):
    """Scale and mean of each channel are taken away, of both kinds together."""
    camera, raster = features(0), features(1)
    scale, common = torch.tensor([0.5, 3.0, 7.0, 20.0]), torch.tensor([90.0, -9.0, 0.0, 30.0])
    moved = [x * scale[:, None, None] + common[:, None, None] for x in (camera, raster)]
    torch.testing.assert_close(
        loss_of(classifier, *moved), loss_of(classifier, camera, raster), rtol=1e-3, atol=0.0
    )
    apart = loss_of(classifier, camera + 1.0, raster)  # The positive: what differs stays.
    assert not torch.isclose(apart, loss_of(classifier, camera, raster), rtol=1e-2)


def test_kinds_that_are_told_apart_entirely_still_feel_it(classifier):
    """They set the spread alone, so that gradients through it would cancel."""
    camera = torch.full(SHAPE, 2.0, requires_grad=True)
    loss_of(classifier, camera, torch.zeros(SHAPE)).backward()
    assert camera.grad[:, FRONT].abs().max() > 1e-4


def test_the_accuracy_is_the_mean_share_of_both_kinds_that_is_known(classifier):
    camera, raster = features(0), features(1, (7, *SHAPE[1:]))
    _, accuracy = told(classifier, camera, raster, raster_valid=torch.ones(7, 2))
    with torch.no_grad():
        logits = classifier(torch.cat([camera[:, FRONT], raster[:, FRONT]])).numpy()
    known = (logits[:3] > 0).mean(), (logits[3:] <= 0).mean()
    assert accuracy.item() == pytest.approx(np.mean(known))
    assert 0.0 < accuracy < 1.0


def test_only_the_front_camera_is_told_apart(classifier):
    camera = features(0)
    loss_of(classifier, camera, features(1)).backward()
    assert (camera.grad[:, 1:] == 0.0).all()
    assert (camera.grad[:, FRONT] != 0.0).any()


def test_features_that_follow_the_reversed_gradient_are_told_apart_less(classifier):
    camera, raster = (features(2).detach() + 1.0).requires_grad_(), features(1)
    learner = torch.optim.Adam(classifier.parameters(), lr=0.02)
    for _ in range(60):
        learner.zero_grad()
        told = loss_of(classifier, camera.detach(), raster)
        told.backward()
        learner.step()
    assert told < 0.3  # The classifier tells them apart: chance is 2 log 2 at equal weight.
    mover = torch.optim.Adam([camera], lr=0.1)
    for _ in range(60):
        mover.zero_grad()
        loss = loss_of(classifier, camera, raster)
        loss.backward()
        mover.step()
    assert loss > 2.0 * told


def test_rasters_that_outnumber_the_images_do_not_outweigh_them(classifier):
    camera, raster = features(0), features(1, (7, *SHAPE[1:]))
    valid = ALL.clone()
    valid[2, FRONT] = 0.0  # Two images against seven rasters.
    found = loss_of(
        classifier, camera, raster, camera_valid=valid, raster_valid=torch.ones(7, 2)
    ).item()
    with torch.no_grad():
        logits = classifier(torch.cat([camera[:2, FRONT], raster[:, FRONT]])).double().numpy()
    real, drawn = np.split(1 / (1 + np.exp(-logits)), [2])
    expected = -(7 / 2 * np.log(real).sum() + np.log(1 - drawn).sum()) / 9
    assert found == pytest.approx(expected, rel=1e-5)
    # Both kinds weigh the same: 7/9 times the sum of their means.
    assert found == pytest.approx(-7 / 9 * (np.log(real).mean() + np.log(1 - drawn).mean()), 1e-5)


def test_a_hidden_front_camera_is_not_told_apart(classifier):
    camera, raster, valid, drawn_valid = features(0), features(1), ALL.clone(), ALL.clone()
    valid[1, FRONT] = drawn_valid[2, FRONT] = 0.0
    found = loss_of(classifier, camera, raster, camera_valid=valid, raster_valid=drawn_valid)
    found.backward()
    assert (camera.grad[1] == 0.0).all()
    assert (camera.grad[0, FRONT] != 0.0).any()
    other, black = camera.detach().clone(), raster.detach().clone()
    other[1], black[2] = 1e3, -1e3
    torch.testing.assert_close(
        loss_of(classifier, other, black, camera_valid=valid, raster_valid=drawn_valid), found
    )


@pytest.mark.parametrize("missing", ["camera", "raster"])
def test_a_kind_alone_is_told_apart_from_nothing(classifier, missing):
    none = {f"{missing}_valid": torch.zeros(SHAPE[:2])}
    loss, accuracy = told(classifier, features(0), features(1), **none)
    assert loss == 0.0
    assert torch.isnan(accuracy)
