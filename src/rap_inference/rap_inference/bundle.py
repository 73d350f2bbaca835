"""The model bundle: a folder with two networks and the manifest that says what they expect.

Every consumer goes through `load_bundle`, so nothing about a model is hard-coded elsewhere, and a
network is never run unless its bytes are the ones the manifest was written for (those of a second
file that ONNX may keep weights in are not looked at).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rap_inference.yaml_files import read_yaml

SCHEMA = "rap.bundle/1"
MANIFEST_NAME = "bundle.yaml"

ROTATION_TOLERANCE = 1e-3
"""How far R R^T may be from the identity: calibrations are often written with four decimals."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Cosine = Annotated[float, Field(ge=-1 - ROTATION_TOLERANCE, le=1 + ROTATION_TOLERANCE)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundleError(ValueError):
    """A bundle that must not be used; the text names file, field and reason in one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkFile(_Strict):
    """One ONNX file of the bundle."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+\.onnx$")]
    sha256: Sha256


class BundleCamera(_Strict):
    """One camera slot of the nominal rig, as the network's input image sees it.

    `rotation` and `translation` are ego-from-camera: optical frame to rear-axle frame, metres.
    """

    name: Annotated[str, Field(min_length=1)]
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    intrinsics: tuple[Positive, Positive, Finite, Finite]
    rotation: tuple[tuple[Cosine, Cosine, Cosine], ...] = Field(min_length=3, max_length=3)
    translation: tuple[Finite, Finite, Finite]

    @field_validator("rotation")
    @classmethod
    def _is_a_rotation(
        cls, rotation: tuple[tuple[float, float, float], ...]
    ) -> tuple[tuple[float, float, float], ...]:
        matrix = np.array(rotation)
        error = float(np.abs(matrix @ matrix.T - np.eye(3)).max())
        if error > ROTATION_TOLERANCE or np.linalg.det(matrix) < 0:
            raise ValueError("rotation must be orthonormal with determinant +1")
        return rotation

    def ego_from_camera(self) -> npt.NDArray[np.float64]:
        """Returns the (4, 4) transform from the optical frame to the ego frame."""
        transform = np.eye(4)
        transform[:3, :3] = self.rotation
        transform[:3, 3] = self.translation
        return transform


class Normalization(_Strict):
    """Network input = (rgb - mean) / std, with rgb in 0..255."""

    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]


class FeatureShape(_Strict):
    """Shape of the encoder's output per camera."""

    channels: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]


class History(_Strict):
    """Ego history the planner reads: `steps` states, `dt_s` apart, the last one now."""

    steps: Annotated[int, Field(gt=0)]
    dt_s: Positive


class RouteInput(_Strict):
    """Points of the route for the planner, `spacing_m` apart, the first one beside the ego."""

    points: Annotated[int, Field(gt=0)]
    spacing_m: Positive


class Training(_Strict):
    """Where the weights came from.

    `revision` is the commit of the code that exported them, `unknown` where nothing told it.
    """

    command: str
    maps: tuple[str, ...]
    data_license: str
    samples: Annotated[int, Field(ge=0)]
    revision: str = "unknown"


class Manifest(_Strict):
    """`bundle.yaml`, validated. Extra or missing fields are errors.

    Without `route`, the planner network has no such input and follows the command alone.
    `sub_scores` names the columns of its third output: probabilities, calibrated on samples of the
    training that the weights have not seen.
    """

    schema_: Literal["rap.bundle/1"] = Field(alias="schema")
    name: Annotated[str, Field(min_length=1)]
    encoder: NetworkFile
    planner: NetworkFile
    cameras: tuple[BundleCamera, ...] = Field(min_length=1)
    normalization: Normalization
    style: str
    commands: tuple[Literal["left"], Literal["straight"], Literal["right"], Literal["unknown"]]
    proposals: Annotated[int, Field(gt=0)]
    horizon_steps: Annotated[int, Field(gt=0)]
    dt_s: Positive
    history: History
    route: RouteInput | None = None
    features: FeatureShape
    sub_scores: tuple[str, ...] = ()
    training: Training
    metrics: dict[str, float]

    @field_validator("cameras")
    @classmethod
    def _unique_cameras(cls, cameras: tuple[BundleCamera, ...]) -> tuple[BundleCamera, ...]:
        names = [camera.name for camera in cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"camera names must be unique, got {names}")
        return cameras

    @model_validator(mode="after")
    def _one_image_size(self) -> Manifest:
        sizes = {(camera.width, camera.height) for camera in self.cameras}
        if len(sizes) > 1:
            raise ValueError(f"all cameras must have one image size, got {sorted(sizes)}")
        return self


@dataclass(frozen=True, slots=True)
class Bundle:
    """A validated bundle on disk.

    Attributes:
        path: The folder.
        manifest: Its validated manifest.
        encoder_path: ONNX file of the encoder, hash checked.
        planner_path: ONNX file of the planner, hash checked.
    """

    path: Path
    manifest: Manifest
    encoder_path: Path
    planner_path: Path


def file_sha256(path: Path) -> str:
    """Returns the hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:  # Some networks are too large to be held twice.
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def load_bundle(path: Path) -> Bundle:
    """Reads and validates a bundle folder.

    Raises:
        BundleError: If a file is missing, the manifest is malformed or a hash does not match.
    """
    manifest = read_yaml(path / MANIFEST_NAME, Manifest, BundleError)
    return Bundle(
        path=path,
        manifest=manifest,
        encoder_path=_checked_network(path, manifest.encoder),
        planner_path=_checked_network(path, manifest.planner),
    )


def _checked_network(folder: Path, network: NetworkFile) -> Path:
    path = folder / network.path
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    if digest != network.sha256:
        raise BundleError(f"{path}: sha256 is {digest}, {MANIFEST_NAME} says {network.sha256}")
    return path
