"""A bundle of the published planner, for whoever has its released checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from rap_inference.bundle import Bundle
from rap_planner.route import Command
from rap_raster.ego_history import HISTORY_COLUMNS
from rap_training.export import Networks, write_bundle
from rap_training.model.published.rig import RELEASED_RIG
from rap_training.model.published.shape import PATCH
from rap_training.released_weights import DT_S, HISTORY_DT_S, HISTORY_STEPS, ReleasedModel
from rap_training.revision import code_revision

DATA_LICENSE = "nuPlan, NAVSIM and OpenScene: non-commercial; DINOv3: its own licence"


def export_released(model: ReleasedModel, out: Path, command: str) -> Bundle:
    """Writes a bundle of released weights.

    Args:
        model: As `import_released` returns it; its encoder may be stored in half precision.
        out: Bundle folder; existing files of a bundle are replaced.
        command: The command that makes it, for the model card.

    Returns:
        The bundle, validated.
    """
    rig, shape = RELEASED_RIG, model.planner.shape
    projections = [torch.from_numpy(camera.image_from_ego()).float() for camera in rig]
    cells = rig[0].height // PATCH, rig[0].width // PATCH
    inputs = {
        "features": torch.zeros(1, len(rig), shape.width, *cells),
        "camera_valid": torch.ones(1, len(rig)),
        "image_from_ego": torch.stack(projections)[None],
        "history": torch.zeros(1, HISTORY_STEPS, len(HISTORY_COLUMNS)),
        "command": torch.eye(len(Command))[:1],
    }
    networks = Networks(model.encoder, model.planner, rig, inputs, ("proposals", "scores"))
    return write_bundle(
        out,
        networks,
        {
            "name": "rap_dino",
            "style": "rap",
            "dt_s": DT_S,
            "history": {"steps": HISTORY_STEPS, "dt_s": HISTORY_DT_S},
            "training": {
                "command": command,
                "maps": [],
                "data_license": DATA_LICENSE,
                "samples": 0,
                "revision": code_revision(),
            },
            "metrics": {},
        },
    )
