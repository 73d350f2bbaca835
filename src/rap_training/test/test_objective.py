"""The loss of a batch of real simulated samples: what it looks at, and that it can be learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rap_training.augmentation.mixture import mixture_of
from rap_training.config import TrainingConfig
from rap_training.dataset import Batch, DriveDataset
from rap_training.normalization import normalize
from rap_training.objective import Losses, Objective

SAMPLES = 8
SIDE = 1  # A camera that does not look ahead.


def config_of(*, rasters: bool = True, share: float = 0.5, **loss: object) -> TrainingConfig:
    return TrainingConfig.model_validate({
        "model": {"backbone": {"widths": [8, 16, 16]}, "feature_channels": 16, "width": 32,
                  "query_width": 16, "proposals": 8, "braking_mps2": [2.0, 6.0]},
        "data": {"image_size": [64, 32], "rasters": rasters, "hidden_camera_share": 0.0,
                 "cameras": {"share": share, "samples": 16},
                 "sources": {"recovery": {"weight": 0.0}}},
        "loss": {"scored_share": 1.0, **loss},
    })  # fmt: skip


def batch_of(log, config: TrainingConfig) -> Batch:
    mixture = mixture_of([log], config.data.sources, config.model)
    return DriveDataset(mixture, config, SAMPLES).training_batch(range(SAMPLES))


def objective_of(config: TrainingConfig) -> Objective:
    torch.manual_seed(0)
    return Objective(config)


@pytest.fixture(scope="module")
def batch(town_log):
    batch = batch_of(town_log, config_of())
    assert 1 < batch.tensors["has_images"].sum() < SAMPLES
    assert all(scene is not None for scene in batch.scenes)
    return batch


@pytest.fixture(scope="module")
def photographed(town_log):
    return batch_of(town_log, config_of(rasters=False, share=1.0))


def changed(batch: Batch, **tensors: torch.Tensor) -> Batch:
    return replace(batch, tensors={**batch.tensors, **tensors})


@torch.no_grad()
def losses_of(objective: Objective, batch: Batch, progress: float = 0.5) -> Losses:
    """In evaluation mode: batch statistics of training mix all that was looked at."""
    return objective.eval()(batch, progress).losses


def seen_by_the_model(objective: Objective, batch: Batch) -> tuple[torch.Tensor, ...]:
    seen = []
    handle = objective.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    losses_of(objective, batch)
    handle.remove()
    (inputs,) = seen
    return inputs


def test_the_model_sees_all_rasters_and_then_the_images_there_are(batch):
    tensors = batch.tensors
    images, valid, projections, history, command, route = seen_by_the_model(
        objective_of(config_of()), batch
    )
    some = torch.nonzero(tensors["has_images"])[:, 0]
    torch.testing.assert_close(images[:SAMPLES], normalize(tensors["rasters"]))
    torch.testing.assert_close(images[SAMPLES:], normalize(tensors["images"][some]))
    rows = torch.cat([torch.arange(SAMPLES), some])
    for given, name in (
        (valid, "camera_valid"), (projections, "image_from_ego"), (history, "history"),
        (command, "command"), (route, "route"),
    ):  # fmt: skip
        torch.testing.assert_close(given, tensors[name][rows])


def test_without_rasters_the_model_sees_images_alone(photographed):
    objective = objective_of(config_of(rasters=False, share=1.0))
    images, *_ = seen_by_the_model(objective, photographed)
    torch.testing.assert_close(images, normalize(photographed.tensors["images"]))
    losses = losses_of(objective, photographed)
    assert losses.spatial == losses.domain == 0.0
    noise = torch.randint_like(photographed.tensors["rasters"], 256)
    assert losses_of(objective, changed(photographed, rasters=noise)) == losses
    assert losses_of(objective, changed(photographed, images=noise)) != losses


def test_what_no_camera_took_is_never_seen_black(photographed):
    tensors = photographed.tensors
    images = tensors["images"].clone()
    images[:, 1] = 0
    for rasters, first in ((True, SAMPLES), (False, 0)):
        objective = objective_of(config_of(rasters=rasters, share=1.0))
        seen, *_ = seen_by_the_model(objective, changed(photographed, images=images))
        torch.testing.assert_close(seen[first:, 1], normalize(tensors["rasters"])[:, 1])
        torch.testing.assert_close(seen[first:, 0], normalize(images)[:, 0])


def test_without_images_there_is_nothing_to_align(batch):
    objective = objective_of(config_of())
    none = changed(batch, has_images=torch.zeros(SAMPLES))
    losses = losses_of(objective, none)
    assert losses.spatial == losses.domain == 0.0
    assert losses.imitation > 0.0
    both = losses_of(objective, batch)
    assert both.spatial > 0.0
    assert both.domain > 0.0


def test_images_are_aligned_with_the_rasters_of_their_own_sample(batch):
    objective = objective_of(config_of())
    same = changed(batch, images=batch.tensors["rasters"])
    assert losses_of(objective, same).spatial == pytest.approx(0.0, abs=1e-6)
    others = changed(batch, images=batch.tensors["rasters"].roll(1, dims=0))
    assert losses_of(objective, others).spatial > 1e-3


def test_every_loss_is_finite_and_reaches_what_it_trains(batch):
    objective = objective_of(config_of())
    losses = objective.train()(batch, 0.5).losses
    assert all(torch.isfinite(term) and term > 0.0 for term in losses)
    torch.testing.assert_close(losses.total, sum(losses))
    losses.total.backward()
    for name, weights in objective.named_parameters():
        assert weights.grad is not None, name
        assert torch.isfinite(weights.grad).all(), name


@pytest.mark.parametrize("training", ["rasters and images", "images alone"])
def test_scores_are_learned_on_real_samples(batch, photographed, training):
    alone = training == "images alone"
    config = config_of(rasters=not alone, share=1.0 if alone else 0.5)
    objective = objective_of(config).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    seen = []
    for step in range(12):
        losses = objective(photographed if alone else batch, step / 12).losses
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        seen.append((losses.scores.item(), losses.auxiliary.item(), losses.total.item()))
    assert np.isfinite(seen).all()
    first, last = np.mean(seen[:2], axis=0), np.mean(seen[-2:], axis=0)
    assert (last < [0.85, 0.85, 0.9] * first).all()


def test_a_hidden_camera_changes_nothing_whatever_it_shows(batch):
    objective = objective_of(config_of())
    valid = torch.ones_like(batch.tensors["camera_valid"])
    valid[:, SIDE] = 0.0
    pictures = {name: batch.tensors[name].clone() for name in ("rasters", "images")}
    for shown in pictures.values():
        shown[:, SIDE] = torch.randint_like(shown[:, SIDE], 256)
    hidden = losses_of(objective, changed(batch, camera_valid=valid))
    other = losses_of(objective, changed(batch, camera_valid=valid, **pictures))
    torch.testing.assert_close(other, hidden)
    seen = losses_of(objective, changed(batch, **pictures))  # Where it is seen, it does.
    for term in ("spatial", "imitation", "scores"):
        assert getattr(seen, term) != getattr(hidden, term)


def test_hidden_front_images_are_neither_aligned_nor_told_apart(batch):
    objective = objective_of(config_of())
    valid = torch.ones_like(batch.tensors["camera_valid"])
    valid[:, 0] = 0.0
    pictures = {name: batch.tensors[name].clone() for name in ("rasters", "images")}
    for shown in pictures.values():
        shown[:, 0] = torch.randint_like(shown[:, 0], 256)
    hidden = losses_of(objective, changed(batch, camera_valid=valid))
    torch.testing.assert_close(
        losses_of(objective, changed(batch, camera_valid=valid, **pictures)), hidden
    )
    assert hidden.domain == 0.0
    assert torch.isfinite(torch.stack(tuple(hidden))).all()


def test_a_sample_without_a_scene_teaches_no_scores(batch):
    objective = objective_of(config_of())
    some = replace(batch, scenes=(batch.scenes[0], None, *[None] * (SAMPLES - 2)))
    alone = replace(batch, scenes=batch.scenes[:1])  # Scenes of the first samples only.
    torch.testing.assert_close(losses_of(objective, some), losses_of(objective, alone))
    nobody = losses_of(objective, replace(batch, scenes=(None,) * SAMPLES))
    assert nobody.scores == nobody.auxiliary == 0.0
    assert nobody.imitation == losses_of(objective, some).imitation


def test_proposals_are_scored_in_the_scene_of_their_own_sample(batch):
    objective = objective_of(config_of())
    last = SAMPLES - 1
    assert batch.tensors["has_images"][last]  # So that its raster and its images are scored.
    tensors = {name: value[last:] for name, value in batch.tensors.items()}
    alone = losses_of(objective, Batch(tensors, batch.scenes[last:]))
    among = replace(batch, scenes=(*[None] * last, batch.scenes[last]))
    torch.testing.assert_close(losses_of(objective, among).scores, alone.scores)
    torch.testing.assert_close(losses_of(objective, among).auxiliary, alone.auxiliary)
    other = replace(among, scenes=(*[None] * last, batch.scenes[0]))
    assert losses_of(objective, other).scores != alone.scores


def test_weights_of_the_terms_are_those_of_the_configuration(batch):
    plain = losses_of(objective_of(config_of(alignment={"spatial": 1.0})), batch)
    weighted = losses_of(
        objective_of(config_of(
            likeness=3.0, scores=0.5, area=0.0, agents=0.0, alignment={"spatial": 2.0, "domain": 0}
        )), batch,
    )  # fmt: skip
    torch.testing.assert_close(weighted.likeness, 3.0 * plain.likeness)
    torch.testing.assert_close(weighted.scores, 0.5 * plain.scores)
    torch.testing.assert_close(weighted.spatial, 2.0 * plain.spatial)
    assert weighted.auxiliary == weighted.domain == 0.0
    scale = {"spatial": 1.0, "spatial_scale": "absolute"}
    absolute = losses_of(objective_of(config_of(alignment=scale)), batch)
    assert not torch.isclose(absolute.spatial, plain.spatial, rtol=0.01)


def test_the_domain_term_moves_the_encoder_against_the_classifier(batch):
    # At the start of a training the reversal is off: the term teaches the classifier alone.
    objective = objective_of(config_of()).eval()
    moved = []
    for progress in (0.0, 1.0):
        objective.zero_grad()
        objective(batch, progress).losses.domain.backward()
        encoder = objective.model.encoder.neck[0].weight.grad
        moved.append(0.0 if encoder is None else float(encoder.abs().max()))
        assert objective.classifier.layers[0].weight.grad.abs().max() > 0.0
    assert moved[0] == 0.0
    assert moved[1] > 0.0
