"""Turns a checkpoint into a bundle: two ONNX files and the manifest that fits them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from rap_inference.bundle import MANIFEST_NAME, SCHEMA, Bundle, file_sha256, load_bundle
from rap_planner.route import Command
from rap_training.config import TrainingConfig
from rap_training.model.rap_model import RapModel
from rap_training.normalization import MEAN, STD
from rap_training.rig import HEIGHT, NOMINAL_RIG, WIDTH

OPSET = 17
"""The lowest opset with everything we use, since vehicles run old runtimes."""

DATA_LICENSE = "Simulated SUMO traffic on CARLA towns (CARLA map assets: CC BY 4.0)"


class _LastPass(nn.Module):
    """The planner head as it is deployed: the last refinement only."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, features: Tensor, camera_valid: Tensor, image_from_ego: Tensor, history: Tensor,
        command: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        proposals, scores = self.head(features, camera_valid, image_from_ego, history, command)
        return proposals[-1], scores


def export_bundle(
    model: RapModel,
    config: TrainingConfig,
    out: Path,
    *,
    maps: tuple[str, ...],
    command: str,
    metrics: dict[str, float],
) -> Bundle:
    """Writes a bundle.

    Args:
        model: In evaluation mode.
        config: The training it came from.
        out: Bundle folder; existing files of a bundle are replaced.
        maps: Names of the maps it was trained on.
        command: The command that made it.
        metrics: Measured figures for the model card.

    Returns:
        The bundle, validated.
    """
    out.mkdir(parents=True, exist_ok=True)
    stride = model.encoder.stride
    features = {
        "channels": config.model.feature_channels,
        "height": HEIGHT // stride,
        "width": WIDTH // stride,
    }
    _export_networks(model, config, out, (features["height"], features["width"]))
    training = {
        "command": command,
        "maps": list(maps),
        "data_license": DATA_LICENSE,
        "samples": config.optimizer.steps * config.optimizer.batch_size,
    }
    manifest = _manifest(config, out) | {"features": features, "training": training}
    return _write_manifest(out, manifest | {"metrics": metrics})


def with_metrics(bundle: Bundle, metrics: dict[str, float]) -> Bundle:
    """Writes measured figures into a bundle's model card and returns the bundle anew."""
    manifest = yaml.safe_load((bundle.path / MANIFEST_NAME).read_text(encoding="utf-8"))
    return _write_manifest(bundle.path, manifest | {"metrics": metrics})


def _write_manifest(out: Path, manifest: dict[str, object]) -> Bundle:
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    (out / MANIFEST_NAME).write_text(text, encoding="utf-8")
    return load_bundle(out)


def _manifest(config: TrainingConfig, out: Path) -> dict[str, object]:
    """Returns what the configuration and the files themselves say."""
    model = config.model
    return {
        "schema": SCHEMA,
        "name": config.name,
        "encoder": {"path": "encoder.onnx", "sha256": file_sha256(out / "encoder.onnx")},
        "planner": {"path": "planner.onnx", "sha256": file_sha256(out / "planner.onnx")},
        "cameras": _cameras(),
        "normalization": {"mean": list(MEAN), "std": list(STD)},
        "style": config.data.style,
        "commands": [command.name.lower() for command in Command],
        "proposals": model.proposals,
        "horizon_steps": model.horizon_steps,
        "dt_s": model.dt_s,
        "history": {"steps": model.history_steps, "dt_s": model.history_dt_s},
    }


def _export_networks(
    model: RapModel, config: TrainingConfig, out: Path, cells: tuple[int, int]
) -> None:
    shape, cameras = config.model, len(NOMINAL_RIG)
    images = torch.zeros(cameras, 3, HEIGHT, WIDTH)
    _export(model.encoder, (images,), out / "encoder.onnx", ["images"], ["features"])
    projections = torch.stack(
        [torch.from_numpy(camera.image_from_ego()).float() for camera in NOMINAL_RIG]
    )
    inputs = (
        torch.zeros(1, cameras, shape.feature_channels, *cells),
        torch.ones(1, cameras),
        projections[None],
        torch.zeros(1, shape.history_steps, 7),
        torch.eye(len(Command))[:1],
    )
    names = ["features", "camera_valid", "image_from_ego", "history", "command"]
    _export(_LastPass(model.head), inputs, out / "planner.onnx", names, ["proposals", "scores"])


def _export(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, names: list[str], outputs: list[str]
) -> None:
    """Exports with the tracing exporter: it needs no further packages and keeps opset 17."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation notes of the exporter about itself
        torch.onnx.export(
            module.eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamic_axes={"images": {0: "N"}, "features": {0: "N"}} if "images" in names else None,
            dynamo=False,
        )


def _cameras() -> list[dict[str, object]]:
    return [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy],
            "rotation": camera.ego_from_camera[:3, :3].tolist(),
            "translation": camera.ego_from_camera[:3, 3].tolist(),
        }
        for camera in NOMINAL_RIG
    ]
