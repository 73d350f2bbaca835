"""Samples as files, for those who want them: WebDataset shards with a manifest.

A shard is a tar of samples; every sample is a group of files that share a key. The bytes of a shard
depend on the logs, the configuration and the number of the shard alone: not on who writes it, nor
on how often the writing was interrupted.

Source of the format: webdataset/webdataset, "The WebDataset Format".
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rap_bringup.console import Report, silent
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.sharding import process
from rap_planner.route import Command
from rap_training.augmentation.mixture import mixture_of, name_of
from rap_training.augmentation.situation import DROPS, SourceKind
from rap_training.config import TrainingConfig
from rap_training.dataset import Drawn, DriveDataset
from rap_training.origin import origin_of
from rap_training.training_logs import open_training_logs
from rap_training.whole_file import remove_partial, whole_file

SCHEMA = "rap.shards/2"
MANIFEST_NAME = "manifest.json"
JPEG_QUALITY = 92

_BATCH = 32  # Samples drawn at once; the bytes do not depend on it.


class ShardError(ValueError):
    """Shards that cannot be written or gone on with; the text names folder and reason."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What decides the bytes of all shards.

    Attributes:
        logs: Folder of logs.
        out: Folder of the shards.
        config: What samples are made of, and the seed.
        samples: How many in all.
        shard_size: How many in a shard; the last one may have fewer.
    """

    logs: Path
    out: Path
    config: TrainingConfig
    samples: int
    shard_size: int

    @property
    def shards(self) -> int:
        """How many shards there will be."""
        return -(-self.samples // self.shard_size)

    def path(self, shard: int) -> Path:
        """Returns the file of a shard."""
        return self.out / f"shard-{shard:06d}.tar"

    def indices(self, shard: int) -> range:
        """Returns the samples of a shard."""
        first = shard * self.shard_size
        return range(first, min(first + self.shard_size, self.samples))


def write_shards(
    plan: ShardPlan,
    *,
    ray_address: str | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Writes all shards that are not there yet, and the manifest.

    Args:
        plan: What to write.
        ray_address: See `sharding.process`.
        report: Called with the share of the missing shards that is done.

    Returns:
        The manifest.

    Raises:
        ShardError: If the folder holds something else than shards of this plan.
        LogError: If the logs are not for training.
    """
    logs = open_training_logs(plan.logs)
    _dataset(plan, logs)  # Fails here, not on a worker, and before a folder is made.
    identity = _identity(plan, logs)
    _begin(plan, identity)
    missing = [shard for shard in range(plan.shards) if not plan.path(shard).exists()]
    process(
        missing,
        partial(_Writer, plan),
        ray_address=ray_address,
        report=report,
    )
    manifest = {**identity, "complete": True, **_contents(plan)}
    _write_json(plan.out / MANIFEST_NAME, manifest)
    return manifest


def _dataset(plan: ShardPlan, logs: list[DriveLog]) -> DriveDataset:
    mixture = mixture_of(logs, plan.config.data.sources, plan.config.model)
    return DriveDataset(mixture, plan.config, plan.samples)


