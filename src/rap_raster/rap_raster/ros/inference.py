"""How nodes run networks: parameters, opening, and what diagnostics say about it."""

from __future__ import annotations

from pathlib import Path

from rap_inference.backends import BACKENDS, InferenceSettings, OpenNetwork, open_network
from rap_inference.engine_cache import default_cache_dir
from rap_inference.network import Network
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.node import RapNode
from rap_raster.ros.parameters import Declared

INFERENCE = (
    Declared("inference.backend", "auto", "what runs the networks", choices=BACKENDS),
    Declared("inference.cache_dir", "", "folder for engines; not set: ~/.cache/rap/engines"),
    Declared("inference.tf32", True, "GPUs may round inputs of matrix products to 10 bits"),
    Declared("inference.threads", 2, "of a network on the CPU", 1, 64),
)


class NodeInference:
    """Opens a node's network and keeps what there is to say about it."""

    def __init__(self, node: RapNode) -> None:
        """Reads the parameters of `INFERENCE`."""
        folder = node.parameter("inference.cache_dir")
        self._settings = InferenceSettings(
            backend=node.parameter("inference.backend"),
            cache_dir=Path(folder) if folder else default_cache_dir(),
            tf32=node.parameter("inference.tf32"),
            threads=node.parameter("inference.threads"),
        )
        self._logger = node.get_logger()
        self._warnings: list[str] = []
        self._opened: OpenNetwork | None = None

    def open(self, path: Path, *, batch: int) -> Network:
        """Loads a network; see `open_network`."""
        self._opened = open_network(path, self._settings, self._warn, batch=batch)
        self._logger.info(f"{path.name} runs on {self._opened.backend}")
        return self._opened.network

    def report(self, health: Health) -> None:
        """Says what runs the network, why nothing faster does, and what works worse than it could.

        A backend that is not here is no problem: "auto" asked for the best there is.
        """
        for text in self._warnings:
            health.warn(text)
        if self._opened is None:
            return
        health.values["inference backend"] = self._opened.backend
        for text in self._opened.passed_over:
            backend, _, reason = text.partition(": ")
            health.values[f"inference backend {backend}"] = reason

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._logger.warning(text)
