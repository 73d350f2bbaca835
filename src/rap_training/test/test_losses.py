from __future__ import annotations

import math

import pytest
import torch

from rap_training.losses import alignment_loss, imitation_loss, pose_error, score_loss

ONE = torch.ones(1)


def test_heading_error_is_wrapped():
    near_pi = torch.tensor([[[[0.0, 0.0, math.pi - 0.01]]]])
    error = pose_error(near_pi, torch.tensor([[[0.0, 0.0, -math.pi + 0.01]]]))
    assert error.item() == pytest.approx(2 * 0.02, abs=1e-5)


def test_only_the_nearest_proposal_is_pulled():
    proposals = torch.tensor([[[[1.0, 0.0, 0.0]], [[5.0, 0.0, 0.0]]]], requires_grad=True)
    imitation_loss([proposals], torch.zeros(1, 1, 3), ONE, 0.3, others_weight=0.0).backward()
    assert proposals.grad is not None
    assert proposals.grad[0, 0].abs().sum() > 0
    assert proposals.grad[0, 1].abs().sum() == 0


def test_losing_proposals_are_pulled_weakly_if_wanted():
    proposals = torch.tensor([[[[1.0, 0.0, 0.0]], [[5.0, 0.0, 0.0]]]], requires_grad=True)
    imitation_loss([proposals], torch.zeros(1, 1, 3), ONE, 0.3, others_weight=0.1).backward()
    assert proposals.grad is not None
    assert 0 < proposals.grad[0, 1].abs().sum() < 0.1 * proposals.grad[0, 0].abs().sum()


def test_samples_count_as_much_as_their_weight_says():
    proposals = torch.ones(2, 3, 1, 3, requires_grad=True)
    weights = torch.tensor([1.0, 0.1])
    imitation_loss([proposals], torch.zeros(2, 1, 3), weights, 0.3, others_weight=0.1).backward()
    assert proposals.grad is not None
    torch.testing.assert_close(proposals.grad[1], 0.1 * proposals.grad[0])


def test_score_loss_prefers_a_high_score_for_the_nearest_proposal():
    proposals = torch.tensor([[[[0.0, 0.0, 0.0]], [[9.0, 0.0, 0.0]]]])
    target = torch.zeros(1, 1, 3)
    right = score_loss(proposals, torch.tensor([[3.0, -3.0]]), target, 2.0)
    wrong = score_loss(proposals, torch.tensor([[-3.0, 3.0]]), target, 2.0)
    assert right < wrong


def test_a_crowd_of_good_proposals_outscores_a_lone_one_that_wins_more_often():
    # Nine futures: six end near the crowd (each time another member is nearest), three at the odd
    # one out. The odd one wins most often, but following it is wrong in two of three futures.
    ends = torch.tensor([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 20.0])
    futures = torch.cat([ends[:6], ends[6:].expand(3)])
    along_x = torch.tensor([1.0, 0.0, 0.0])
    scores = torch.zeros(1, 7, requires_grad=True)
    score_loss(
        (ends[:, None, None] * along_x).expand(9, -1, -1, -1),
        scores.expand(9, -1),
        futures[:, None, None] * along_x,
        2.0,
    ).backward()
    assert scores.grad is not None
    assert scores.grad[0, :6].max() < scores.grad[0, 6]  # descent raises the crowd's the most


def test_alignment_moves_the_camera_features_and_never_the_raster_features():
    camera = torch.zeros(2, 3, requires_grad=True)
    raster = torch.ones(2, 3, requires_grad=True)
    alignment_loss(camera, raster).backward()
    assert camera.grad is not None
    assert (camera.grad < 0).all()
    assert raster.grad is None


def test_alignment_does_not_depend_on_the_scale_of_the_features():
    torch.manual_seed(0)
    camera, raster = torch.randn(4, 5), torch.randn(4, 5)
    torch.testing.assert_close(
        alignment_loss(camera, raster), alignment_loss(10 * camera, 10 * raster)
    )
