"""Running a network file. One protocol, so that the nodes do not know which backend runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rap_inference.bundle import BundleError

Arrays = dict[str, npt.NDArray[np.float32]]


class Network(Protocol):
    """A loaded network: named float32 arrays in, named float32 arrays out."""

    def run(self, inputs: Arrays) -> Arrays:
        """Runs the network once; shapes are those of the ONNX file."""


CPU_PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeNetwork:
    """ONNX Runtime, on the CPU or with another of its execution providers.

    Attributes:
        input_shapes: By name; an axis that the file leaves open is no number.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 2,
        provider: str = CPU_PROVIDER,
        provider_options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Loads a network.

        Args:
            path: ONNX file.
            threads: Intra-op threads; two, because the guard must never starve beside it.
            provider: What runs the network; the CPU runs what it does not take.
            provider_options: Its options, as ONNX Runtime documents them.

        Raises:
            BundleError: If ONNX Runtime is not installed, lacks the provider, cannot start it or
                rejects the file.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - an optional backend is imported where it is used
        except ImportError as error:
            raise BundleError(
                f"{path}: backend onnxruntime is not installed (pip install onnxruntime)"
            ) from error
        offered = onnxruntime.get_available_providers()
        if provider not in offered:
            raise BundleError(
                f"{path}: this onnxruntime has no {provider}, only {', '.join(offered)} "
                "(pip uninstall onnxruntime, pip install onnxruntime-gpu: never both)"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning workers take the cores from the other nodes: on two loaded cores one step of
        # encoder and planner took 175 ms with it and 59 ms without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        fallback = [] if provider == CPU_PROVIDER else [CPU_PROVIDER]
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=[(provider, dict(provider_options)), *fallback]
            )
        except Exception as error:  # ONNX Runtime raises its own undeclared types
            raise BundleError(f"{path}: not a usable network: {_one_line(error)}") from error
        if self._session.get_providers()[0] != provider:  # it only logs that, and uses the CPU
            raise BundleError(f"{path}: onnxruntime could not start {provider}; see its log above")
        self.input_shapes = {tensor.name: tensor.shape for tensor in self._session.get_inputs()}
        self._output_names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """Runs the network once; see `Network.run`."""
        outputs = self._session.run(self._output_names, inputs)
        return dict(zip(self._output_names, outputs, strict=True))


def input_shapes(path: Path, batch: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a network's inputs; axes that the file leaves open get `batch`.

    Raises:
        BundleError: As `OnnxRuntimeNetwork`.
    """
    return {
        name: tuple(size if isinstance(size, int) else batch for size in shape)
        for name, shape in OnnxRuntimeNetwork(path).input_shapes.items()
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
