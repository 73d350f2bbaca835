"""Which trainings an experiment compares: one YAML file each, on top of what all have in common.

An arm is a training configuration and how its model is evaluated. Arms that are the same in two
experiments are trained once: an arm is known by the hash of all that decides its figures.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, RootModel, model_validator

from rap_evaluation.pseudo_sim.protocol import StartChoice
from rap_inference.yaml_files import read_yaml, validated
from rap_training.config import StrictModel, TrainingConfig
from rap_training.experiments.figures import FigureName
from rap_training.experiments.result import PROTOCOL

PRESETS = Path(__file__).parents[1] / "presets" / "experiments"
"""Folder of the experiments: `base.yaml` for what they have in common, and a file each."""

BASE_NAME = "base.yaml"

_KEY_DIGITS = 12


class PlanError(ValueError):
    """An experiment that cannot be run as asked for; the text says why and what there is."""


class Evaluation(StrictModel):
    """How a trained model is measured.

    Attributes:
        sensor: What it sees with.
        scenes: Of the pseudo-simulation.
        starts: Of its second stage; see `rap_evaluation.pseudo_sim.protocol.StartChoice`.
        off_path_every: See `rap_evaluation.pseudo_sim.evaluation.PseudoSimOptions`.
        moments: Of the open-loop errors.
        routes: Of the closed loop, on each validation town.
        replan_hz: Plans a second in the closed loop.
        seed: Of the draws of scenes, moments, routes and traffic.
    """

    sensor: Literal["raster", "camera"] = "raster"
    scenes: PositiveInt = 200
    starts: StartChoice = "near"
    off_path_every: PositiveInt = 4
    moments: PositiveInt = 500
    routes: PositiveInt = 5
    replan_hz: PositiveInt = 2
    seed: NonNegativeInt = 0


class Recipe(StrictModel):
    """All that decides the figures of an arm, given the logs; its seed apart.

    Attributes:
        training: The training.
        evaluation: How its model is measured.
        egos_per_log: How many vehicles of a training log count as recording vehicles, at most.
            The others are other agents.
    """

    training: TrainingConfig
    evaluation: Evaluation
    egos_per_log: PositiveInt

    @property
    def key(self) -> str:
        """The start of the SHA-256 of protocol and recipe as canonical JSON, without the seed."""
        content = {"protocol": PROTOCOL, **self.model_dump(mode="json")}
        del content["training"]["optimizer"]["seed"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


class Arm(StrictModel):
    """One side of a comparison.

    Attributes:
        training: Changes to the training of `base.yaml` in the file, the whole training here.
        closed_loop: Whether its models drive in the closed loop as well.
        seeds: Trainings of it, if not as many as of the others.
    """

    training: TrainingConfig
    closed_loop: bool = False
    seeds: PositiveInt | None = None


class Claim(StrictModel):
    """What is expected: one arm better than another by some figures."""

    better: str
    than: str
    by: Annotated[tuple[FigureName, ...], Field(min_length=1)]


class Experiment(StrictModel):
    """Arms that differ in one thing.

    Attributes:
        title: For people.
        question: What is compared, and how it differs from the published experiment.
        seeds: Trainings of each arm, unless it says another number.
        egos_per_log: See `Recipe`.
        evaluation: Of all arms.
        arms: By name, in the order of tables.
        claims: What is expected.
        remarks: What else is known of the outcome, and what was tried to find out why.
    """

    title: str
    question: str
    seeds: PositiveInt
    egos_per_log: PositiveInt
    evaluation: Evaluation = Evaluation()
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    claims: tuple[Claim, ...]
    remarks: str = ""

    @model_validator(mode="before")
    @classmethod
    def _complete_arms(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Lays the changes of each arm over the common training."""
        common = {"training": content.get("training", {})}
        rest = {name: value for name, value in content.items() if name != "training"}
        arms = content.get("arms")
        if isinstance(arms, dict):
            rest["arms"] = {
                name: _merged(common, arm) if isinstance(arm, dict) else arm
                for name, arm in arms.items()
            }
        return rest

    @model_validator(mode="after")
    def _claims_are_of_arms(self) -> Experiment:
        for claim in self.claims:
            for name in (claim.better, claim.than):
                if name not in self.arms:
                    raise ValueError(f"claims: {_one_of('arm', self.arms, name)}")
        return self

    def seeds_of(self, arm: str) -> int:
        """Returns how many trainings an arm is to have."""
        return self.arms[arm].seeds or self.seeds

    def recipe(self, arm: str) -> Recipe:
        """Returns the recipe of an arm."""
        return Recipe(
            training=self.arms[arm].training,
            evaluation=self.evaluation,
            egos_per_log=self.egos_per_log,
        )


