"""Calibrated scores come true as often as they say, and keep their order."""

from __future__ import annotations

import pytest
import torch

from rap_training.augmentation.mixture import mixture_of
from rap_training.calibration import Calibration, Judged, calibration_errors, fitted, judged
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset
from rap_training.model.rap_model import RapModel
from rap_training.model.scores import SCORE_NAMES

COLUMNS = len(SCORE_NAMES)
SLOPES = torch.linspace(0.3, 3.0, COLUMNS)
SHIFTS = torch.linspace(-2.0, 1.5, COLUMNS)


@pytest.fixture(scope="module")
def logits():
    return 2.0 * torch.randn(6000, COLUMNS, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def chances(logits):
    """What really happens as often as a known slope and shift say."""
    return torch.sigmoid(logits * SLOPES + SHIFTS)


def happened(chances: torch.Tensor) -> torch.Tensor:
    return torch.bernoulli(chances, generator=torch.Generator().manual_seed(1))


def test_a_new_calibration_changes_nothing(logits):
    assert torch.equal(Calibration()(logits), logits)


def test_known_slopes_and_shifts_are_found(logits, chances):
    found = fitted(Judged(logits, chances))
    torch.testing.assert_close(found.slope, SLOPES, atol=0.02, rtol=0)
    torch.testing.assert_close(found.shift, SHIFTS, atol=0.02, rtol=0)


def test_calibrated_scores_come_true_as_often_as_they_say(logits, chances):
    seen = Judged(logits, happened(chances))
    before = calibration_errors(seen, Calibration())
    after = calibration_errors(seen, fitted(seen))
    assert before.keys() == after.keys() == set(SCORE_NAMES)
    for name in SCORE_NAMES:
        assert after[name] < 0.03
        assert after[name] < before[name] or before[name] < 0.03
    assert max(before.values()) > 0.2


def test_halves_share_no_sample():
    numbers = torch.arange(5.0)[:, None, None].expand(5, 3, COLUMNS)
    first, second = Judged(numbers, -numbers).halves()
    assert first.logits[:, 0, 0].tolist() == [0.0, 2.0, 4.0]
    assert second.logits[:, 0, 0].tolist() == [1.0, 3.0]
    for half in (first, second):
        assert torch.equal(half.truth, -half.logits)
        assert half.logits.shape[1:] == (3, COLUMNS)  # The proposals of a sample stay together.


def test_the_error_is_the_gap_between_what_is_said_and_what_comes_true():
    logits = torch.zeros(100, COLUMNS)  # One half is said of all,
    truth = torch.zeros(100, COLUMNS)
    truth[:80] = 1.0  # four fifths come true.
    errors = calibration_errors(Judged(logits, truth), Calibration())
    assert list(errors.values()) == pytest.approx([0.3] * COLUMNS, abs=1e-6)


def test_a_score_that_says_the_opposite_loses_its_say_and_is_not_turned_round(logits, chances):
    opposite = chances.clone()
    opposite[:, 0] = torch.sigmoid(-2.0 * logits[:, 0])
    found = fitted(Judged(logits, opposite))
    assert 0.0 < found.slope[0] < 0.1
    order = found(logits)[:, 0].argsort()
    assert torch.equal(order, logits[:, 0].argsort())
    torch.testing.assert_close(found.slope[1:], SLOPES[1:], atol=0.02, rtol=0)


def test_scores_that_are_always_right_stay_finite(logits):
    sure = fitted(Judged(logits, (logits > 0.0).float()))
    always = fitted(Judged(logits, torch.ones_like(logits)))
    for found in (sure, always):
        assert torch.isfinite(found.slope).all()
        assert torch.isfinite(found.shift).all()
        assert (found.slope > 0.0).all()


def test_proposals_are_judged_on_samples_that_the_training_has_not_drawn(town_log, monkeypatch):
    drawn, photographed, made = [], [], DriveDataset.training_batch

    def recorded(dataset, indices):
        batch = made(dataset, indices)
        drawn.extend(indices)
        photographed.extend(batch.tensors["has_images"].tolist())
        return batch

    monkeypatch.setattr(DriveDataset, "training_batch", recorded)
    monkeypatch.setattr("rap_training.calibration.SAMPLES", 6)
    monkeypatch.setattr("rap_training.calibration._BATCH", 4)
    config = TrainingConfig.model_validate({
        "model": {"backbone": {"widths": [8, 16, 16]}, "feature_channels": 16, "width": 32,
                  "query_width": 16, "proposals": 5, "braking_mps2": []},
        "data": {"image_size": [64, 32], "cameras": {"share": 1.0, "samples": 4},
                 "sources": {"recovery": {"weight": 0.0}}},
        "optimizer": {"steps": 3, "batch_size": 8},
    })  # fmt: skip
    mixture = mixture_of([town_log], config.data.sources, config.model)
    found = judged(RapModel(config.model).eval(), mixture, config)
    assert drawn == list(range(24, 30))
    assert photographed == [0.0] * 6  # Samples with images are those of the training again.
    assert found.logits.shape == found.truth.shape == (6, 5, COLUMNS)
    assert found.truth.min() >= 0.0
    assert found.truth.max() <= 1.0
    # One proposal of each sample is the nearest to what was driven.
    assert found.truth[..., -1].max(dim=1).values.tolist() == [1.0] * 6
    assert isinstance(fitted(found), Calibration)
