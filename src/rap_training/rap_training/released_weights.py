"""Reads the official RAP checkpoint, so that whoever has it can export it to a bundle.

The layout is that of `rap_dino` in `vita-epfl/RAP` at commit 5fd8630, saved by Lightning: every
tensor of the agent, the frozen backbone included. Nothing is guessed: a tensor that is missing,
has another shape or is unknown is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rap_training.model.published.attention import HEADS
from rap_training.model.published.encoder import (
    HEAD_CHANNELS,
    BackboneShape,
    PublishedEncoder,
    dinov3,
)
from rap_training.model.published.planner import PublishedPlanner
from rap_training.model.published.reference_points import ReferenceLayout
from rap_training.model.published.shape import PublishedShape

HISTORY_STEPS = 2
HISTORY_DT_S = 0.2
"""The planner reads an acceleration: from closer velocities it is noise, from others late."""

DT_S = 0.5
"""Between poses. Source: RAP release, `navsim_config.py`."""


class ReleasedWeightsError(ValueError):
    """A checkpoint that is not a released one; the text names file, tensors and reason."""


@dataclass(frozen=True, slots=True)
class ReleasedModel:
    """The published networks with released weights, in evaluation mode.

    Attributes:
        encoder: (N, 3, 448, 768) normalised images to (N, D, 28, 48) features.
        planner: Features and the rest of `planner_inputs` to proposals and scores.
        left_out: Tensors of the file that only training uses: auxiliary heads, the domain
            classifier, and constants of a mode that the planner does not run in.
    """

    encoder: PublishedEncoder
    planner: PublishedPlanner
    left_out: tuple[str, ...]


def import_released(path: Path, *, reference_layout: ReferenceLayout) -> ReleasedModel:
    """Reads a checkpoint.

    Args:
        path: The `.ckpt` file. It stays mapped into memory as long as the model lives.
        reference_layout: `released` is what released weights were trained with.

    Raises:
        ReleasedWeightsError: If the file cannot be read without running code from it, if a tensor
            is missing, unknown or of the wrong shape, or if `transformers` is not installed.
    """
    checkpoint = _Checkpoint(path, _read(path))
    try:
        backbone = dinov3(_backbone_shape(checkpoint))
    except ImportError as error:
        raise ReleasedWeightsError(
            f"{path}: its DINOv3 backbone needs the package transformers (pip install transformers)"
        ) from error
    shape = _planner_shape(checkpoint)
    with torch.device("meta"):
        planner = PublishedPlanner(shape, reference_layout, HISTORY_DT_S)
        encoder = PublishedEncoder(
            backbone,
            checkpoint.size("_backbone.img_neck.lateral_convs.0.conv.weight", 1),
            shape.width,
        )
    left_out = checkpoint.fill(nn.ModuleDict({"encoder": encoder, "planner": planner}))
    return ReleasedModel(encoder, planner, left_out)


_BACKBONE = "_backbone.img_backbone."
_PASSES = "_trajectory_head."
_REFINER = f"{_PASSES}0."
_LAYERS = f"{_REFINER}Bev_refiner.bev_decoder.layers."

_PUBLISHED_NAMES = (
    ("encoder.backbone.model.", _BACKBONE),  # transformers 5 has a level more than the release's 4
    ("encoder.backbone.", _BACKBONE),
    ("encoder.lateral.", "_backbone.img_neck.lateral_convs.0.conv."),
    ("encoder.smooth.", "_backbone.img_neck.fpn_convs.0.conv."),
    ("encoder.level_embeds", "_backbone.level_embeds"),
    ("planner.camera_embeddings", "_backbone.cams_embeds"),
    ("planner.hist_encoding.", "hist_encoding."),
    ("planner.init_feature.", "init_feature."),
    ("planner.score.", "scorer.pred_score.mlp."),
    ("planner.refiner.pose.", f"{_REFINER}traj_decoder.mlp."),
    ("planner.refiner.row_embed.", f"{_REFINER}Bev_refiner.positional_encoding.row_embed."),
    ("planner.refiner.col_embed.", f"{_REFINER}Bev_refiner.positional_encoding.col_embed."),
    ("planner.refiner.layers.", _LAYERS),
    (".query_attention.", ".attentions.0."),
    (".camera_attention.output_proj.", ".attentions.1.output_proj."),
    (".camera_attention.", ".attentions.1.deformable_attention."),
    (".feed_forward.0.", ".ffns.0.layers.0.0."),
    (".feed_forward.2.", ".ffns.0.layers.1."),
)
"""Parts of our names and what the release calls them."""

_LEFT_OUT = re.compile(
    r"scorer\.pred_(col_agent|area)\.|domain_classifier\.|"
    r"_trajectory_head\.\d+\.Bev_refiner\.bev_decoder\.(reference_points|ref_3d|\w*ref_2d)$"
)


def _published_name(name: str) -> str:
    for ours, theirs in _PUBLISHED_NAMES:
        name = name.replace(ours, theirs)
    return name


def _read(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint, named as in the release's model."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise ReleasedWeightsError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # torch raises whatever its readers do
        raise ReleasedWeightsError(
            f"{path}: not a torch checkpoint that can be read without running code from it"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ReleasedWeightsError(f"{path}: no state_dict of tensors, as Lightning saves it")
    return {re.sub(r"^(agent\.)?_rap_model\.", "", name): x for name, x in state.items()}


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    path: Path
    tensors: dict[str, Tensor]

    def size(self, name: str, axis: int) -> int:
        """Returns one side of a tensor."""
        if name not in self.tensors:
            raise ReleasedWeightsError(f"{self.path}: no tensor {name}")
        shape = self.tensors[name].shape
        if len(shape) <= axis:
            raise ReleasedWeightsError(f"{self.path}: {name} has shape {tuple(shape)}")
        return shape[axis]

    def count(self, prefix: str) -> int:
        """Returns how many numbers 0, 1, ... follow a prefix."""
        pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
        return len({match[1] for name in self.tensors if (match := pattern.match(name))})

    def fill(self, module: nn.Module) -> tuple[str, ...]:
        """Gives a module its tensors and returns the names of those that it has no use for."""
        published = {name: _published_name(name) for name in module.state_dict()}
        repeats = self._repeats(published.values())
        needed = {*published.values(), *repeats}
        self._refuse(needed - self.tensors.keys(), "no tensor")
        for name, parameter in module.state_dict().items():
            self._check_shape(published[name], parameter)
        differing = {name for name, first in repeats.items() if not self._are_equal(name, first)}
        self._refuse(differing, "the passes do not share one refiner, see")
        left_out = {name for name in self.tensors if _LEFT_OUT.match(name)}
        self._refuse(self.tensors.keys() - needed - left_out, "unknown tensor")
        state = {name: self.tensors[theirs].float() for name, theirs in published.items()}
        module.load_state_dict(state, assign=True)
        module.eval().requires_grad_(requires_grad=False)
        return tuple(sorted(left_out))

    def _repeats(self, published: Iterable[str]) -> dict[str, str]:
        """Returns the names under which the release lists the refiner again, once per pass."""
        return {
            name.replace(_REFINER, f"{_PASSES}{index}."): name
            for name in published
            if name.startswith(_REFINER)
            for index in range(1, self.count(_PASSES))
        }

    def _check_shape(self, name: str, parameter: Tensor) -> None:
        shape = self.tensors[name].shape
        if shape != parameter.shape:
            raise ReleasedWeightsError(
                f"{self.path}: {name} has shape {tuple(shape)}, expected {tuple(parameter.shape)}"
            )

    def _are_equal(self, first: str, second: str) -> bool:
        return torch.equal(self.tensors[first], self.tensors[second])

    def _refuse(self, names: set[str], reason: str) -> None:
        if names:
            some = ", ".join(sorted(names)[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ReleasedWeightsError(f"{self.path}: {reason} {some}{more}")


def _planner_shape(checkpoint: _Checkpoint) -> PublishedShape:
    position = f"{_REFINER}Bev_refiner.positional_encoding."
    shape = PublishedShape(
        width=checkpoint.size("hist_encoding.weight", 0),
        hidden=checkpoint.size("scorer.pred_score.mlp.0.weight", 0),
        proposals=checkpoint.size(f"{position}row_embed.weight", 0),
        poses=checkpoint.size(f"{position}col_embed.weight", 0),
        layers=checkpoint.count(_LAYERS),
        passes=checkpoint.count(_PASSES),
        cameras=checkpoint.size("_backbone.cams_embeds", 0),
    )
    if shape.width % HEADS:
        raise ReleasedWeightsError(
            f"{checkpoint.path}: hist_encoding.weight has {shape.width} rows, "
            f"expected a multiple of {HEADS}"
        )
    return shape


def _backbone_shape(checkpoint: _Checkpoint) -> BackboneShape:
    patches = f"{_BACKBONE}embeddings.patch_embeddings.weight"
    shape = BackboneShape(
        width=checkpoint.size(patches, 0),
        hidden=checkpoint.size(f"{_BACKBONE}layer.0.mlp.gate_proj.weight", 0),
        layers=checkpoint.count(f"{_BACKBONE}layer."),
        registers=checkpoint.size(f"{_BACKBONE}embeddings.register_tokens", 1),
    )
    if shape.width % HEAD_CHANNELS:
        raise ReleasedWeightsError(
            f"{checkpoint.path}: {patches} has {shape.width} rows, "
            f"expected a multiple of {HEAD_CHANNELS}"
        )
    return shape
