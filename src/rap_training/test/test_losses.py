from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch

from rap_training.config import LossConfig
from rap_training.losses import imitation_loss, likeness, pose_error, probability_loss, shares_of

ONE = torch.ones(1)


def pulling_others(weight: float) -> LossConfig:
    return LossConfig(early_refinements=0.3, other_proposals=weight)


def test_heading_error_is_wrapped():
    near_pi = torch.tensor([[[[0.0, 0.0, math.pi - 0.01]]]])
    error = pose_error(near_pi, torch.tensor([[[0.0, 0.0, -math.pi + 0.01]]]))
    assert error.item() == pytest.approx(2 * 0.02, abs=1e-5)


def test_only_the_nearest_proposal_is_pulled():
    proposals = torch.tensor([[[[1.0, 0.0, 0.0]], [[5.0, 0.0, 0.0]]]], requires_grad=True)
    imitation_loss([proposals], torch.zeros(1, 1, 3), ONE, pulling_others(0.0)).backward()
    assert proposals.grad is not None
    assert proposals.grad[0, 0].abs().sum() > 0
    assert proposals.grad[0, 1].abs().sum() == 0


def test_losing_proposals_are_pulled_weakly_if_wanted():
    proposals = torch.tensor([[[[1.0, 0.0, 0.0]], [[5.0, 0.0, 0.0]]]], requires_grad=True)
    imitation_loss([proposals], torch.zeros(1, 1, 3), ONE, pulling_others(0.1)).backward()
    assert proposals.grad is not None
    assert 0 < proposals.grad[0, 1].abs().sum() < 0.1 * proposals.grad[0, 0].abs().sum()


def test_samples_count_as_much_as_their_weight_says():
    proposals = torch.ones(2, 3, 1, 3, requires_grad=True)
    shares = shares_of(torch.tensor([1.0, 0.1]))
    imitation_loss([proposals], torch.zeros(2, 1, 3), shares, pulling_others(0.1)).backward()
    assert proposals.grad is not None
    torch.testing.assert_close(proposals.grad[1], 0.1 * proposals.grad[0])


def test_light_samples_leave_the_size_of_the_loss_alone():
    proposals = torch.tensor([1.0, 3.0])[:, None, None, None] * torch.ones(2, 3, 1, 3)
    away, config = torch.zeros(2, 1, 3), pulling_others(0.0)
    near, far = (imitation_loss([x[None]], away[:1], ONE, config) for x in proposals)
    light, heavy = (
        imitation_loss([proposals], away, shares_of(weight * torch.ones(2)), config)
        for weight in (0.1, 1.0)
    )
    torch.testing.assert_close(light, heavy)
    torch.testing.assert_close(heavy, (near + far) / 2)
    mixed = imitation_loss([proposals], away, shares_of(torch.tensor([1.0, 0.1])), config)
    torch.testing.assert_close(mixed, (near + 0.1 * far) / 1.1)
    assert imitation_loss([proposals], away, shares_of(torch.zeros(2)), config) == 0.0


def test_the_nearest_proposal_is_the_likest():
    proposals = torch.tensor([[[[0.0, 0.0, 0.0]], [[2.0, 0.0, 0.0]], [[9.0, 0.0, 0.0]]]])
    found = likeness(proposals, torch.zeros(1, 1, 3), 2.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, math.exp(-1.0), math.exp(-4.5)]]))


def test_a_crowd_of_good_proposals_outscores_a_lone_one_that_wins_more_often():
    # Nine futures: six end near the crowd (each time another member is nearest), three at the odd
    # one out. The odd one wins most often, but following it is wrong in two of three futures.
    ends = torch.tensor([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 20.0])
    futures = torch.cat([ends[:6], ends[6:].expand(3)])
    along_x = torch.tensor([1.0, 0.0, 0.0])
    proposals = (ends[:, None, None] * along_x).expand(9, -1, -1, -1)
    scores = torch.zeros(1, 7, requires_grad=True)
    truth = likeness(proposals, futures[:, None, None] * along_x, 2.0)
    probability_loss(scores.expand(9, -1), truth).backward()
    assert scores.grad is not None
    assert scores.grad[0, :6].max() < scores.grad[0, 6]  # descent raises the crowd's the most


def test_probabilities_count_as_much_as_their_weight_says():
    logits = torch.tensor([[0.0], [4.0]])
    only_first = probability_loss(logits, torch.ones(2, 1), torch.tensor([1.0, 0.0]))
    assert only_first.item() == pytest.approx(math.log(2.0))


def test_two_devices_weigh_a_shared_batch_as_one_would(tmp_path):
    """Each averages over its own samples' shares, and the gradients of both are averaged."""
    code = (
        "import sys, torch\n"
        "from torch import distributed\n"
        "from rap_training.losses import shares_of\n"
        "rank, folder = int(sys.argv[1]), sys.argv[2]\n"
        "meet = f'file://{folder}/meet'\n"
        "distributed.init_process_group('gloo', meet, rank=rank, world_size=2)\n"
        "print(*shares_of(torch.tensor([[1.0, 0.1], [0.5, 0.4]])[rank]).tolist())\n"
    )
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    devices = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [device.communicate(timeout=60)[0].split() for device in devices]
    found = torch.tensor([[float(share) for share in shares] for shares in said]).flatten()
    torch.testing.assert_close(found / 2, shares_of(torch.tensor([1.0, 0.1, 0.5, 0.4])))
