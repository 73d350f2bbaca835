from __future__ import annotations

import numpy as np
import pytest
import torch

from rap_raster.scene import LightState, ObjectClass
from rap_training.cells import GROUPS, cell_bits
from rap_training.teaching import RARITY, cell_loss

RED = next(g for g, codes in enumerate(GROUPS) if LightState.RED in codes)
VEHICLES = next(g for g, codes in enumerate(GROUPS) if ObjectClass.TRUCK in codes)


def test_cells_have_what_a_loop_finds_in_them():
    rng = np.random.default_rng(0)
    classes = np.zeros((2, 3, 40, 70), dtype=np.uint8)  # 2 x 4 whole cells and a rest
    places = rng.random(classes.shape) < 0.004
    classes[places] = rng.integers(0, 34, places.sum())
    bits = cell_bits(classes)
    assert bits.shape == (2, 3, 2, 4)
    for index in np.ndindex(bits.shape):
        row, column = 16 * index[2], 16 * index[3]
        seen = set(classes[index[:2]][row : row + 16, column : column + 16].ravel().tolist())
        expected = sum(1 << g for g, codes in enumerate(GROUPS) if seen & set(codes))
        assert bits[index] == expected


def test_no_class_is_in_two_groups():
    codes = [code for group in GROUPS for code in group]
    assert len(codes) == len(set(codes))


def test_loss_is_that_of_each_group_summed():
    logits = torch.zeros(1, len(GROUPS), 1, 2)
    cells = torch.tensor([[[1 << RED, 1 << VEHICLES]]], dtype=torch.int32)
    # Two of 20 predictions should be 1 and count more; a guess of 0.5 costs log 2 each.
    expected = (18 + 2 * RARITY) / 2 * np.log(2.0)
    assert cell_loss(logits, cells, torch.ones(1)).item() == pytest.approx(expected, rel=1e-5)


def test_missing_cameras_teach_nothing():
    logits = torch.zeros(2, len(GROUPS), 1, 2, requires_grad=True)
    cells = torch.full((2, 1, 2), 1 << RED, dtype=torch.int32)
    cell_loss(logits, cells, torch.tensor([1.0, 0.0])).backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert (logits.grad[1] == 0).all()