Catalog = dict[str, Experiment]
"""Experiments by name."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training and its evaluation.

    Attributes:
        recipe: What is done, with this run's seed.
        arms: `EXPERIMENT/ARM` of all arms that it belongs to.
        closed_loop: Whether one of them wants the closed loop.
    """

    recipe: Recipe
    arms: tuple[str, ...]
    closed_loop: bool

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.recipe.training.optimizer.seed

    @property
    def name(self) -> str:
        """Of its files: `KEY-seedN`."""
        return f"{self.recipe.key}-seed{self.seed}"


def load_catalog(folder: Path = PRESETS) -> Catalog:
    """Reads all experiments of a folder.

    Raises:
        PlanError: If a file cannot be read or a field is wrong.
    """
    base = _content(folder / BASE_NAME)
    files = sorted(path for path in folder.glob("*.yaml") if path.name != BASE_NAME)
    return {
        path.stem: validated(path, _merged(base, _content(path)), Experiment, PlanError)
        for path in files
    }


def runs_of(
    catalog: Catalog,
    name: str,
    seeds: int | None = None,
    only: str | None = None,
    only_seed: int | None = None,
) -> list[Run]:
    """Returns the runs of an experiment: every arm with the first seed, then with the next.

    Args:
        catalog: All experiments, since arms are shared.
        name: Of the experiment.
        seeds: How many of each arm, from 1 on; by default what the experiment says.
        only: The one arm to run.
        only_seed: The one seed to run.

    Raises:
        PlanError: If there is no such experiment or arm.
    """
    if name not in catalog:
        raise PlanError(_one_of("experiment", catalog, name))
    experiment = catalog[name]
    if only is not None and only not in experiment.arms:
        raise PlanError(_one_of(f"{name}: arm", experiment.arms, only))
    sharing = _sharing(catalog)
    names = [only] if only is not None else experiment.arms
    arms = {experiment.recipe(name).key: name for name in names}
    counts = {key: seeds or experiment.seeds_of(arm) for key, arm in arms.items()}
    numbers = range(1, max(counts.values()) + 1) if only_seed is None else [only_seed]
    return [
        Run(
            recipe=_with_seed(experiment.recipe(arms[key]), seed),
            arms=tuple(f"{shared}/{arm}" for shared, arm in sharing[key]),
            closed_loop=any(catalog[shared].arms[arm].closed_loop for shared, arm in sharing[key]),
        )
        for seed in numbers
        for key, count in counts.items()
        if seed <= count or only_seed is not None
    ]


def _sharing(catalog: Catalog) -> dict[str, list[tuple[str, str]]]:
    """Returns experiment and arm of all arms of each key."""
    found = defaultdict(list)
    for name, experiment in catalog.items():
        for arm in experiment.arms:
            found[experiment.recipe(arm).key].append((name, arm))
    return found


def _with_seed(recipe: Recipe, seed: int) -> Recipe:
    optimizer = recipe.training.optimizer.model_copy(update={"seed": seed})
    training = recipe.training.model_copy(update={"optimizer": optimizer})
    return recipe.model_copy(update={"training": training})


class _Content(RootModel[dict[str, Any]]):
    """A YAML mapping that is not validated yet."""


def _content(path: Path) -> dict[str, Any]:
    return read_yaml(path, _Content, PlanError).root


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a nested mapping with changes laid over it; what is no mapping is replaced."""
    merged = {**base, **changes}
    for name, value in changes.items():
        below = base.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(below, value)
    return merged


def _one_of(what: str, known: Mapping[str, Any], got: str) -> str:
    return f"{what}: expected one of {', '.join(known)}, got '{got}'"
