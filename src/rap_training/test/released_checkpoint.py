"""Checkpoints of the official layout with random tensors: names and shapes, written out.

They are listed from the official code (vita-epfl/RAP at commit 5fd8630, with transformers 4.5x,
mmdet 3 and mmcv 2 of its time), not from ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

PREFIX = "agent._rap_model."


@dataclass(frozen=True)
class Sizes:
    """The defaults are those of the release."""

    width: int = 1280
    hidden: int = 1024
    proposals: int = 64
    poses: int = 10
    layers: int = 2
    passes: int = 4
    backbone_width: int = 1280
    backbone_hidden: int = 5120
    backbone_layers: int = 32


SMALL = Sizes(16, 24, 6, 4, 2, 3, 64, 96, 2)


def planner_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """Tensors of the planner."""
    shapes = {
        "_backbone.cams_embeds": (4, s.width),
        **_linear("hist_encoding", 11, s.width),
        "init_feature.weight": (s.proposals * s.poses, s.width),
        **_mlp("scorer.pred_score", s.width, s.hidden, 6),
    }
    for index in range(s.passes):
        shapes |= _refiner(f"_trajectory_head.{index}", s)
    return shapes


def encoder_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """Tensors of the backbone, the neck and the level embedding."""
    shapes = {
        "_backbone.level_embeds": (2, s.width),
        "_backbone.img_neck.lateral_convs.0.conv.weight": (s.width, s.backbone_width, 1, 1),
        "_backbone.img_neck.lateral_convs.0.conv.bias": (s.width,),
        "_backbone.img_neck.fpn_convs.0.conv.weight": (s.width, s.width, 3, 3),
        "_backbone.img_neck.fpn_convs.0.conv.bias": (s.width,),
    }
    return shapes | {f"_backbone.img_backbone.{k}": v for k, v in _dinov3(s).items()}


def training_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """Tensors that only training uses, or that nothing uses."""
    shapes = {
        **_mlp("scorer.pred_col_agent", s.width, s.hidden, 2 * 40 * 9),
        **_mlp("scorer.pred_area", s.width, s.hidden, 10),
        **_linear("domain_classifier.classifier.0", s.width, 512),
        **_linear("domain_classifier.classifier.2", 512, 512),
        **_linear("domain_classifier.classifier.4", 512, 1),
    }
    queries = s.proposals * s.poses
    for index in range(s.passes):
        decoder = f"_trajectory_head.{index}.Bev_refiner.bev_decoder"
        shapes |= {
            f"{decoder}.reference_points": (4, 1, queries, 4),
            f"{decoder}.ref_3d": (1, 4, queries, 3),
            f"{decoder}.hybird_ref_2d": (2, queries, 1, 2),
            f"{decoder}.ref_2d": (1, queries, 1, 2),
        }
    return shapes


def random_state(s: Sizes, seed: int) -> dict[str, torch.Tensor]:
    """All tensors, with the one refiner listed once per pass, as Lightning would save them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = planner_shapes(s) | encoder_shapes(s) | training_shapes(s)
    tensors = {}
    for name, shape in shapes.items():
        if name.startswith("_trajectory_head.") and ".0." not in name[: len("_trajectory_head.0.")]:
            tensors[name] = tensors["_trajectory_head.0." + name.split(".", 2)[2]]
        else:
            tensors[name] = _draw(name, shape, generator)
    return {PREFIX + name: tensor for name, tensor in tensors.items()}


def checkpoint(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """What stands around the tensors in a Lightning checkpoint."""
    return {
        "epoch": 19,
        "global_step": 26560,
        "pytorch-lightning_version": "2.2.1",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 20}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val/score'}": {"best_model_score": None}},
        "optimizer_states": [],
        "lr_schedulers": [{"base_lrs": [1e-4], "last_epoch": 20}],
    }


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Norms scale by about one and sums of products stay about one, so that queries differ."""
    values = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return values * math.prod(shape[1:]) ** -0.5
    return 0.3 * values + (1.0 if name.endswith("weight") else 0.0)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _mlp(name: str, inputs: int, hidden: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {
        **_linear(f"{name}.mlp.0", inputs, hidden),
        **_norm(f"{name}.mlp.1", hidden),
        **_linear(f"{name}.mlp.3", hidden, hidden),
        **_norm(f"{name}.mlp.4", hidden),
        **_linear(f"{name}.mlp.6", hidden, outputs),
    }


def _refiner(name: str, s: Sizes) -> dict[str, tuple[int, ...]]:
    shapes = {
        **_mlp(f"{name}.traj_decoder", s.width, s.hidden, 3),
        f"{name}.Bev_refiner.positional_encoding.row_embed.weight": (s.proposals, s.width // 2),
        f"{name}.Bev_refiner.positional_encoding.col_embed.weight": (s.poses, s.width // 2),
    }
    for index in range(s.layers):
        layer = f"{name}.Bev_refiner.bev_decoder.layers.{index}"
        query, camera = f"{layer}.attentions.0", f"{layer}.attentions.1"
        shapes |= {
            **_linear(f"{query}.sampling_offsets", 2 * s.width, 2 * 8 * 1 * 4 * 2),
            **_linear(f"{query}.attention_weights", 2 * s.width, 2 * 8 * 1 * 4),
            **_linear(f"{query}.value_proj", s.width, s.width),
            **_linear(f"{query}.output_proj", s.width, s.width),
            **_linear(f"{camera}.deformable_attention.sampling_offsets", s.width, 8 * 1 * 16 * 2),
            **_linear(f"{camera}.deformable_attention.attention_weights", s.width, 8 * 1 * 16),
            **_linear(f"{camera}.deformable_attention.value_proj", s.width, s.width),
            **_linear(f"{camera}.output_proj", s.width, s.width),
            **_linear(f"{layer}.ffns.0.layers.0.0", s.width, s.hidden),
            **_linear(f"{layer}.ffns.0.layers.1", s.hidden, s.width),
            **_norm(f"{layer}.norms.0", s.width),
            **_norm(f"{layer}.norms.1", s.width),
            **_norm(f"{layer}.norms.2", s.width),
        }
    return shapes


def _dinov3(s: Sizes) -> dict[str, tuple[int, ...]]:
    width, hidden = s.backbone_width, s.backbone_hidden
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, 1, width),
        "embeddings.register_tokens": (1, 4, width),
        "embeddings.patch_embeddings.weight": (width, 3, 16, 16),
        "embeddings.patch_embeddings.bias": (width,),
        **_norm("norm", width),
    }
    for index in range(s.backbone_layers):
        layer = f"layer.{index}"
        shapes |= {
            **_norm(f"{layer}.norm1", width),
            f"{layer}.attention.k_proj.weight": (width, width),
            **_linear(f"{layer}.attention.v_proj", width, width),
            **_linear(f"{layer}.attention.q_proj", width, width),
            **_linear(f"{layer}.attention.o_proj", width, width),
            f"{layer}.layer_scale1.lambda1": (width,),
            **_norm(f"{layer}.norm2", width),
            **_linear(f"{layer}.mlp.gate_proj", width, hidden),
            **_linear(f"{layer}.mlp.up_proj", width, hidden),
            **_linear(f"{layer}.mlp.down_proj", hidden, width),
            f"{layer}.layer_scale2.lambda1": (width,),
        }
    return shapes
