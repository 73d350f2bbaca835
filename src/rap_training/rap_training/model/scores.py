"""What the model predicts about each proposal, and how one is chosen."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from rap_training.config import ModelConfig, ScoreName

SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)
"""Order of the predicted scores."""

TAUGHT = SCORE_NAMES[:-1]
"""Those that come from driving a proposal; the last one comes from the recorded drive."""


def selection_logits(scores: Tensor, config: ModelConfig) -> Tensor:
    """Returns by what proposals are ranked: the weighted log-probabilities of their scores.

    Args:
        scores: (B, K, S) logits, order `SCORE_NAMES`.
        config: Of the model.

    Returns:
        (B, K).
    """
    weights = torch.tensor(
        [config.selection.get(name, 0.0) for name in SCORE_NAMES], device=scores.device
    )
    # ONNX has no log-sigmoid, and the logarithm of its sigmoid is off where that is near zero.
    return -functional.softplus(-scores) @ weights
