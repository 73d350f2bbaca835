"""The set-up does nothing twice, and says in one line what stops it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What requirements/torch.txt, offline.txt and py123d.txt bring, by import name.
OFFLINE_MODULES = (
    "torch", "onnx", "onnxscript", "safetensors", "libsumo", "sumo", "py123d", "ray",
)  # fmt: skip


@pytest.fixture
def setup_module(tmp_path, monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("workspace_setup", ROOT / "tools" / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(module, "STAMPS", tmp_path / "stamps")
    return module


def test_step_runs_once_and_again_when_its_input_changes(setup_module, tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("one")
    runs = []
    step = setup_module.Step("step", "a step", (source,), lambda: runs.append(source.read_text()))
    for text in ("one", "one", "two", "two"):
        source.write_text(text)
        setup_module._run([step])
    assert runs == ["one", "two"]


def test_failed_step_prints_its_output_and_is_taken_up_again(setup_module, tmp_path):
    command = (sys.executable, "-c", "print('the cause'); raise SystemExit(3)")
    failing = setup_module.Step("s", "s", (), lambda: setup_module._call("s", *command))
    working = setup_module.Step("s", "s", (), lambda: None)
    with pytest.raises(setup_module.SetupError, match=r"exit code 3(.|\n)*the cause"):
        setup_module._run([failing])
    assert not (tmp_path / "stamps" / "s").exists()
    setup_module._run([working])
    assert (tmp_path / "stamps" / "s").exists()


def run_setup(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / "tools", folder / "tools")
    return subprocess.run(
        ["/bin/sh", folder / "tools" / "setup.sh", "runtime"],
        env={"PATH": os.environ["PATH"], **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def fake_python(folder: Path, *, says: str) -> Path:
    """Writes a program that fails as a version manager's shim without a version does."""
    path = folder / "python3.12"
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 127\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_setup_names_why_the_wanted_python_is_unusable(tmp_path):
    shim = fake_python(tmp_path, says="no such version")
    result = run_setup(tmp_path, PYTHON=str(shim))
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "no such version" in result.stderr
    assert "3.11 or 3.12" in result.stderr


def test_setup_without_usable_python_says_so_in_one_line(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "head", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    fake_python(tools, says="no such version")
    result = run_setup(tmp_path, PATH=str(tools))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no usable Python" in result.stderr
    assert "no such version" in result.stderr


@pytest.mark.parametrize("package", ["rap_evaluation", "rap_training"])
def test_command_of_a_missing_part_asks_for_make_setup_without_traceback(package):
    """The runtime part alone is imitated by imports that fail as absent packages do."""
    script = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {OFFLINE_MODULES!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
sys.argv = [{package!r}, "--help"]
from {package}.cli import main
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == 0 or "run make setup" in result.stderr