class _Writer:
    """Writes one shard after the other; opened once per process."""

    def __init__(self, plan: ShardPlan) -> None:
        self._dataset = _dataset(plan, open_training_logs(plan.logs))
        self._plan = plan

    def __call__(self, shard: int) -> int:
        with (
            whole_file(self._plan.path(shard)) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for name, data in self._files(self._plan.indices(shard)):
                entry = tarfile.TarInfo(name)  # Time, user and group stay 0.
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return shard

    def _files(self, indices: range) -> Iterator[tuple[str, bytes]]:
        for first in range(indices.start, indices.stop, _BATCH):
            batch = range(first, min(first + _BATCH, indices.stop))
            for index, drawn in zip(batch, self._dataset.drawn(batch), strict=True):
                for suffix, data in sample_files(drawn):
                    yield f"{index:09d}.{suffix}", data


def sample_files(drawn: Drawn) -> Iterator[tuple[str, bytes]]:
    """Yields suffix and bytes of the files of one sample."""
    sample = drawn.sample
    for slot, camera in enumerate(drawn.rig):
        yield f"raster.{camera.name}.png", _encoded(".png", sample.rasters[slot])
        if sample.has_images and sample.images[slot].any():  # Some slots have no camera.
            yield f"image.{camera.name}.jpg", _encoded(".jpg", sample.images[slot])
    yield "history.npy", _npy(sample.history)
    yield "route.npy", _npy(sample.route)
    yield "image_from_ego.npy", _npy(sample.image_from_ego)
    yield "camera_valid.npy", _npy(sample.camera_valid)
    yield "target.npy", _npy(sample.target)
    yield "json", json.dumps(_facts(drawn), sort_keys=True).encode()


def _facts(drawn: Drawn) -> dict[str, Any]:
    """Returns what is known about a sample, as JSON wants it."""
    situation, sample = drawn.situation, drawn.sample
    moment = situation.moment
    return {
        "source": name_of(situation.kind),
        "log": moment.log.name,
        "track": moment.seat,
        "step": moment.step,
        "stamp_ns": int(moment.log.stamps_ns[moment.step]),
        "command": Command(int(sample.command.argmax())).name.lower(),
        "loss_weight": float(sample.loss_weight),
        "details": dict(situation.details),
        "drops": {
            why.name.lower(): int(n) for why, n in zip(DROPS, sample.drops, strict=True) if n
        },
    }


def _encoded(kind: str, rgb: npt.NDArray[np.uint8]) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == ".jpg" else []
    done, data = cv2.imencode(kind, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OSError(f"an image cannot be encoded as {kind}")
    return data.tobytes()


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _identity(plan: ShardPlan, logs: list[DriveLog]) -> dict[str, Any]:
    """Returns what shards must have in common to belong together."""
    return {
        "schema": SCHEMA,
        "seed": plan.config.optimizer.seed,
        "samples": plan.samples,
        "shard_size": plan.shard_size,
        "config": plan.config.model_dump(mode="json"),
        **origin_of(logs, plan.config),
    }


def _begin(plan: ShardPlan, identity: dict[str, Any]) -> None:
    """Makes the folder, or checks that what is there are shards of the same plan."""
    plan.out.mkdir(parents=True, exist_ok=True)
    path = plan.out / MANIFEST_NAME
    remove_partial(path)
    if not path.exists():
        if any(plan.out.iterdir()):
            raise ShardError(f"{plan.out}: is not empty and has no {MANIFEST_NAME}")
        _write_json(path, {**identity, "complete": False})
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ShardError(f"{path}: is not JSON: {error}") from error
    for field, value in identity.items():
        if not isinstance(found, dict) or found.get(field) != value:
            raise ShardError(f"{path}: holds shards of another '{field}'; choose another --out")
    for shard in range(plan.shards):
        remove_partial(plan.path(shard))


def _contents(plan: ShardPlan) -> dict[str, Any]:
    """Returns hashes of the shards, and counts of what is in them by source."""
    files, sources, drops = [], Counter[str](), {name_of(k): Counter[str]() for k in SourceKind}
    for shard in range(plan.shards):
        data, samples = plan.path(shard).read_bytes(), len(plan.indices(shard))
        files.append(
            {
                "file": plan.path(shard).name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "samples": samples,
            }
        )
        for facts in _facts_in(plan.path(shard), data, samples):
            sources[facts["source"]] += 1
            drops[facts["source"]].update(facts["drops"])
    return {
        "shards": files,
        "sources": dict(sorted(sources.items())),
        "drops": {name: dict(sorted(count.items())) for name, count in drops.items() if count},
    }


def _facts_in(path: Path, shard: bytes, samples: int) -> list[dict[str, Any]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(shard), mode="r:") as tar:
            files = [tar.extractfile(entry) for entry in tar if entry.name.endswith(".json")]
            facts = [json.load(file) for file in files if file is not None]
    except (tarfile.TarError, ValueError) as error:
        raise ShardError(f"{path}: is damaged; delete it and run again: {error}") from error
    # A file that ends within a header looks whole to tarfile.
    if len(facts) != samples:
        said = f"{len(facts)} samples, expected {samples}"
        raise ShardError(f"{path}: is damaged; delete it and run again: {said}")
    return facts


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(f"{json.dumps(content, indent=1)}\n".encode())
