"""Creates `.venv` and everything in it, and does nothing twice.

Each step has a key, a hash of the files that decide its result. The key is written to
`.venv/.setup/<step>` when the step has succeeded; a step whose key is there is skipped. A failed
step leaves no key, so the next call takes it up again.

Plain standard library on purpose: it runs before anything is installed. `tools/setup.sh` finds
the interpreter for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = VENV / ".setup"
BUILD = ROOT / "build"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
PACKAGES = (
    "rap_inference",
    "rap_raster",
    "rap_perception",
    "rap_planner",
    "rap_bringup",
    "rap_evaluation",
    "rap_training",
)
# What rap_bringup's CMakeLists.txt installs from the top level into its share folder.
BRINGUP_FOLDERS = ("launch", "config", "models/default", "data/demo_drive")
# Lines of a failed command's output that are shown.
TAIL_LINES = 25
# Two pips in one environment may install the same library.
_PIP = threading.Lock()


class SetupError(Exception):
    """A step failed; the text says what to do."""


class Step(NamedTuple):
    """One part of the set-up.

    Attributes:
        name: Names the stamp and the log file.
        title: What the user reads while it runs.
        inputs: Files and folders whose content decides the result.
        action: Does the work, raises `SetupError` on failure.
    """

    name: str
    title: str
    inputs: tuple[Path, ...]
    action: Callable[[], None]


def main(arguments: list[str]) -> int:
    """Runs the steps of the stage named on the command line that are not yet done.

    Args:
        arguments: One word, `runtime` or `full`.

    Returns:
        0, or 1 after printing what failed.
    """
    if len(arguments) != 1 or arguments[0] not in ("runtime", "full"):
        print("usage: tools/setup.sh runtime|full", file=sys.stderr)
        return 2
    try:
        BUILD.mkdir(exist_ok=True)
        with (BUILD / "setup.lock").open("w") as lock:
            # Two calls in one checkout: the second waits, and then finds everything done.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _runs():  # and another call has not mended it while this one waited
                shutil.rmtree(STAMPS, ignore_errors=True)
            _run(*_steps(arguments[0]))
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _runs() -> bool:
    """Says whether .venv has a Python that works."""
    try:
        return subprocess.run([PYTHON, "-I", "-S", "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def _steps(stage: str) -> tuple[list[Step], list[Step], list[Step]]:
    """Returns the steps that come first, and two lists that may then run beside each other."""
    messages = ROOT / "src" / "rap_msgs"
    packaging = [
        ROOT / "src" / package / name
        for package in PACKAGES
        for name in ("setup.py", "setup.cfg", "package.xml")
    ]
    kernels = ROOT / "src" / "rap_raster" / "rap_raster"
    photo = ROOT / "src" / "rap_evaluation" / "rap_evaluation" / "photo"
    wheels = tuple(REQUIREMENTS / name for name in ("ros.txt", "build.txt", "lock.txt"))
    first = [
        Step("venv", f"Python {sys.version_info[0]}.{sys.version_info[1]} environment", (), _venv),
        _pip_step("ros", "ROS 2 Jazzy wheels"),
        _pip_step("build", "build tools"),
        _pip_step("runtime", "runtime libraries"),
        Step("packages", "rap packages", tuple(packaging), _install_packages),
    ]
    compiled = [
        Step("rap_msgs", "rap_msgs (ROS messages)", (messages, *wheels), _build_messages),
        Step("warmup", "compiled kernels", (REQUIREMENTS / "runtime.txt", kernels), _warm_up),
    ]
    # Here and not below: this way both lists take about the same time.
    tools = [_pip_step("dev", "test, lint and colcon tools")]
    offline = [
        _pip_step("torch", "torch"),
        _pip_step("offline", "traffic, export and training libraries"),
        _pip_step("py123d", "towns", "--no-deps"),
        Step(
            "offline_warmup",
            "compiled kernels of evaluations",
            (REQUIREMENTS / "runtime.txt", kernels, photo),
            _warm_up_offline,
        ),
    ]
    if stage == "runtime":
        return first, compiled, []
    return first, compiled + tools, offline


def _pip_step(name: str, title: str, *options: str) -> Step:
    """Returns the step that installs `requirements/<name>.txt`."""
    requirements = REQUIREMENTS / f"{name}.txt"

    def install() -> None:
        _pip(name, *options, "-r", requirements)

    return Step(name, title, (requirements, REQUIREMENTS / "lock.txt"), install)


def _run(first: list[Step], *lanes: list[Step]) -> None:
    """Runs the pending steps, those of the lanes beside each other, and stamps what succeeds."""
    steps = [first, *lanes]
    pending = [[step for step in lane if not _is_done(step, _key(step))] for lane in steps]
    count = sum(map(len, pending))
    if not count:
        return
    _check_machine()
    numbers = itertools.count(1)
    _run_in_turn(pending[0], numbers, count)
    with ThreadPoolExecutor(len(steps)) as pool:
        running = [pool.submit(_run_in_turn, lane, numbers, count) for lane in pending[1:]]
        for lane in running:
            lane.result()


def _run_in_turn(steps: Iterable[Step], numbers: Iterator[int], count: int) -> None:
    for step in steps:
        key = _key(step)
        start_s = time.monotonic()
        (STAMPS / step.name).unlink(missing_ok=True)
        print(f"{step.title} ...", flush=True)
        step.action()
        STAMPS.mkdir(parents=True, exist_ok=True)
        (STAMPS / step.name).write_text(key)
        took_s = time.monotonic() - start_s
        print(f"[{next(numbers)}/{count}] {step.title}: {took_s:.0f} s", flush=True)


def _is_done(step: Step, key: str) -> bool:
    stamp = STAMPS / step.name
    return stamp.is_file() and stamp.read_text() == key


def _key(step: Step) -> str:
    """Hashes the names and contents of a step's inputs, and where they are.

    What is installed has absolute paths in it: a copied checkout would run the code of the first.
    """
    digest = hashlib.sha256(f"{ROOT}\n".encode())
    for path in step.inputs:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\n".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _check_machine() -> None:
    """Fails early where pip or the build of rap_msgs would fail late."""
    if (machine := platform.machine()) not in ("x86_64", "AMD64"):
        raise SetupError(
            f"the ROS wheels are for x86-64, this is {machine}: install the packages on ROS 2 "
            'Jazzy, as "On a vehicle" in README.md says'
        )
    for names in (("cc", "gcc", "clang"), ("c++", "g++", "clang++")):
        if not any(shutil.which(name) for name in names):
            raise SetupError(
                f"no compiler {names[0]} on PATH (Debian, Ubuntu: apt install build-essential)"
            )


def _venv() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    _call("venv", sys.executable, "-m", "venv", VENV)


def _build_messages() -> None:
    """Builds rap_msgs with real rosidl and installs it into the environment."""
    build = BUILD / "rap_msgs"
    # CMake keeps absolute paths of the environment it first saw.
    shutil.rmtree(build, ignore_errors=True)
    _repair_ros_cmake_files()
    cmake = VENV / "bin" / "cmake"
    _call(
        "rap_msgs",
        cmake,
        *("-S", ROOT / "src" / "rap_msgs", "-B", build, "-GNinja"),
        f"-DCMAKE_INSTALL_PREFIX={VENV}",
        f"-DCMAKE_PREFIX_PATH={VENV}",
        f"-DPython3_EXECUTABLE={PYTHON}",
        "-DBUILD_TESTING=OFF",
    )
    _call("rap_msgs", cmake, "--build", build)
    _call("rap_msgs", cmake, "--install", build)


def _repair_ros_cmake_files() -> None:
    """Replaces paths of the machine that built the ROS wheels by those of this environment.

    Without it CMake says: imported target "std_msgs::..." includes non-existent path.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    there = f"/opt/python/cp{version.replace('.', '')}-cp{version.replace('.', '')}"
    include, numpy_include = _output(
        PYTHON,
        "-c",
        "import numpy, sysconfig; print(sysconfig.get_path('include')); print(numpy.get_include())",
    ).splitlines()
    replacements = {
        f"{there}/lib/python{version}/site-packages/numpy/_core/include": numpy_include,
        f"{there}/include/python{version}": include,
    }
    for file in (VENV / "share").glob("*/cmake/*.cmake"):
        text = file.read_text(encoding="utf-8")
        repaired = text
        for old, new in replacements.items():
            repaired = repaired.replace(old, new)
        if repaired != text:
            file.write_text(repaired, encoding="utf-8")


