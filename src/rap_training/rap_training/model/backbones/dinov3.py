"""DINOv3 vision transformers through Hugging Face transformers, from weights the user has.

The weights are gated and licensed separately: https://ai.meta.com/resources/models-and-libraries/dinov3-license.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rap_training.model.backbones.backbone import Backbone, BackboneError


class DinoV3(Backbone):
    """Patch tokens after the final norm; class and register tokens are dropped.

    The published planner uses ViT-H+/16 this way, frozen (RAP, image_encoder.py and rap_agent.py).
    """

    def __init__(self, folder: Path) -> None:
        """Reads a model.

        Args:
            folder: `config.json` and `model.safetensors` as Hugging Face publishes them.

        Raises:
            BackboneError: If transformers is missing or the folder has no DINOv3 ViT.
        """
        network = _read(folder)
        super().__init__(network.config.hidden_size, network.config.patch_size, ())
        self.network = network

    def _features(self, images: Tensor) -> Tensor:
        rows, columns = (side // self.stride for side in images.shape[-2:])
        tokens = self.network(pixel_values=images).last_hidden_state[:, -rows * columns :]
        features: Tensor = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        return features


def _read(folder: Path) -> Any:  # noqa: ANN401 - its class is known only where transformers is
    transformers = _quiet_transformers()
    if not (folder / "config.json").is_file():
        raise BackboneError(f"{folder}: no config.json; expected a folder with a DINOv3 model")
    try:
        network, loading = transformers.DINOv3ViTModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, in one line
        )
    except Exception as error:  # a foreign folder may break its reader in any way
        raise BackboneError(f"{folder}: {' '.join(str(error).split())}") from error
    mismatched = (name for name, *_ in loading["mismatched_keys"])
    wrong = sorted({*loading["missing_keys"], *loading["unexpected_keys"], *mismatched})
    if wrong:
        raise BackboneError(f"{folder}: {len(wrong)} tensors do not fit, such as {wrong[0]}")
    return network


def _quiet_transformers() -> Any:  # noqa: ANN401
    """Imports transformers; what it reports about files in many lines, our errors say in one."""
    try:
        logging = importlib.import_module("transformers.utils.logging")
    except ImportError as error:
        raise BackboneError("DINOv3 needs the package transformers: pip install it") from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return importlib.import_module("transformers")
