"""One YAML file describes one training; this is its typed form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from rap_evaluation.logs.recording import STEP_NS
from rap_inference.yaml_files import read_yaml
from rap_raster.scene import ObjectClass


class ConfigError(ValueError):
    """A configuration that cannot be used; the text names file, field and reason in one line."""


class StrictModel(BaseModel):
    """Part of a file: unknown fields and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _whole_steps(time_s: float) -> float:
    """Refuses times that steps of logs cannot be counted off by."""
    step_s = STEP_NS * 1e-9
    if abs(time_s / step_s - round(time_s / step_s)) > _STEP_TOLERANCE:
        raise ValueError(f"expected a multiple of {step_s:g} s, got {time_s:g}")
    return time_s


_STEP_TOLERANCE = 1e-6
StepsTime = Annotated[PositiveFloat, AfterValidator(_whole_steps)]


class ModelConfig(StrictModel):
    """Shape of the network.

    Attributes:
        encoder_channels: Width of the stem (stride 4) and of each stage after it (stride 2).
        feature_channels: F, channels of the aligned features.
        width: Channels of queries and tokens in the planner head.
        probe_channels: Channels looked up at the proposals' poses.
        heads: Attention heads.
        proposals: K.
        horizon_steps: T.
        dt_s: Time between poses.
        history_steps: S, rows of the ego history.
        history_dt_s: Time between them.
        refinements: Passes of the one shared refiner.
    """

    encoder_channels: tuple[int, ...] = (32, 64, 96)
    feature_channels: int = 64
    width: int = 64
    probe_channels: int = 24
    heads: int = 4
    proposals: PositiveInt = 64
    horizon_steps: PositiveInt = 10
    dt_s: StepsTime = 0.5
    history_steps: Annotated[int, Field(ge=2)] = 4
    history_dt_s: StepsTime = 0.5
    refinements: int = 2

    @property
    def horizon_s(self) -> float:
        """How far ahead proposals reach."""
        return self.horizon_steps * self.dt_s


Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Spread = Annotated[float, Field(ge=0, le=1)]
ImageSide = Annotated[int, Field(ge=16, le=4096)]


DrivenBy = Literal["people", "system", "anyone"]
"""Whose driving counts, over the whole horizon: people's leaves out where the log says that the
vehicle drove itself, the system's where it says that it did not."""


class EgoConfig(StrictModel):
    """Samples of what the recording vehicles did.

    Attributes:
        weight: Of this source in the mix.
        loss_weight: Of the imitation loss of its samples.
        standing_share: Share of the standing samples (ego stands now and for the horizon) kept.
        driven_by: Whose driving.
    """

    weight: NonNegative = 0.7
    loss_weight: NonNegative = 1.0
    standing_share: Share = 0.1
    driven_by: DrivenBy = "people"


class RecoveryConfig(StrictModel):
    """Samples of the recording vehicles beside their paths, with a way back as the label.

    Attributes:
        weight: Of this source in the mix.
        loss_weight: Of the imitation loss of its samples.
        driven_by: Whose driving.
        preset: How far off and how back: `default`, `published` or a YAML file, see
            `rap_training.augmentation.recovery.preset`.
        attempts: Perturbations drawn for a start before it is dropped.
    """

    weight: NonNegative = 0.2
    loss_weight: NonNegative = 1.0
    driven_by: DrivenBy = "people"
    preset: str = "default"
    attempts: PositiveInt = 3


class ClassShares(StrictModel):
    """Share of the starts of each class of vehicle that are used."""

    vehicle: Share = 1.0
    truck: Share = 1.0
    bus: Share = 1.0
    motorcycle: Share = 0.0

    def share(self, code: ObjectClass) -> float:
        """Returns the share of a class; classes that are no seats have none."""
        return float(getattr(self, code.name.lower(), 0.0))