def _install_packages() -> None:
    """Installs the packages so that edits under src/ are live, and links their share folders.

    pip leaves out data files in this mode, so what colcon would put under share/ is linked here.
    """
    editable = [word for package in PACKAGES for word in ("-e", ROOT / "src" / package)]
    # --use-pep517: the older way puts the commands where setup.cfg wants them for ros2 run.
    # compat puts the source folders on sys.path: new modules are found without installing again.
    options = ("--no-build-isolation", "--no-deps", "--use-pep517")
    _pip("packages", *options, "--config-settings", "editable_mode=compat", *editable)
    index = VENV / "share" / "ament_index" / "resource_index" / "packages"
    for package in PACKAGES:
        share = VENV / "share" / package
        _link(share / "package.xml", ROOT / "src" / package / "package.xml")
        (index / package).touch()
    for folder in BRINGUP_FOLDERS:
        _link(VENV / "share" / "rap_bringup" / folder, ROOT / folder)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or link.exists():
        link.unlink()
    link.symlink_to(target)


def _warm_up() -> None:
    _call("warmup", VENV / "bin" / "rap", "warmup")


def _warm_up_offline() -> None:
    """Scores planners on one moment of the demo drive, which compiles what evaluations need."""
    evaluate = VENV / "bin" / "rap-evaluate"
    log = BUILD / "setup" / "logs" / "demo"
    shutil.rmtree(log, ignore_errors=True)
    _call("offline_warmup", evaluate, "log", "bag", ROOT / "data" / "demo_drive", "--out", log)
    scored = ("--logs", log.parent, "--out", BUILD / "setup" / "report", "--scenes", "1")
    for planner in (["pdm-closed"], [ROOT / "models" / "default", "--sensor", "camera"]):
        _call("offline_warmup", evaluate, "pseudo-sim", "--planner", *planner, *scored)


