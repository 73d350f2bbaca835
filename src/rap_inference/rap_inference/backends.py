"""Which backend runs a network: one choice, one interface, and the real reason where one fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from rap_inference.bundle import Bundle, BundleError
from rap_inference.cuda_device import CudaDevice, CudaError
from rap_inference.engine_cache import default_cache_dir
from rap_inference.network import Network, OnnxRuntimeNetwork, input_shapes
from rap_inference.tensorrt_engine import Library
from rap_inference.tensorrt_network import TensorRtNetwork, Warn, engine_key, provided_engine

BACKENDS = ("auto", "cpu", "cuda", "tensorrt-ep", "tensorrt", "tensorrt-rtx")
"""cpu, cuda and tensorrt-ep are execution providers of ONNX Runtime, the last two libraries of
their own; auto takes the first of `AUTO_ORDER` that runs here."""

AUTO_ORDER = ("tensorrt", "tensorrt-rtx", "cuda", "cpu")
"""Fastest first. Not tensorrt-ep: what it gains over cuda, the library alone gains as well."""

LIBRARIES: tuple[Library, ...] = get_args(Library)


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How networks are run.

    Attributes:
        backend: One of `BACKENDS`.
        cache_dir: Where built engines are kept.
        tf32: Whether GPUs may round the float32 inputs of matrix products to 10 bits. Half
            precision is a property of the bundle instead: its file says so.
        threads: On the CPU.
    """

    backend: str = "cpu"
    cache_dir: Path = field(default_factory=default_cache_dir)
    tf32: bool = True
    threads: int = 2


@dataclass(frozen=True, slots=True)
class OpenNetwork:
    """A network ready to run.

    Attributes:
        network: To be run.
        backend: What runs it.
        passed_over: Why faster backends do not, one line each; empty unless "auto" was asked for.
    """

    network: Network
    backend: str
    passed_over: tuple[str, ...] = ()


def open_network(
    path: Path, settings: InferenceSettings, warn: Warn, *, batch: int = 1
) -> OpenNetwork:
    """Loads a network with the backend asked for.

    Args:
        path: ONNX file.
        settings: How.
        warn: Told in one line of what works worse than it could.
        batch: Longest first axis of the inputs.

    Raises:
        BundleError: If the backend is unknown, missing, or does not take the network; a backend
            asked for by name is never replaced by another.
    """
    _check_backend(settings.backend, BACKENDS)
    if settings.backend != "auto":
        network = _open(path, settings.backend, settings, warn, batch)
        return OpenNetwork(network, settings.backend)
    passed_over: list[str] = []
    for backend in AUTO_ORDER[:-1]:
        try:
            network = _open(path, backend, settings, warn, batch)
            return OpenNetwork(network, backend, tuple(passed_over))
        except BundleError as error:
            passed_over.append(f"{backend}: {error}")
    network = _open(path, AUTO_ORDER[-1], settings, warn, batch)
    return OpenNetwork(network, AUTO_ORDER[-1], tuple(passed_over))


def build_engines(bundle: Bundle, settings: InferenceSettings) -> None:
    """Builds and stores the engines of a bundle ahead of the first start.

    Args:
        bundle: The bundle.
        settings: A backend that has engines.

    Raises:
        BundleError: If the backend has no engines, or one cannot be built or stored.
    """
    _check_backend(settings.backend, (*LIBRARIES, "tensorrt-ep"))
    for path, batch in ((bundle.encoder_path, encoder_batch(bundle)), (bundle.planner_path, 1)):
        if settings.backend == "tensorrt-ep":
            _run_once(_open(path, settings.backend, settings, _refuse, batch), path, batch)
            continue
        library = _library(settings.backend)
        key = engine_key(path, library, tf32=settings.tf32, batch=batch)
        provided_engine(path, key, library, settings.cache_dir, _refuse)


