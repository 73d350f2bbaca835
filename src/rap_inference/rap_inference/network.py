"""Running a network file. One protocol, so that the nodes do not know which backend runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rap_inference.bundle import BundleError

Arrays = dict[str, npt.NDArray[np.float32]]


class Network(Protocol):
    """A loaded network: named float32 arrays in, named float32 arrays out."""

    def run(self, inputs: Arrays) -> Arrays:
        """Runs the network once; shapes are those of the ONNX file."""


class OnnxRuntimeNetwork:
    """ONNX Runtime on the CPU."""

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        """Loads a network.

        Args:
            path: ONNX file.
            threads: Intra-op threads; two, because the guard must never starve beside it.

        Raises:
            BundleError: If ONNX Runtime is not installed or rejects the file.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - an optional backend is imported where it is used
        except ImportError as error:
            raise BundleError(
                f"{path}: backend onnxruntime is not installed (pip install rap_inference[cpu])"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning workers take the cores from the other nodes: on two loaded cores one step of
        # encoder and planner took 175 ms with it and 59 ms without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises its own undeclared types
            raise BundleError(f"{path}: not a usable network: {_one_line(error)}") from error
        self._output_names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """Runs the network once; see `Network.run`."""
        outputs = self._session.run(self._output_names, inputs)
        return dict(zip(self._output_names, outputs, strict=True))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
