"""Damaged cases are scored or refused in one line; `make fuzz` runs many more of them."""

from __future__ import annotations

import copy
import gzip
import json
import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_evaluation.metrics.bench2drive import parse_bench2drive, score_bench2drive
from rap_evaluation.metrics.case_file import score_cases
from rap_evaluation.metrics.frame_cases import (
    parse_extended_comfort,
    parse_stage,
    score_extended_comfort,
    score_stage,
)
from rap_evaluation.metrics.pdm import score_v1, score_v2
from rap_evaluation.metrics.rater_feedback import parse_rater_feedback, score_rater_feedback
from rap_evaluation.pdm_cases.arrays import parse_case

pytestmark = pytest.mark.fuzz

CASES = Path(__file__).parent / "cases"
METRICS = {
    "pdm": (partial(parse_case, version="v2"), score_v2),
    "pdm without a reference": (
        lambda content: parse_case({**content, "reference": {}}, "v1"),
        score_v1,
    ),
    "two_stage": (parse_stage, score_stage),
    "extended_comfort": (parse_extended_comfort, score_extended_comfort),
    "rfs": (parse_rater_feedback, score_rater_feedback),
    "bench2drive": (parse_bench2drive, score_bench2drive),
}
odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]),
    st.just({}), st.lists(st.floats(), max_size=4), st.just(10**400), st.floats(-1e12, 1e12),
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs():
    """Inputs by metric, without the largest ones, which take long to copy."""
    return {name: [case for case in _inputs(name) if len(str(case)) < 80_000] for name in METRICS}


def _inputs(name):
    path = CASES / f"{name.split()[0]}.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    return [case["input"] for case in content["cases"]]


def damage(draw, node):
    """Replaces one value somewhere in a JSON document."""
    keys = st.sampled_from(list(node) if isinstance(node, dict) else range(len(node)))
    key = draw(keys)
    if isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 4)):
        damage(draw, node[key])
    else:
        node[key] = draw(odd_values)


@pytest.mark.parametrize("name", METRICS)
@settings(
    # The number is for about 20 targets together; see test/fuzzing.py.
    max_examples=int(os.environ.get("RAP_FUZZ_EXAMPLES", "2000")) // 20,
    deadline=None,
    derandomize=True,
)
@given(data=st.data())
def test_a_damaged_case_has_a_result_or_one_line(inputs, name, data):
    content = copy.deepcopy(data.draw(st.sampled_from(inputs[name])))
    damage(data.draw, content)
    results = score_cases({"damaged": content}, *METRICS[name])
    json.dumps(results.cases, allow_nan=False)
    for reason in results.errors.values():
        assert reason
        assert "\n" not in reason