def _run_once(network: Network, path: Path, batch: int) -> None:
    """Has ONNX Runtime build what it builds at the first step only."""
    try:
        shapes = input_shapes(path, batch).items()
        network.run({name: np.zeros(shape, np.float32) for name, shape in shapes})
    except Exception as error:  # ONNX Runtime raises its own undeclared types
        raise BundleError(f"{path}: does not run: {' '.join(str(error).split())}") from error


def encoder_batch(bundle: Bundle) -> int:
    """Returns the longest batch of the encoder: every camera's image, and its raster to compare."""
    return 2 * len(bundle.manifest.cameras)


def _open(path: Path, backend: str, settings: InferenceSettings, warn: Warn, batch: int) -> Network:
    """Opens a network with one backend; whatever goes wrong within becomes a BundleError."""
    try:
        return _opened(path, backend, settings, warn, batch)
    except BundleError:
        raise
    except Exception as error:  # libraries of other versions raise what they like
        reason = " ".join(str(error).split())
        raise BundleError(f"{path}: {backend}: {type(error).__name__}: {reason}") from error


def _opened(
    path: Path, backend: str, settings: InferenceSettings, warn: Warn, batch: int
) -> Network:
    if backend == "cpu":
        return OnnxRuntimeNetwork(path, threads=settings.threads)
    if backend == "cuda":
        _check_gpu(path, backend)
        return OnnxRuntimeNetwork(
            path,
            threads=settings.threads,
            provider="CUDAExecutionProvider",
            provider_options={"use_tf32": str(int(settings.tf32))},
        )
    if backend == "tensorrt-ep":
        return _open_tensorrt_provider(path, settings, warn, batch)
    return TensorRtNetwork(
        path, _library(backend), settings.cache_dir, warn, tf32=settings.tf32, batch=batch
    )


def _open_tensorrt_provider(
    path: Path, settings: InferenceSettings, warn: Warn, batch: int
) -> Network:
    """Opens ONNX Runtime's TensorRT provider, which keeps engines in a cache of its own.

    Source: ONNX Runtime documentation, "TensorRT Execution Provider". It names engines by the
    network's structure, not by its weights, so that every network gets a folder of its own.
    """
    if not settings.tf32:
        raise BundleError(f"{path}: tensorrt-ep always uses tf32; take another backend")
    _check_gpu(path, "tensorrt-ep")
    # Its import is also what lets ONNX Runtime find the library.
    key = engine_key(path, "tensorrt", tf32=True, batch=batch)
    folder = settings.cache_dir / key.file_name.replace(".engine", f"-{key.library_version}-ep")
    options = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}
    # Without, an engine is built at the first step, and anew at the first with fewer images.
    shortest, longest = (_profile(input_shapes(path, size)) for size in (1, batch))
    options |= {"trt_profile_min_shapes": shortest}
    options |= dict.fromkeys(("trt_profile_opt_shapes", "trt_profile_max_shapes"), longest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warn(f"engine of {path.name} is not kept, every start builds it anew: {error}")
        for name in ("trt_engine_cache_enable", "trt_engine_cache_path"):
            del options[name]
    return OnnxRuntimeNetwork(
        path,
        threads=settings.threads,
        provider="TensorrtExecutionProvider",
        provider_options=options,
    )


def _profile(shapes: dict[str, tuple[int, ...]]) -> str:
    """Returns shapes as the provider's options have them."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _check_gpu(path: Path, backend: str) -> None:
    """Makes sure that there is a GPU, with a clearer text than ONNX Runtime's."""
    try:
        CudaDevice()
    except CudaError as error:
        raise BundleError(f"{path}: {backend}: {error}") from error


def _check_backend(backend: str, known: tuple[str, ...]) -> None:
    if backend not in known:
        raise BundleError(f"inference backend {backend}: expected one of {', '.join(known)}")


def _library(backend: str) -> Library:
    return next(library for library in LIBRARIES if library == backend)


def _refuse(text: str) -> None:
    raise BundleError(text)
