"""Whether exported networks say what the model says, on samples of real scenes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

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

    They look at what the training looked at: rasters, camera images, or both. An encoder that is
    stored in half precision is compared as it is stored.

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
    networks = OnnxRuntimeNetwork(bundle.encoder_path), OnnxRuntimeNetwork(bundle.planner_path)
    modules = model.encoder, DeployedHead(model.head, calibration)
    names = ["camera_valid", "image_from_ego", "history", "command"]
    names += ["route"] if config.model.route_points else []
    kinds, config = _looked_at(config)
    dataset = DriveDataset(mixture, config, SAMPLES)
    differences: list[float] = []
    for index in range(SAMPLES):
        sample = {name: value[None] for name, value in dataset[index].items()}
        rest = {name: sample[name] for name in names}
        for kind in kinds:
            images = normalize(sample[kind])[0].contiguous()
            differences += _differences(networks, modules, images, rest)
    worst = float(np.max(differences))
    if not worst <= TOLERANCE:  # Nor if it is no number.
        raise BundleError(
            f"the exported networks differ from their model by {worst:.1e} > {TOLERANCE:g}"
        )
    return worst


def _looked_at(config: TrainingConfig) -> tuple[tuple[str, ...], TrainingConfig]:
    """Returns the kinds of images of a training, and a configuration that gives all of both."""
    cameras = config.data.cameras
    if not cameras.share:
        return ("rasters",), config
    data = config.data.model_copy(update={"cameras": cameras.model_copy(update={"share": 1.0})})
    kinds = ("rasters", "images") if config.data.rasters else ("images",)
    return kinds, config.model_copy(update={"data": data})


def _differences(
    networks: tuple[OnnxRuntimeNetwork, OnnxRuntimeNetwork],
    modules: tuple[nn.Module, nn.Module],
    images: Tensor,
    rest: dict[str, Tensor],
) -> Iterator[float]:
    """Yields how far the outputs of encoder and planner are from those of their modules."""
    (encoder, planner), (encode, plan) = networks, modules
    features = encoder.run({"images": images.numpy()})["features"]
    yield _apart(features, encode(images))
    said = planner.run(
        {"features": features[None], **{name: x.numpy() for name, x in rest.items()}}
    )
    wanted = plan(torch.from_numpy(features)[None], *rest.values())
    for name, tensor in zip(("proposals", "scores", "sub_scores"), wanted, strict=True):
        yield _apart(said[name], tensor)


def _apart(said: np.ndarray, wanted: Tensor) -> float:
    expected = wanted.numpy()
    return float((np.abs(said - expected) / np.maximum(1.0, np.abs(expected))).max())
