"""`rap build-engine` with a real library: TensorRT-RTX builds without a GPU."""

from __future__ import annotations

import hashlib
import json

import pytest
from typer.testing import CliRunner

from rap_bringup.cli import app

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is missing: make setup installs it")


def build(bundle, folder):
    words = ["build-engine", "--backend", "tensorrt-rtx", "--bundle", bundle, "--cache-dir", folder]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_engines_are_built_once_and_again_when_they_are_damaged(tiny_bundle, tmp_path):
    folder = tmp_path / "engines"
    result = build(tiny_bundle, folder)
    assert result.exit_code == 0, result.output
    files = sorted(folder.iterdir())
    assert [file.name.partition("-")[0] for file in files] == ["encoder", "planner"]
    heads = [json.loads(file.read_bytes().partition(b"\n")[0]) for file in files]
    assert [(head["batch"], head["gpu"]) for head in heads] == [(6, "any"), (1, "any")]
    inodes = [file.stat().st_ino for file in files]
    assert build(tiny_bundle, folder).exit_code == 0
    assert [file.stat().st_ino for file in files] == inodes
    files[0].write_bytes(files[0].read_bytes()[:-1])
    assert build(tiny_bundle, folder).exit_code == 0
    head, _, engine = files[0].read_bytes().partition(b"\n")
    assert json.loads(head)["engine_sha256"] == hashlib.sha256(engine).hexdigest()
    assert files[1].stat().st_ino == inodes[1]


def test_engines_that_cannot_be_kept_are_an_error_of_provisioning(tiny_bundle, tmp_path):
    (tmp_path / "engines").write_text("in the way")
    result = build(tiny_bundle, tmp_path / "engines")
    assert result.exit_code == 1
    assert "engine of encoder.onnx is not kept" in result.stderr
    assert "File exists" in result.stderr
