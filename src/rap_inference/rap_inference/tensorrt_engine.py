"""Builds TensorRT engines from network files.

TensorRT-RTX, for GeForce and RTX GPUs, builds on any machine; TensorRT, for all other GPUs, builds
only on the GPU that the engine is for. What is used here is the same in both.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from rap_inference.bundle import BundleError

Library = Literal["tensorrt", "tensorrt-rtx"]


def build_engine(path: Path, library: Library, *, batch: int = 1, tf32: bool = True) -> bytes:
    """Builds the engine of a network; its numbers keep the types that the file gives them.

    Args:
        path: ONNX file.
        library: What is to run the engine.
        batch: Longest first axis of inputs for which the file leaves it open; shorter ones fit too.
        tf32: Whether matrix products may round their float32 inputs to 10 bits, on GPUs that can.

    Returns:
        The serialised engine. Only the version of the library that built it can run it.

    Raises:
        BundleError: If the library is missing, does not start or does not take the network.
    """
    trt = import_library(library, path)
    log: list[str] = []
    builder = _builder(trt, log, f"{path}: {library}")
    # TensorRT 10 needs the flag for what 11 and RTX always do: no precision but the file's.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(path)):
        raise BundleError(f"{path}: {library} cannot parse it: {_parser_errors(parser)}")
    settings = builder.create_builder_config()
    if not tf32:
        settings.clear_flag(trt.BuilderFlag.TF32)
    _fix_batch(builder, network, settings, batch, path)
    plan = builder.build_serialized_network(network, settings)
    if plan is None:
        raise BundleError(f"{path}: {library} cannot build an engine: {_one_line(log)}")
    return bytes(plan)


def import_library(library: Library, path: Path) -> ModuleType:
    """Imports a library; in nothing but the name do the two differ here.

    Raises:
        BundleError: If it is not installed; names the network that asked for it.
    """
    try:
        return importlib.import_module(library.replace("-", "_"))
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{path}: {library} is not installed (pip install {library}; JetPack brings tensorrt)"
        ) from error
    except ImportError as error:
        raise BundleError(f"{path}: {library} does not load: {_one_line([str(error)])}") from error


def _builder(trt: ModuleType, log: list[str], what: str) -> Any:  # noqa: ANN401
    """Starts a builder that adds what it warns of to `log`; TensorRT's does not without a GPU."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity <= trt.ILogger.Severity.WARNING:
                log.append(message)

    try:
        return trt.Builder(Log())
    except TypeError as error:  # what the bindings make of a builder that is null
        raise BundleError(f"{what} does not start: {_one_line(log)}") from error


def _parser_errors(parser: Any) -> str:  # noqa: ANN401
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    return _one_line([f"{e.node_name()} {e.node_operator()} {e.desc()}" for e in errors])


def _fix_batch(builder: Any, network: Any, settings: Any, batch: int, path: Path) -> None:  # noqa: ANN401
    """Gives first axes that the file leaves open their longest length."""
    profile = builder.create_optimization_profile()
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        shape = tuple(tensor.shape)
        if -1 in shape[1:]:
            raise BundleError(f"{path}: {tensor.name}: only the first axis may be open: {shape}")
        open_axis = shape[:1] == (-1,)
        shortest, longest = ((n, *shape[1:]) if open_axis else shape for n in (1, batch))
        profile.set_shape(tensor.name, shortest, longest, longest)
    settings.add_optimization_profile(profile)


def _one_line(messages: list[str]) -> str:
    return " ".join("; ".join(messages).split())
