from __future__ import annotations

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rap_training.augmentation.recovery.preset import Normal, Uniform, load_preset
from rap_training.config import ConfigError

DRAWS = 4000


def draws(preset: str, name: str) -> np.ndarray:
    rng, perturbation = np.random.default_rng(0), load_preset(preset).perturbation
    return np.array([getattr(perturbation.draw(rng), name) for _ in range(DRAWS)])


@pytest.mark.parametrize(
    ("name", "half"),
    # Source: RAP release, `pert.py`.
    [("lateral_m", 0.5), ("longitudinal_m", 0.5), ("yaw_rad", np.radians(15.0)),
     ("speed_ratio", 0.2)],
)  # fmt: skip
def test_the_published_magnitudes(name, half):
    drawn = draws("published", name)
    assert np.abs(drawn).max() <= half + 1e-9
    assert np.abs(drawn).max() == pytest.approx(half, rel=0.01)
    assert drawn.std() == pytest.approx(half / np.sqrt(3.0), rel=0.05)


def test_the_published_preset_does_not_steer():
    assert not draws("published", "curvature_1pm").any()


@given(scale=st.floats(1e-3, 1.0), ratio=st.floats(1.0, 4.0), seed=st.integers(0, 2**31))
def test_clipped_draws_stay_within(scale, ratio, seed):
    clip = max(scale, scale * ratio)
    distribution = Normal(kind="normal", scale=scale, clip=clip)
    rng = np.random.default_rng(seed)
    assert all(abs(distribution.draw(rng)) <= clip for _ in range(20))


def test_a_point_is_a_distribution():
    assert Uniform(kind="uniform", low=0.3, high=0.3).draw(np.random.default_rng(0)) == 0.3


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({}, "perturbation"),
        ({"perturbation": {"sideways": {"kind": "zero"}}}, "perturbation.sideways"),
        ({"perturbation": {"yaw_rad": {"kind": "gaussian"}}}, "perturbation.yaw_rad"),
        ({"perturbation": {"yaw_rad": {"kind": "uniform", "low": 1, "high": 0}}}, "low <= high"),
        ({"perturbation": {"yaw_rad": {"kind": "normal", "scale": 2, "clip": 1}}}, "clip >= scale"),
        ({"perturbation": {"lateral_m": {"kind": "uniform", "low": -9, "high": 9}}}, "lateral_m"),
        ({"perturbation": {}, "way_back": {"steering_rad": 2.0}}, "way_back.steering_rad"),
        ({"perturbation": {}, "way_back": {"return_times_s": []}}, "way_back.return_times_s"),
    ],
)
def test_wrong_files_name_file_and_field(tmp_path, content, field):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        load_preset(str(file))
    assert str(file) in str(error.value)
    assert field in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_presets_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"expected default, published or a \.yaml file, got 'x'"):
        load_preset("x")
