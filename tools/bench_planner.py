"""Speed of encoder and planner at batch 1: four cameras, two threads, ONNX Runtime against torch.

Both run the same weights on the same inputs and take turns, so that other work on the machine slows
both. Prints medians, with the fastest tenth of the steps beside them because waiting threads suffer
unevenly on a loaded machine, and then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rap_inference.network import OnnxRuntimeNetwork
from rap_raster.camera import CameraModel, optical_rotation
from rap_training.calibration import Calibration
from rap_training.config import TrainingConfig, load_config
from rap_training.export import DeployedHead, export_network, head_inputs
from rap_training.fit import load_model
from rap_training.model.rap_model import RapModel
from rap_training.rig import nominal_rig

THREADS, REPEATS, WARM_UP = 2, 200, 20

Inputs = dict[str, Tensor]
Encode = Callable[[], Tensor]
Plan = Callable[[Tensor], object]
Times = dict[str, float]


def main() -> None:
    """Measures and prints everything."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model, config = asked_model()
    rig = four_cameras(config)
    inputs = model_inputs(model, rig)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        paths = export(model, inputs, Path(folder))
        runs = {"onnxruntime": onnx_parts(paths, inputs), "torch": torch_parts(model, inputs)}
        results = measured(runs)
    results["torch / onnxruntime"] = {
        title: time_ms / results["onnxruntime"][title]
        for title, time_ms in results["torch"].items()
    }
    print_table(results)
    print(json.dumps({"name": config.name, "cameras": len(rig)} | results))


def asked_model() -> tuple[RapModel, TrainingConfig]:
    """Returns what the command line asks for; speed does not depend on the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a trained model")
    parser.add_argument(
        "--config", type=Path, default=Path("tiny"), help="without: preset or file, not trained"
    )
    asked = parser.parse_args()
    if asked.checkpoint:
        return load_model(asked.checkpoint)
    config = load_config(asked.config)
    return RapModel(config.model, initialised=False).eval(), config


def four_cameras(config: TrainingConfig) -> tuple[CameraModel, ...]:
    """Returns the rig of a training and a camera to the rear."""
    rig = nominal_rig(config.data.image_size)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(np.pi, pitch_rad=0.03), (-0.8, 0.0, 1.5)
    return (*rig, replace(rig[0], name="back", ego_from_camera=pose))


def model_inputs(model: RapModel, rig: tuple[CameraModel, ...]) -> Inputs:
    """Returns images of noise, what the planner head takes beside features, and noise for zeros."""
    inputs = head_inputs(model, rig)
    del inputs["features"]
    if not model.head.config.route_points:
        del inputs["route"]
    noise = {name: torch.randn_like(inputs[name]) for name in ("history", "route") & inputs.keys()}
    images = torch.randn(len(rig), 3, rig[0].height, rig[0].width)
    return {"images": images} | inputs | noise


def export(model: RapModel, inputs: Inputs, folder: Path) -> tuple[Path, Path]:
    """Writes encoder and planner for as many cameras as the inputs have."""
    images, head = {"images": inputs["images"]}, DeployedHead(model.head, Calibration())
    features = {"features": model.encoder(inputs["images"])[None]}
    rest = {name: x for name, x in inputs.items() if name != "images"}
    paths = folder / "encoder.onnx", folder / "planner.onnx"
    planner = features | rest
    outputs = ["proposals", "scores", "sub_scores"]
    export_network(model.encoder, tuple(images.values()), paths[0], list(images), ["features"])
    export_network(head, tuple(planner.values()), paths[1], list(planner), outputs)
    return paths


def onnx_parts(paths: tuple[Path, Path], inputs: Inputs) -> tuple[Encode, Plan]:
    """Returns encoder and planner on ONNX Runtime."""
    encoder, planner = (OnnxRuntimeNetwork(path, threads=THREADS) for path in paths)
    arrays = {name: x.numpy() for name, x in inputs.items()}
    images = {"images": arrays.pop("images")}

    def encode() -> Tensor:
        (features,) = encoder.run(images).values()
        return torch.from_numpy(features)

    return encode, lambda features: planner.run({"features": features[None].numpy()} | arrays)


def torch_parts(model: RapModel, inputs: Inputs) -> tuple[Encode, Plan]:
    """Returns encoder and planner of the torch module in eager mode."""
    images, *rest = inputs.values()
    head = DeployedHead(model.head, Calibration())
    return lambda: model.encoder(images), lambda features: head(features[None], *rest)


def measured(runs: dict[str, tuple[Encode, Plan]]) -> dict[str, Times]:
    """Returns the times of each; they take turns."""
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
    for _ in range(WARM_UP + REPEATS):
        for name, parts in runs.items():
            samples[name].append(timed(*parts))
    return {name: summary(rows[WARM_UP:]) for name, rows in samples.items()}


def timed(encode: Encode, plan: Plan) -> tuple[float, float, float]:
    """Returns wall times of encoder and planner and CPU time of both, seconds."""
    cpu, start = time.process_time(), time.perf_counter()
    features = encode()
    middle = time.perf_counter()
    plan(features)
    return middle - start, time.perf_counter() - middle, time.process_time() - cpu


def summary(rows: list[tuple[float, float, float]]) -> Times:
    """Returns medians, and the 10th percentile of whole steps, milliseconds."""
    encoder, planner, cpu = 1e3 * np.array(rows).T
    return {
        "encoder_ms": float(np.median(encoder)),
        "planner_ms": float(np.median(planner)),
        "step_ms": float(np.median(encoder + planner)),
        "fastest_tenth_ms": float(np.percentile(encoder + planner, 10)),
        "cpu_ms": float(np.median(cpu)),
    }


def print_table(results: dict[str, Times]) -> None:
    """Prints the figures for people."""
    print(f"{'':20}", *(f"{title:>17}" for title in results["torch"]))
    for name, times in results.items():
        print(f"{name:20}", *(f"{value:17.2f}" for value in times.values()))


if __name__ == "__main__":
    main()
