"""Turns a checkpoint into a bundle: two ONNX files and the manifest that fits them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from rap_evaluation.logs.drive_log import DriveLog
from rap_inference.bundle import MANIFEST_NAME, SCHEMA, Bundle, file_sha256, load_bundle
from rap_planner.route import Command
from rap_raster.camera import CameraModel
from rap_raster.ego_history import HISTORY_COLUMNS
from rap_training.calibration import Calibration
from rap_training.config import TrainingConfig
from rap_training.model.head import PlannerHead
from rap_training.model.precision import store_in_half
from rap_training.model.rap_model import RapModel
from rap_training.model.scores import SCORE_NAMES, selection_logits
from rap_training.normalization import MEAN, STD
from rap_training.revision import code_revision
from rap_training.rig import nominal_rig

OPSET = 17
"""The lowest opset with everything we use, since vehicles run old runtimes."""

LARGEST_BYTES = 2_000_000_000
"""An ONNX file holds no more; larger encoders are stored in half precision."""


def licenses_of(logs: Sequence[DriveLog]) -> str:
    """Returns the terms of some logs in one line."""
    return "; ".join(sorted({log.license or "not stated" for log in logs}))


class DeployedHead(nn.Module):
    """The planner head as it is deployed: the last refinement, one score to choose by."""

    def __init__(self, head: PlannerHead, calibration: Calibration) -> None:
        """Takes a head and what its scores are calibrated with."""
        super().__init__()
        self.head = head
        self.calibration = calibration

    def forward(  # noqa: PLR0917 - the inputs of the exported network
        self, features: Tensor, camera_valid: Tensor, image_from_ego: Tensor, history: Tensor,
        command: Tensor, route: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Plans as `PlannerHead.forward`; returns proposals, their scores and sub-scores."""
        route = history.new_zeros(len(history), 0, 3) if route is None else route
        out = self.head(features, camera_valid, image_from_ego, history, command, route)
        logits = self.calibration(out.scores)
        return out.proposals[-1], selection_logits(logits, self.head.config), torch.sigmoid(logits)


@dataclass(frozen=True, slots=True)
class Networks:
    """Both networks of a bundle, with inputs to trace them with.

    Attributes:
        encoder: (N, 3, H, W) normalised images to (N, F, h, w) features.
        planner: The other inputs, in their order, to proposals, scores and maybe sub-scores.
        rig: The cameras they are made for.
        inputs: Of the planner by name, batch of one.
        outputs: Names of the planner's outputs.
    """

    encoder: nn.Module
    planner: nn.Module
    rig: Sequence[CameraModel]
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


def export_bundle(
    model: RapModel,
    config: TrainingConfig,
    out: Path,
    *,
    maps: tuple[str, ...],
    data_license: str,
    command: str,
    metrics: dict[str, float],
    calibration: Calibration | None = None,
    rig: tuple[CameraModel, ...] | None = None,
) -> Bundle:
    """Writes a bundle.

    Args:
        model: In evaluation mode.
        config: The training it came from.
        out: Bundle folder; existing files of a bundle are replaced.
        maps: Names of the maps it was trained on.
        data_license: Terms of the logs it was trained on.
        command: The command that made it.
        metrics: Measured figures for the model card.
        calibration: Of the predicted scores; by default they stay as they are.
        rig: Its cameras; by default those of the training.

    Returns:
        The bundle, validated.
    """
    shape = config.model
    rig = rig or nominal_rig(config.data.image_size)
    inputs = head_inputs(model, rig)
    if not shape.route_points:
        del inputs["route"]  # The exporter would drop it, since nothing reads it.
    head = DeployedHead(model.head, calibration or Calibration())
    outputs = ("proposals", "scores", "sub_scores")
    route = {"points": shape.route_points, "spacing_m": shape.route_spacing_m}
    return write_bundle(
        out,
        Networks(model.encoder, head, rig, inputs, outputs),
        {
            "name": config.name,
            "style": config.data.style,
            "dt_s": shape.dt_s,
            "history": {"steps": shape.history_steps, "dt_s": shape.history_dt_s},
            "route": route if shape.route_points else None,
            "sub_scores": list(SCORE_NAMES),
            "training": {
                "command": command,
                "maps": list(maps),
                "data_license": data_license,
                "samples": config.optimizer.steps * config.optimizer.batch_size,
                "revision": code_revision(),
            },
            "metrics": metrics,
        },
    )


