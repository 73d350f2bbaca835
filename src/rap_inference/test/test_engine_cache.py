"""Engines are found again only where they fit, and a full disk costs time, not the drive."""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import replace

import pytest

from rap_inference import tensorrt_network
from rap_inference.engine_cache import EngineKey, default_cache_dir, find_engine, store_engine
from rap_inference.tensorrt_network import provided_engine

KEY = EngineKey("encoder", "ab" * 32, "tensorrt", "10.9.0", "NVIDIA X (8.6)", "tf32", 6)
PLAN = b"engine\nwith lines\x00" * 100
OTHERS = [
    {"model_sha256": "cd" * 32},
    {"library": "tensorrt-rtx"},
    {"library_version": "10.9.1"},
    {"gpu": "NVIDIA Y (8.6)"},
    {"precision": "fp32"},
    {"batch": 2},
]


def test_an_engine_comes_back_byte_for_byte(tmp_path):
    assert find_engine(tmp_path, KEY) is None
    store_engine(tmp_path / "new" / "folder", KEY, PLAN)
    assert find_engine(tmp_path / "new" / "folder", KEY) == PLAN


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_an_engine_for_anything_else_is_not_taken(tmp_path, other):
    path = store_engine(tmp_path, KEY, PLAN)
    path.rename(tmp_path / replace(KEY, **other).file_name)  # even under the right name
    assert find_engine(tmp_path, replace(KEY, **other)) is None


@pytest.mark.parametrize("size", [0, 10, 400, -1])
def test_a_damaged_engine_is_not_taken(tmp_path, size):
    path = store_engine(tmp_path, KEY, PLAN)
    path.write_bytes(path.read_bytes()[:size])
    assert find_engine(tmp_path, KEY) is None


def test_a_new_library_version_takes_the_place_of_the_old_one(tmp_path):
    store_engine(tmp_path, KEY, b"old")
    store_engine(tmp_path, replace(KEY, library_version="11.0.0"), b"new")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_person_can_read_what_an_engine_is_for(tmp_path):
    head = json.loads(store_engine(tmp_path, KEY, PLAN).read_bytes().partition(b"\n")[0])
    assert (head["gpu"], head["precision"], head["batch"]) == ("NVIDIA X (8.6)", "tf32", 6)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_who_may_read_an_engine_is_what_the_umask_says(tmp_path, mask, mode):
    """Root may build what the robot's user is to load."""
    before = os.umask(mask)
    try:
        path = store_engine(tmp_path, KEY, PLAN)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_an_engine_that_cannot_be_read_is_built_anew_with_the_reason(tmp_path, monkeypatch):
    """A link to itself stands for a file without read permission, which root could read."""
    monkeypatch.setattr(tensorrt_network, "build_engine", lambda *_, **__: PLAN)
    (tmp_path / KEY.file_name).symlink_to(KEY.file_name)
    warnings = []
    for _ in range(2):
        provided = provided_engine(
            tmp_path / "encoder.onnx", KEY, "tensorrt", tmp_path, warnings.append
        )
        assert provided == PLAN
    (text,) = warnings  # the second came from the cache
    assert "engine of encoder.onnx is built anew, that in the cache cannot be read" in text
    assert "symbolic links" in text


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_leaves_the_old_engine_and_no_piece_of_the_new(tmp_path, monkeypatch):
    path = store_engine(tmp_path, KEY, PLAN)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store_engine(tmp_path, KEY, b"other")
    assert list(tmp_path.iterdir()) == [path]
    assert find_engine(tmp_path, KEY) == PLAN


def test_a_folder_that_cannot_be_written_costs_a_warning_with_the_reason(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(tensorrt_network, "build_engine", lambda *_, **__: built.append(1) or PLAN)
    (tmp_path / "file").write_text("in the way")
    warnings = []
    network = tmp_path / "encoder.onnx"
    for folder in (tmp_path / "file", tmp_path / "good", tmp_path / "good"):
        assert provided_engine(network, KEY, "tensorrt", folder, warnings.append) == PLAN
    assert len(built) == 2  # the third came from the cache
    assert len(warnings) == 1
    assert "engine of encoder.onnx is not kept" in warnings[0]
    assert "File exists" in warnings[0]


def test_the_cache_lies_where_the_desktop_standard_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(default_cache_dir()) == "/somewhere/rap/engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert str(default_cache_dir()) == "/home/x/.cache/rap/engines"