def _pip(log: str, *arguments: object) -> None:
    """Installs with pip, one call at a time."""
    options = ("--disable-pip-version-check", "--no-input")
    with _PIP:
        _call(log, PYTHON, "-m", "pip", "install", *options, *arguments)


def _call(log: str, *command: object) -> None:
    """Runs a command, keeps its output in build/setup/<log>.log and shows the end of it on failure.

    Args:
        log: Name of the step.
        command: Program and arguments.

    Raises:
        SetupError: If the command fails.
    """
    path = BUILD / "setup" / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with path.open("ab") as output:
        output.write(f"$ {' '.join(words)}\n".encode())
        output.flush()
        begin = output.tell()
        try:
            result = subprocess.run(
                words, cwd=ROOT, env=_environment(), stdout=output, stderr=output, check=False
            )
        except OSError as error:
            raise SetupError(f"cannot run {words[0]}: {error.strerror}") from error
    if result.returncode != 0:
        lines = path.read_bytes()[begin:].decode(errors="replace").splitlines()
        tail = "\n".join(lines[-TAIL_LINES:])
        name = path.relative_to(ROOT)
        raise SetupError(
            f"{Path(words[0]).name} failed with exit code {result.returncode}; "
            f"all of its output is in {name}, the end is:\n{tail}"
        )


def _output(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(
        words, env=_environment(), check=True, capture_output=True, text=True
    ).stdout


def _environment() -> dict[str, str]:
    """Returns the environment of the steps: the environment's tools first, no foreign ROS."""
    environment = dict(os.environ)
    # A sourced ROS installation would be found before the wheels.
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    # Set by the ROS wheels of another environment, it keeps ours from finding its libraries.
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
    environment["VIRTUAL_ENV"] = str(VENV)
    return environment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
