"""How far recovery samples are off the recorded drive, and how they come back: YAML files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from rap_inference.yaml_files import read_yaml
from rap_training.config import ConfigError, NonNegative, StrictModel

_FOLDER = Path(__file__).parents[2] / "presets" / "recovery"
_LARGEST = {
    "lateral_m": 3.0,
    "longitudinal_m": 20.0,
    "yaw_rad": math.pi / 4,
    "speed_ratio": 0.9,
    "curvature_1pm": 0.2,
}
"""Of each figure: farther off, the recorded drive says nothing about where to go."""


class Zero(StrictModel):
    """Always 0."""

    kind: Literal["zero"] = "zero"

    @property
    def largest(self) -> float:
        """The largest magnitude drawn."""
        return 0.0

    def draw(self, rng: np.random.Generator) -> float:
        """Draws a number."""
        return 0.0


class Uniform(StrictModel):
    """Anything from `low` to `high` alike."""

    kind: Literal["uniform"]
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.low > self.high:
            raise ValueError(f"expected low <= high, got {self.low} > {self.high}")
        return self

    @property
    def largest(self) -> float:
        """The largest magnitude drawn."""
        return max(abs(self.low), abs(self.high))

    def draw(self, rng: np.random.Generator) -> float:
        """Draws a number."""
        return float(rng.uniform(self.low, self.high))


class Normal(StrictModel):
    """Normal around 0 with a standard deviation of `scale`; drawn again beyond `clip`."""

    kind: Literal["normal"]
    scale: PositiveFloat
    clip: PositiveFloat

    @property
    def largest(self) -> float:
        """The largest magnitude drawn."""
        return self.clip

    @model_validator(mode="after")
    def _likely(self) -> Normal:
        if self.clip < self.scale:
            raise ValueError(f"expected clip >= scale, got {self.clip} < {self.scale}")
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """Draws a number."""
        while True:
            number = float(rng.normal(scale=self.scale))
            if abs(number) <= self.clip:
                return number


Distribution = Annotated[Zero | Uniform | Normal, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """How the ego of now differs from the recorded one, in the frame of the path it took.

    Attributes:
        lateral_m: To the left.
        longitudinal_m: Ahead.
        yaw_rad: Counter-clockwise, from the heading of the path.
        speed_ratio: Of its progress per time to the recorded one, less 1.
        curvature_1pm: Of its way, beyond that of the path.
    """

    lateral_m: float = 0.0
    longitudinal_m: float = 0.0
    yaw_rad: float = 0.0
    speed_ratio: float = 0.0
    curvature_1pm: float = 0.0


class PerturbationConfig(StrictModel):
    """Distributions of the figures of a `Perturbation`."""

    lateral_m: Distribution = Zero()
    longitudinal_m: Distribution = Zero()
    yaw_rad: Distribution = Zero()
    speed_ratio: Distribution = Zero()
    curvature_1pm: Distribution = Zero()

    @model_validator(mode="after")
    def _moderate(self) -> PerturbationConfig:
        for name, limit in _LARGEST.items():
            largest = getattr(self, name).largest
            if largest > limit:
                raise ValueError(f"{name}: expected at most {limit:.3g} off, got {largest:.3g}")
        return self

    def draw(self, rng: np.random.Generator) -> Perturbation:
        """Draws all figures, independently."""
        return Perturbation(**{name: getattr(self, name).draw(rng) for name in _LARGEST})


Times = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class WayBackConfig(StrictModel):
    """How a vehicle comes back.

    Attributes:
        lead_in_s: The deviation grew for this long.
        return_times_s: In which the way may be back on the path, at the speed of the drive.
        catch_up_times_s: In which it may be back with the drive, or at its speed.
        slow_mps: Speed by which `return_times_s` become distances where the drive is slower.
        lag_cost_1pm2: Of a metre ahead of the drive or behind it, squared, relative to a metre
            beside it.
        jerk_cost_mps3: The jerk that is as bad as a metre beside the path.
        clearance_m: To other road users.
        steering_rad: Largest angle of the front wheels.
        steering_rate_radps: Largest rate of that.
    """

    lead_in_s: PositiveFloat = 3.0
    return_times_s: Times = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0)
    catch_up_times_s: Times = (2.0, 3.5, 5.0)
    slow_mps: PositiveFloat = 3.0
    lag_cost_1pm2: NonNegative = 0.2
    jerk_cost_mps3: PositiveFloat = 2.0
    clearance_m: NonNegative = 0.1
    steering_rad: float = Field(default=0.6, gt=0, lt=math.pi / 2)
    steering_rate_radps: PositiveFloat = 0.6


class RecoveryPreset(StrictModel):
    """One file: what recovery samples are."""

    perturbation: PerturbationConfig
    way_back: WayBackConfig = WayBackConfig()


def load_preset(name: str) -> RecoveryPreset:
    """Reads a preset that comes with the package, or a file.

    Args:
        name: Of the preset, or a path that ends with `.yaml`.

    Raises:
        ConfigError: If there is none, or a field is wrong.
    """
    names = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    if not name.endswith(".yaml") and name not in names:
        raise ConfigError(
            f"recovery.preset: expected {', '.join(names)} or a .yaml file, got '{name}'"
        )
    path = Path(name) if name.endswith(".yaml") else _FOLDER / f"{name}.yaml"
    return read_yaml(path, RecoveryPreset, ConfigError)
