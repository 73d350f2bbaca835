"""Runs engines of TensorRT and TensorRT-RTX. Builds and stores them where none fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from weakref import finalize

import numpy as np

from rap_inference.bundle import BundleError, file_sha256
from rap_inference.cuda_device import CudaDevice, CudaError
from rap_inference.engine_cache import EngineKey, find_engine, store_engine
from rap_inference.network import Arrays
from rap_inference.tensorrt_engine import Library, build_engine, import_library

ANY_GPU = "any"
"""TensorRT-RTX finishes its engines on the GPU that runs them, any from Turing on."""

Warn = Callable[[str], None]


def engine_key(path: Path, library: Library, *, tf32: bool, batch: int) -> EngineKey:
    """Returns what an engine of a network must be for on this machine.

    Raises:
        BundleError: If the library is missing, or it builds for this machine's GPU and none is
            there.
    """
    version = str(import_library(library, path).__version__)
    gpu = ANY_GPU if library == "tensorrt-rtx" else _device(path, library).name
    precision = "tf32" if tf32 else "fp32"
    return EngineKey(path.stem, file_sha256(path), library, version, gpu, precision, batch)


def stored_engine(path: Path, key: EngineKey, folder: Path, warn: Warn) -> bytes | None:
    """Returns a fitting engine from the cache, or None.

    Args:
        path: ONNX file.
        key: From `engine_key`.
        folder: The cache.
        warn: Told in one line why an engine could not be read.
    """
    try:
        return find_engine(folder, key)
    except OSError as error:
        warn(f"engine of {path.name} is built anew, that in the cache cannot be read: {error}")
        return None


def built_engine(path: Path, key: EngineKey, library: Library, folder: Path, warn: Warn) -> bytes:
    """Builds an engine and stores it.

    Args:
        path: ONNX file.
        key: From `engine_key`.
        library: What is to run it.
        folder: The cache.
        warn: Told in one line why the engine could not be stored; it is used all the same.

    Raises:
        BundleError: If the engine cannot be built.
    """
    plan = build_engine(path, library, batch=key.batch, tf32=key.precision == "tf32")
    try:
        store_engine(folder, key, plan)
    except OSError as error:
        warn(f"engine of {path.name} is not kept, every start builds it anew: {error}")
    return plan


def provided_engine(
    path: Path, key: EngineKey, library: Library, folder: Path, warn: Warn
) -> bytes:
    """Returns a fitting engine from the cache, or builds and stores it; see the two above."""
    stored = stored_engine(path, key, folder, warn)
    return built_engine(path, key, library, folder, warn) if stored is None else stored


class TensorRtNetwork:
    """An engine on the first GPU; its memory there is given back with the object."""

    def __init__(
        self,
        path: Path,
        library: Library,
        folder: Path,
        warn: Warn,
        *,
        tf32: bool,
        batch: int,
    ) -> None:
        """Loads the engine of a network, building it if need be (minutes).

        Args:
            path: ONNX file.
            library: What runs it.
            folder: The cache of engines.
            warn: Told in one line of what works worse than it could.
            tf32: Whether matrix products may round their float32 inputs to 10 bits.
            batch: Longest first axis of the inputs.

        Raises:
            BundleError: If there is no GPU, or the engine cannot be built or loaded.
        """
        self._device = _device(path, library)
        self._device.use()
        key = engine_key(path, library, tf32=tf32, batch=batch)
        trt = import_library(library, path)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))  # must outlive its engine
        plan = stored_engine(path, key, folder, warn)
        engine = None if plan is None else self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            why = "there is none" if plan is None else "that in the cache does not load"
            warn(
                f"engine of {path.name} is built, {why}: this takes minutes, which "
                "`rap build-engine` spends ahead of a start"
            )
            plan = built_engine(path, key, library, folder, warn)
            engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BundleError(f"{path}: {library} cannot load the engine that it has just built")
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BundleError(f"{path}: {library} cannot run its engine: is there GPU memory left?")
        self._stream = self._device.make_stream()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._outputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]
        self._buffers: dict[str, tuple[int, int]] = {}
        # The driver ends before the interpreter does, and takes all of it with it.
        finalize(self, _release, self._device, self._stream, self._buffers).atexit = False

    def run(self, inputs: Arrays) -> Arrays:
        """Runs the network once; see `Network.run`."""
        self._device.use()  # steps run in a worker's thread
        for name, values in inputs.items():
            packed = np.ascontiguousarray(values, dtype=np.float32)
            self._context.set_input_shape(name, packed.shape)
            self._device.upload(self._address(name, packed.nbytes), packed, self._stream)
        outputs: Arrays = {}
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            outputs[name] = np.empty(shape, np.float32)
            self._address(name, outputs[name].nbytes)
        if not self._context.execute_async_v3(self._stream):
            raise CudaError("the engine did not run; TensorRT has logged the reason")
        for name, array in outputs.items():
            self._device.download(array, self._buffers[name][0], self._stream)
        self._device.finish(self._stream)
        return outputs

    def _address(self, name: str, size: int) -> int:
        """Returns where a tensor lies; memory grows in the first steps and is then kept."""
        address, capacity = self._buffers.get(name, (0, 0))
        if size > capacity:
            if capacity:
                self._device.free(address)
            address = self._device.allocate(size)
            self._buffers[name] = address, size
        self._context.set_tensor_address(name, address)
        return address


def _release(device: CudaDevice, stream: int, buffers: dict[str, tuple[int, int]]) -> None:
    device.use()
    for address, _ in buffers.values():
        device.free(address)
    device.end_stream(stream)


def _device(path: Path, library: Library) -> CudaDevice:
    try:
        return CudaDevice()
    except CudaError as error:
        raise BundleError(f"{path}: {library}: {error}") from error
