"""The teacher of the scorer must give the official scores, sample by sample."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from rap_evaluation.metrics.teacher import proposal_scores
from rap_evaluation.pdm_cases.arrays import parse_case

with gzip.open(Path(__file__).parent / "cases" / "pdm.json.gz") as _file:
    CASES = [case for case in json.load(_file)["cases"] if len(case["input"]["candidates"]) == 10]


def batch():
    """Every case whose candidates have equal shapes, as one batch."""
    inputs = [case["input"] for case in CASES]
    names = [
        [n for n, plan in content["candidates"].items() if plan["dt"] == 0.5] for content in inputs
    ]
    count = min(map(len, names))
    names = [row[:count] for row in names]
    proposals = np.array([
        [content["candidates"][name]["poses"] for name in row]
        for content, row in zip(inputs, names, strict=True)
    ])  # fmt: skip
    cases = [parse_case(content, "v1") for content in inputs]
    return (
        names,
        [c.scene for c in cases],
        proposals,
        np.array([c.reference_poses_m for c in cases]),
    )


def test_a_batch_gives_the_official_scores_of_every_sample():
    names, scenes, proposals, references = batch()
    scores = proposal_scores(scenes, proposals, 0.5, references)
    assert len(scenes) > 5
    for b, case in enumerate(CASES):
        for c, name in enumerate(names[b]):
            for key, value in case["expected"]["v1"][name].items():
                assert scores[key][b, c] == pytest.approx(value, abs=1e-6), (
                    case["name"],
                    name,
                    key,
                )


def test_without_a_reference_the_best_proposal_has_all_the_progress():
    _, scenes, proposals, _ = batch()
    scores = proposal_scores(scenes, proposals, 0.5)
    hopeless = (
        scores["score"].max(axis=1) == 0.0
    )  # Whatever is proposed crashes or leaves the road.
    best = scores["ego_progress"].max(axis=1)
    assert best == pytest.approx(np.where(hopeless, 0.0, 1.0))
    assert 0 < hopeless.sum() < len(scenes)
