"""One YAML file describes one training; this is its typed form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

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


SCORED_S = 4.0
"""How far the driving score looks. Source: NAVSIM, `proposal_sampling`."""

ScoreName = Literal[
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "driving_direction_compliance",
    "traffic_light_compliance",
    "ego_progress",
    "time_to_collision_within_bound",
    "lane_keeping",
    "comfort",
    "score",
    "imitation",
]
"""What the model predicts of each proposal: the parts of the driving score, the score itself
(`rap_evaluation.metrics.teacher`), and how near the proposal comes to what was driven."""

BackboneName = Literal["plain", "efficientnet_lite0", "resnet34", "vit_s14", "dinov3_vith16plus"]


class BackboneConfig(StrictModel):
    """The network that looks at images.

    Attributes:
        name: Which one; see `rap_training.model.backbones`.
        weights: Where it starts: `random`, `package` for what a Python package brings, or a file or
            folder of yours.
        frozen: Never trained; checkpoints then leave it out, and it is read from `weights` again.
        widths: Of `plain`: of the stem (stride 4) and of each stage after it (stride 2).
        stages: Of the others: how many of their stages are built; all by default.
    """

    name: BackboneName = "plain"
    weights: str = "random"
    frozen: bool = False
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 32, 64)
    stages: PositiveInt | None = None

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> BackboneConfig:
        if self.name == "plain" and (self.weights != "random" or self.stages is not None):
            raise ValueError("plain has neither pretrained weights nor stages to choose")
        if self.frozen and self.weights == "random":
            raise ValueError("frozen: true needs weights: random ones would never learn anything")
        return self


class ModelConfig(StrictModel):
    """Shape of the network.

    Attributes:
        backbone: The network that looks at images.
        feature_channels: F, channels of the aligned features.
        width: Channels of proposals and tokens in the planner head.
        query_width: Q, channels of a query: one pose of one proposal.
        probe_channels: Channels looked up at the proposals' poses.
        heads: Attention heads.
        proposals: K.
        braking_mps2: Rates at which the last proposals brake, one each, along the route or else
            straight on; all others are learned. What people drive teaches nobody to brake hard.
        horizon_steps: T.
        dt_s: Time between poses.
        history_steps: S, rows of the ego history.
        history_dt_s: Time between them.
        route_points: R, points of the route that the planner reads; 0 leaves it the command alone.
        route_spacing_m: Distance between them along the route.
        refinements: Passes of the one shared refiner.
        selection: Weights of the predicted scores in the choice of a proposal; see
            `rap_training.model.scores`.
    """

    backbone: BackboneConfig = BackboneConfig()
    feature_channels: PositiveInt = 32
    width: PositiveInt = 64
    query_width: PositiveInt = 32
    probe_channels: PositiveInt = 16
    heads: PositiveInt = 4
    proposals: PositiveInt = 64
    braking_mps2: tuple[PositiveFloat, ...] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    horizon_steps: PositiveInt = 10
    dt_s: StepsTime = 0.5
    history_steps: Annotated[int, Field(ge=2)] = 4
    history_dt_s: StepsTime = 0.5
    route_points: Annotated[int, Field(ge=0)] = 30
    route_spacing_m: PositiveFloat = 2.5
    refinements: Annotated[int, Field(ge=1)] = 1
    selection: dict[ScoreName, Annotated[float, Field(ge=0)]] = {"score": 1.0, "imitation": 1.0}

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if len(self.braking_mps2) >= self.proposals:
            raise ValueError(
                f"braking_mps2 has {len(self.braking_mps2)} rates, expected fewer than proposals, "
                f"{self.proposals}"
            )
        if self.route_points in {1, 2}:
            raise ValueError(f"route_points is {self.route_points}, expected 0 or at least 3")
        if not sum(self.selection.values()) > 0.0:
            raise ValueError("selection has no weight above 0")
        return self

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


class CameraConfig(StrictModel):
    """Samples that carry camera images beside their rasters.

    Simulated images are dear: so there is a fixed number of such samples, drawn once and kept.

    Attributes:
        share: Of the samples of a training.
        images: `simulated`, or `logged`: those that the logs' own cameras took. All samples of logs
            with cameras are then seen through these, rasters too.
        slots: Of `logged`: slot of the rig by name of the camera; by default cameras fill those
            that they look like.
        samples: Of `simulated`: how many different ones there are.
        views: Which samples have images: those of `recorded` drives alone, as on a real vehicle, or
            `any`, since a simulator can take pictures of what was never recorded.
        seed: Of their draw, so that trainings of other seeds share them.
    """

    share: Share = 0.25
    images: Literal["simulated", "logged"] = "simulated"
    slots: dict[str, str] = {}
    samples: PositiveInt = 8192
    views: Literal["recorded", "any"] = "recorded"
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _were_taken(self) -> CameraConfig:
        if self.images == "logged" and self.views == "any":
            raise ValueError("images: logged needs views: recorded, there are no others")
        return self


class DataConfig(StrictModel):
    """What samples are made of.

    Attributes:
        sources: Where samples come from.
        style: Raster style.
        image_size: Width and height of rasters and images.
        rasters: Whether the planner learns on rasters; otherwise camera images are all it sees.
        cameras: Samples with camera images.
        unknown_command_share: Share of samples whose command is hidden.
        hidden_route_share: Share of samples whose route is hidden.
        hidden_history_share: Share of samples whose history is hidden but for the present state, so
            that going on as before is not all that is learned.
        short_history_share: Share of samples whose history starts late, as after a restart.
        hidden_camera_share: Share of samples in which one camera is missing.
        yaw_jitter_rad: Standard deviation of the cameras' mounting yaw and pitch.
        focal_jitter: Relative standard deviation of the focal lengths.
        position_jitter_m: Standard deviation of the cameras' mounting position.
        speed_noise_mps: Standard deviation of the error on the reported speeds.
    """

    sources: SourcesConfig = SourcesConfig()
    style: str = "semantic"
    image_size: tuple[ImageSide, ImageSide] = (256, 128)
    rasters: bool = True
    cameras: CameraConfig = CameraConfig()
    unknown_command_share: Share = 0.15
    hidden_route_share: Share = 0.3
    hidden_history_share: Share = 0.3
    short_history_share: Share = 0.1
    hidden_camera_share: Share = 0.05
    yaw_jitter_rad: Spread = 0.02
    focal_jitter: Annotated[float, Field(ge=0, le=0.1)] = 0.08
    position_jitter_m: Spread = 0.15
    speed_noise_mps: Spread = 0.1

    @model_validator(mode="after")
    def _shows_something(self) -> DataConfig:
        if not self.rasters and self.cameras.share < 1.0:
            raise ValueError(
                f"rasters: false needs cameras.share: 1, got {self.cameras.share:g}: "
                "samples without images would show nothing"
            )
        return self


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
"""Of the arithmetic; geometry is always in single precision. See Lightning Fabric."""


class OptimizerConfig(StrictModel):
    """How the weights are fitted.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples per step, all devices together.
        learning_rate: Peak of the schedule.
        schedule: `one_cycle`, or `cosine` after a linear warm-up as published.
        warmup_share: Share of the steps until the peak.
        weight_decay: AdamW's.
        gradient_clip: Largest gradient norm.
        precision: Of the arithmetic.
        seed: Of weights, sampling and noise.
    """

    steps: PositiveInt = 800
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    weight_decay: NonNegative = 1e-4
    gradient_clip: PositiveFloat = 20.0
    precision: Precision = "32-true"
    seed: Annotated[int, Field(ge=0)] = 1


SpatialScale = Literal["relative", "absolute"]


class AlignmentConfig(StrictModel):
    """How camera features are pulled to raster features; see `rap_training.alignment`.

    Attributes:
        spatial: Weight of the distance between paired features. At 0.2, its gradient in the encoder
            is 8 times imitation's at first and as large after 30 steps (1.1 and 1.2, `tiny`, 12
            samples). Published: 0.002, absolute.
        spatial_scale: Whether that distance is `relative` to the variance of the raster features,
            or `absolute` as published.
        domain: Weight of the domain classifier's loss; at 0.1, its gradient is half of imitation's
            then. Published: 0.1 in the paper, 0.001 in the release.
        reversal: Largest strength of the gradient reversal.
        hidden: Width of the classifier's two hidden layers.
    """

    spatial: NonNegative = 0.2
    spatial_scale: SpatialScale = "relative"
    domain: NonNegative = 0.1
    reversal: NonNegative = 1.0
    hidden: PositiveInt = 64


class LossConfig(StrictModel):
    """Weights of the loss terms; see `rap_training.losses`.

    Attributes:
        early_refinements: Of each earlier refinement, relative to the one after it.
        other_proposals: Of all proposals, beside the nearest one.
        likeness: Of the prediction how near each proposal comes to what was driven.
        likeness_scale_m: Mean displacement at which likeness has fallen to 37 percent.
        scores: Of the predictions of the driving score and its parts.
        scored_share: Share of the samples whose proposals are driven and scored.
        room_m: How much is to be left free before and behind road users, and beside them: whoever
            comes nearer counts as touching, as far as that room is there at the start.
        cells: Of the auxiliary prediction what is in each cell of an image.
        area: Of the auxiliary prediction where a proposal leaves the road or its direction.
        agents: Of the auxiliary prediction which road users come near a proposal.
        alignment: Of camera features with raster features.
    """

    early_refinements: NonNegative = 0.3
    other_proposals: NonNegative = 0.3
    likeness: NonNegative = 1.0
    likeness_scale_m: PositiveFloat = 2.0
    scores: NonNegative = 1.0
    scored_share: Share = 0.2
    room_m: tuple[NonNegative, NonNegative] = (2.0, 0.3)
    cells: NonNegative = 0.2
    area: NonNegative = 0.2
    agents: NonNegative = 0.02
    alignment: AlignmentConfig = AlignmentConfig()


class TrainingConfig(StrictModel):
    """Everything that decides the weights, given the logs."""

    name: str = "tiny"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _reaches_as_far_as_the_score(self) -> TrainingConfig:
        if self.loss.scored_share and self.model.horizon_s < SCORED_S:
            raise ValueError(
                f"model: a horizon of {self.model.horizon_s:g} s cannot be scored, which takes "
                f"{SCORED_S:g} s; set loss.scored_share to 0"
            )
        return self

    @model_validator(mode="after")
    def _chooses_by_what_is_learned(self) -> TrainingConfig:
        chosen_by = {name for name, weight in self.model.selection.items() if weight}
        if "imitation" in chosen_by and not self.loss.likeness:
            raise ValueError("model.selection.imitation needs loss.likeness, which is 0")
        untaught = sorted(chosen_by - {"imitation"})
        if untaught and not (self.loss.scored_share and self.loss.scores):
            raise ValueError(
                f"model.selection.{untaught[0]} needs loss.scores and loss.scored_share; without a "
                "map to score on, set model.selection to {imitation: 1}"
            )
        return self


PRESETS = Path(__file__).parent / "presets" / "training"
"""Folder of the training configurations that come with the package."""


def load_config(path: Path) -> TrainingConfig:
    """Reads a training configuration.

    Args:
        path: A YAML file, or the name of a preset: a file of `PRESETS` without its ending.

    Raises:
        ConfigError: If the file cannot be read or a field is wrong.
    """
    preset = PRESETS / f"{path}.yaml"
    chosen = preset if path.name == str(path) and preset.exists() else path
    return read_yaml(chosen, TrainingConfig, ConfigError)