def write_bundle(out: Path, networks: Networks, said: dict[str, object]) -> Bundle:
    """Writes the networks of a bundle and its manifest.

    Args:
        out: Bundle folder; existing files of a bundle are replaced.
        networks: What is exported. An encoder that does not fit into an ONNX file is stored in half
            precision from then on.
        said: What the networks themselves do not tell: name, style, dt_s, history, route,
            sub_scores, training and metrics of the manifest.

    Returns:
        The bundle, validated.
    """
    out.mkdir(parents=True, exist_ok=True)
    if sum(4 * weights.numel() for weights in networks.encoder.parameters()) > LARGEST_BYTES:
        store_in_half(networks.encoder)
    rig, inputs, outputs = networks.rig, networks.inputs, list(networks.outputs)
    images = torch.zeros(len(rig), 3, rig[0].height, rig[0].width)
    export_network(networks.encoder, (images,), out / "encoder.onnx", ["images"], ["features"])
    export_network(
        networks.planner, tuple(inputs.values()), out / "planner.onnx", list(inputs), outputs
    )
    with torch.no_grad():
        proposals = networks.planner(*inputs.values())[0]
    channels, height, width = inputs["features"].shape[2:]
    manifest = {
        "schema": SCHEMA,
        "encoder": {"path": "encoder.onnx", "sha256": file_sha256(out / "encoder.onnx")},
        "planner": {"path": "planner.onnx", "sha256": file_sha256(out / "planner.onnx")},
        "cameras": _cameras(rig),
        "normalization": {"mean": list(MEAN), "std": list(STD)},
        "commands": [command.name.lower() for command in Command],
        "proposals": proposals.shape[1],
        "horizon_steps": proposals.shape[2],
        "features": {"channels": channels, "height": height, "width": width},
    }
    return _write_manifest(out, manifest | said)


def with_metrics(bundle: Bundle, metrics: dict[str, float]) -> Bundle:
    """Writes measured figures into a bundle's model card and returns the bundle anew."""
    manifest = yaml.safe_load((bundle.path / MANIFEST_NAME).read_text(encoding="utf-8"))
    return _write_manifest(bundle.path, manifest | {"metrics": metrics})


def put_in_place(bundle: Bundle, out: Path) -> Bundle:
    """Moves the files of a bundle, and replaces those of one that is there; returns it anew."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = bundle.path / MANIFEST_NAME
    networks = [path for path in bundle.path.iterdir() if path != manifest]
    for path in (*networks, manifest):  # The manifest last: its hashes tell what is not complete.
        path.replace(out / path.name)
    return load_bundle(out)


def _write_manifest(out: Path, manifest: dict[str, object]) -> Bundle:
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    (out / MANIFEST_NAME).write_text(text, encoding="utf-8")
    return load_bundle(out)


def head_inputs(model: RapModel, rig: Sequence[CameraModel]) -> dict[str, Tensor]:
    """Returns inputs of the planner head by name, batch of one: the rig, and zeros."""
    shape, stride = model.head.config, model.encoder.stride
    cells = rig[0].height // stride, rig[0].width // stride
    projections = [torch.from_numpy(camera.image_from_ego()).float() for camera in rig]
    return {
        "features": torch.zeros(1, len(rig), shape.feature_channels, *cells),
        "camera_valid": torch.ones(1, len(rig)),
        "image_from_ego": torch.stack(projections)[None],
        "history": torch.zeros(1, shape.history_steps, len(HISTORY_COLUMNS)),
        "command": torch.eye(len(Command))[:1],
        "route": torch.zeros(1, shape.route_points, 3),
    }


def export_network(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, names: list[str], outputs: list[str]
) -> None:
    """Exports one network with the tracing exporter: it needs no further packages.

    Args:
        module: The network; it is put into evaluation mode.
        inputs: To trace it with.
        path: Of the ONNX file.
        names: Of the inputs; the number of `images` stays open.
        outputs: Names of the outputs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation notes of the exporter about itself
        torch.onnx.export(
            module.eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            # Folding would widen weights that are stored in half precision.
            do_constant_folding=not _has_half(module),
            dynamic_axes={"images": {0: "N"}, "features": {0: "N"}} if "images" in names else None,
            dynamo=False,
        )


def _has_half(module: nn.Module) -> bool:
    return any(weights.dtype == torch.float16 for weights in module.parameters())


def _cameras(rig: Sequence[CameraModel]) -> list[dict[str, object]]:
    return [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy],
            "rotation": camera.ego_from_camera[:3, :3].tolist(),
            "translation": camera.ego_from_camera[:3, 3].tolist(),
        }
        for camera in rig
    ]
