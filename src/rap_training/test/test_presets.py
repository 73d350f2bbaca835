from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rap_training.config import PRESETS, ConfigError, TrainingConfig, load_config
from rap_training.export import head_inputs
from rap_training.model.rap_model import RapModel
from rap_training.model.scores import SCORE_NAMES
from rap_training.rig import nominal_rig


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_presets_are_valid_and_named_after_themselves(name):
    assert load_config(Path(name)).name == name


def test_tiny_is_what_a_training_without_a_file_uses():
    assert load_config(Path("tiny")) == TrainingConfig()


def test_without_augmentation_nothing_else_differs_from_the_default():
    """Or figures of both would not compare."""
    default, unaugmented = (
        load_config(Path(name)).model_dump() for name in ("default", "unaugmented")
    )
    sources = unaugmented["data"].pop("sources")
    assert {name for name, source in sources.items() if source["weight"]} == {"ego"}
    del default["data"]["sources"], default["name"], unaugmented["name"]
    assert unaugmented == default


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", "small", "resnet34"])
def test_presets_plan(name):
    config = load_config(Path(name))
    model = RapModel(config.model).eval()
    rig = nominal_rig(config.data.image_size)
    inputs = head_inputs(model, rig)
    images = torch.zeros(1, len(rig), 3, rig[0].height, rig[0].width)
    plan = model(images, *list(inputs.values())[1:])
    assert plan.features.shape == inputs["features"].shape
    assert plan.proposals[-1].shape == (1, 64, 10, 3)
    assert plan.scores.shape == (1, 64, len(SCORE_NAMES))
    assert torch.isfinite(plan.proposals[-1]).all()


def test_a_file_that_is_no_preset_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nosuch"):
        load_config(tmp_path / "nosuch.yaml")
