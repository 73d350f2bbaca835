"""Whether exported networks say what the model says, on samples of real scenes."""

from __future__ import annotations

import numpy as np
import torch

from rap_inference.bundle import Bundle, BundleError
from rap_inference.network import OnnxRuntimeNetwork
from rap_training.augmentation.mixture import Mixture
from rap_training.calibration import Calibration
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset
from rap_training.export import DeployedHead
from rap_training.model.rap_model import RapModel
from rap_training.normalization import normalize

TOLERANCE = 1e-4
"""Largest difference: of metres, radians and probabilities, and relative where numbers exceed 1."""

SAMPLES = 8


@torch.no_grad()
def check_parity(
    bundle: Bundle,
    model: RapModel,
    calibration: Calibration,
    mixture: Mixture,
    config: TrainingConfig,
) -> float:
    """Compares both networks of a bundle, one after the other, with the model they came from.

    Args:
        bundle: Just exported.
        model: What it was exported from, in evaluation mode.
        calibration: That the bundle has.
        mixture: Where samples come from.
        config: Of the training.

    Returns:
        The largest difference that was found, as `TOLERANCE` counts it.

    Raises:
        BundleError: If it is more than `TOLERANCE`.
    """
    encoder = OnnxRuntimeNetwork(bundle.encoder_path)
    planner = OnnxRuntimeNetwork(bundle.planner_path)
    head = DeployedHead(model.head, calibration)
    dataset = DriveDataset(mixture, config, SAMPLES)
    worst = 0.0
    for index in range(SAMPLES):
        sample = {name: value[None] for name, value in dataset[index].items()}
        images = normalize(sample["rasters"])[0].contiguous()
        features = encoder.run({"images": images.numpy()})["features"]
        worst = max(worst, _apart(features, model.encoder(images)))
        names = ["camera_valid", "image_from_ego", "history", "command"]
        names += ["route"] if config.model.route_points else []
        rest = {name: sample[name] for name in names}
        said = planner.run(
            {"features": features[None], **{name: x.numpy() for name, x in rest.items()}}
        )
        wanted = head(torch.from_numpy(features)[None], *rest.values())
        for name, tensor in zip(("proposals", "scores", "sub_scores"), wanted, strict=True):
            worst = max(worst, _apart(said[name], tensor))
    if worst > TOLERANCE:
        raise BundleError(
            f"the exported networks differ from their model by {worst:.1e} > {TOLERANCE:g}"
        )
    return worst


def _apart(said: np.ndarray, wanted: torch.Tensor) -> float:
    expected = wanted.numpy()
    return float((np.abs(said - expected) / np.maximum(1.0, np.abs(expected))).max())
