"""The command `rap-raster`, against the contract in the design document."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rap_raster import cli

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "scene.json"

TYPES = {
    "rgb": (np.uint8, (64, 128, 3)),
    "class": (np.uint8, (64, 128)),
    "instance": (np.int32, (64, 128)),
    "depth": (np.float32, (64, 128)),
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process; returns exit code, stdout and stderr."""

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["rap-raster", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_render_writes_one_png_and_one_archive_per_camera(run, tmp_path):
    code, _, err = run("render", EXAMPLE, "--out", tmp_path / "new" / "out", "--size", "128x64")
    assert (code, err) == (0, "")
    names = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert names == [
        f"{n}.{e}" for n in ("front", "front_left", "front_right") for e in ("npz", "png")
    ]
    image = cv2.imread(str(tmp_path / "new" / "out" / "front.png"))
    with np.load(tmp_path / "new" / "out" / "front.npz") as archive:
        assert {name: (a.dtype, a.shape) for name, a in archive.items()} == TYPES
        np.testing.assert_array_equal(image[..., ::-1], archive["rgb"])
        assert archive["rgb"].any()


@pytest.mark.parametrize("channels", ["rgb,class,instance,depth", "depth", "class,instance"])
@pytest.mark.parametrize("style", ["rap", "semantic"])
def test_the_archive_holds_exactly_the_channels_asked_for(run, tmp_path, channels, style):
    options = ["--size", "128x64", "--channels", channels, "--style", style]
    assert run("render", EXAMPLE, "--out", tmp_path, *options)[0] == 0
    with np.load(tmp_path / "front.npz") as archive:
        assert sorted(archive) == sorted(channels.split(","))
        for name in archive:
            assert (archive[name].dtype, archive[name].shape) == TYPES[name]
    assert (tmp_path / "front.png").exists() == ("rgb" in channels)


def test_bench_prints_one_json_object_and_counts_every_camera_image(run):
    code, out, err = run("bench", EXAMPLE, "--size", "64x32", "--channels", "rgb", "--repeat", 4)
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result) == {"ms_per_frame", "p95_ms", "build_ms", "frames"}
    assert result["frames"] == 12
    assert 0 < result["ms_per_frame"] <= result["p95_ms"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["render", "nothing.json", "--out", "x"], "nothing.json: cannot be read"),
        (["render", EXAMPLE, "--out", "x", "--style", "nice"], "style: unknown name 'nice'"),
        (["render", EXAMPLE, "--out", "x", "--channels", "rgb,normal"], "unknown 'normal'"),
        (["render", EXAMPLE, "--out", "x", "--channels", ""], "--channels: unknown ''"),
        (["render", EXAMPLE, "--out", "x", "--size", "128"], "--size: must be WIDTHxHEIGHT"),
        (["render", EXAMPLE, "--out", "x", "--size", "0x64"], "sides in 1..8192, got '0x64'"),
        (["render", EXAMPLE, "--out", "x", "--size", "-5x64"], "got '-5x64'"),
        (["render", EXAMPLE, "--out", "x", "--backend", "gl"], "--backend: unknown 'gl'"),
        (["render", EXAMPLE, "--out", EXAMPLE], "scene.json: File exists"),
        (["render", EXAMPLE], "Missing option '--out'"),
        (["render"], "Missing argument"),
        (["bench", EXAMPLE, "--repeat", "0"], "--repeat: must be >= 1, got 0"),
        (["bench", EXAMPLE, "--repeat", "many"], "'--repeat'"),
        (["draw"], "No such command 'draw'"),
        ([], "Missing command"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_a_failure(
    run, monkeypatch, tmp_path, arguments, reason
):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert code != 0
    assert out == ""
    assert err.startswith("rap-raster: ")
    assert len(err.splitlines()) == 1
    assert reason in err
    assert not (tmp_path / "x").exists()


def test_a_backend_whose_library_is_missing_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "rap_raster.warp_backend", raising=False)
    monkeypatch.setitem(sys.modules, "warp", None)  # what makes `import warp` fail
    code, out, err = run("render", EXAMPLE, "--out", tmp_path / "x", "--backend", "warp")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("rap-raster: --backend: the warp backend needs Warp")
    assert "pip install warp-lang" in err
    assert not (tmp_path / "x").exists()


def test_supersampling_blends_the_colours_of_edges_and_leaves_the_other_channels(run, tmp_path):
    for name, options in {"plain": [], "smooth": ["--supersample"]}.items():
        assert run("render", EXAMPLE, "--out", tmp_path / name, "--size", "96x64", *options)[0] == 0
    plain, smooth = (np.load(tmp_path / name / "front.npz") for name in ("plain", "smooth"))
    assert len(np.unique(smooth["rgb"].reshape(-1, 3), axis=0)) > 1.5 * len(
        np.unique(plain["rgb"].reshape(-1, 3), axis=0)
    )
    np.testing.assert_array_equal(plain["instance"], smooth["instance"])


def test_a_malformed_scene_writes_nothing(run, tmp_path):
    content = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    content["boxes"][3]["size"][1] = -2.0
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(content), encoding="utf-8")
    code, out, err = run("render", broken, "--out", tmp_path / "x")
    assert (code, out) == (1, "")
    assert err == f"rap-raster: {broken}: boxes[3].size[1]: must be > 0, got -2.0\n"
    assert not (tmp_path / "x").exists()


def test_a_refused_scene_has_its_error_as_the_only_line_even_after_a_skipped_shape(run, tmp_path):
    content = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    content["polylines"][0]["points"] = content["polylines"][0]["points"][:1]
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    code, out, err = run("render", path, "--out", tmp_path / "x", "--size", "16x8")
    assert (code, out, len(err.splitlines())) == (0, "", 1)
    assert err.startswith("warning: polylines[0]: skipped")
    content["cameras"][1]["height"] = 0
    path.write_text(json.dumps(content), encoding="utf-8")
    code, out, err = run("render", path, "--out", tmp_path / "x")
    assert (code, out) == (1, "")
    assert err == f"rap-raster: {path}: cameras[1].height: must be > 0, got 0.0\n"


@pytest.mark.parametrize("command", ["render", "bench"])
def test_help_shows_examples(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"rap-raster {command} docs/examples/scene.json" in out