class CrossAgentConfig(StrictModel):
    """Samples from the seats of other vehicles.

    Attributes:
        weight: Of this source in the mix.
        loss_weight: Of the imitation loss of its samples. Source: RAP release.
        min_deviation_m: Mean distance over the horizon from going on at constant velocity, above
            which a motion is interesting. Source: RAP release.
        class_shares: Which vehicles.
        max_acceleration_mps2: Over half a second. Annotated tracks are noisy: 99 percent of what
            recording vehicles do in nuScenes and Argoverse 2 is below 5.2 m/s^2, 0.04 rad and 0.5
            rad/s, of what is annotated of others a tenth is above one of these limits.
        max_slip_rad: Between heading and motion of the rear axle; more than nothing, because its
            place is guessed from the length.
        max_yaw_rate_radps: Over half a second; motorcycles turn at 1.1 rad/s.
    """

    weight: NonNegative = 0.1
    loss_weight: NonNegative = 0.1
    min_deviation_m: NonNegative = 0.5
    class_shares: ClassShares = ClassShares()
    max_acceleration_mps2: NonNegative = 6.0
    max_slip_rad: NonNegative = 0.2
    max_yaw_rate_radps: NonNegative = 1.2


class EditConfig(StrictModel):
    """Samples with one thing changed; `rap-train edits` finds them before.

    Attributes:
        weight: Of this source in the mix.
        loss_weight: Of the imitation loss of its samples.
    """

    weight: NonNegative = 0.0
    loss_weight: NonNegative = 1.0


class SourcesConfig(StrictModel):
    """Where samples come from, mixed by weight; a source of weight 0 is not opened."""

    ego: EgoConfig = EgoConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    cross_agent: CrossAgentConfig = CrossAgentConfig()
    edit: EditConfig = EditConfig()


class DataConfig(StrictModel):
    """What samples are made of.

    Attributes:
        sources: Where samples come from.
        style: Raster style.
        image_size: Width and height of rasters and images.
        camera_share: Share of samples that also carry simulated camera images.
        unknown_command_share: Share of samples whose command is hidden.
        short_history_share: Share of samples whose history starts late, as after a restart.
        yaw_jitter_rad: Standard deviation of the cameras' mounting yaw and pitch.
        focal_jitter: Relative standard deviation of the focal lengths.
        position_jitter_m: Standard deviation of the cameras' mounting position.
        speed_noise_mps: Standard deviation of the error on the reported speeds.
    """

    sources: SourcesConfig = SourcesConfig()
    style: str = "semantic"
    image_size: tuple[ImageSide, ImageSide] = (256, 128)
    camera_share: Share = 0.25
    unknown_command_share: Share = 0.15
    short_history_share: Share = 0.1
    yaw_jitter_rad: Spread = 0.02
    focal_jitter: Annotated[float, Field(ge=0, le=0.1)] = 0.08
    position_jitter_m: Spread = 0.15
    speed_noise_mps: Spread = 0.1


class OptimizerConfig(StrictModel):
    """How the weights are fitted.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: AdamW's.
        gradient_clip: Largest gradient norm.
        seed: Of weights, sampling and noise.
    """

    steps: PositiveInt = 800
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegative = 1e-4
    gradient_clip: PositiveFloat = 20.0
    seed: Annotated[int, Field(ge=0)] = 1


class LossConfig(StrictModel):
    """Weights of the loss terms; see `rap_training.losses`.

    Attributes:
        score: Of the score loss.
        score_scale_m: Mean displacement at which a proposal's quality has fallen to 37 percent.
        early_refinements: Of each earlier refinement, relative to the one after it.
        other_proposals: Of all proposals, beside the nearest one.
        alignment: Of the distance between camera and raster features.
    """

    score: float = 2.0
    score_scale_m: float = 2.0
    early_refinements: float = 0.3
    other_proposals: float = 0.05
    alignment: float = 1.0


class TrainingConfig(StrictModel):
    """Everything that decides the weights, given the logs."""

    name: str = "default"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()


def load_config(path: Path) -> TrainingConfig:
    """Reads a training configuration.

    Raises:
        ConfigError: If the file cannot be read or a field is wrong.
    """
    return read_yaml(path, TrainingConfig, ConfigError)
