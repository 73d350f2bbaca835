"""The choice of a backend: what is asked for by name is used or refused, never replaced.

There is no GPU where these tests run. What needs one is tested against stand-ins for the driver and
the library that keep their contracts: memory at addresses, and an engine that doubles its input.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

from rap_inference import backends, cuda_device, tensorrt_engine, tensorrt_network
from rap_inference.backends import BACKENDS, InferenceSettings, build_engines, open_network
from rap_inference.bundle import BundleError
from rap_inference.cuda_device import CudaDevice, CudaError
from rap_inference.tensorrt_network import TensorRtNetwork, engine_key

X = np.array([[1.0, -2.0]], np.float32)


@pytest.fixture
def network(tmp_path):
    """An ONNX file that doubles rows of two numbers."""
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("x", "y")
    ]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "double", tensors[:1], tensors[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "double.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def no_gpu(monkeypatch):
    """The machine has no driver, whatever it really has."""
    monkeypatch.setattr(cuda_device, "DRIVER", "libcuda-that-is-not-there.so.1")


def opened(path, backend, warn=pytest.fail, **settings):
    return open_network(path, InferenceSettings(backend, **settings), warn)


def test_the_cpu_runs_the_network(network):
    result = opened(network, "cpu")
    np.testing.assert_array_equal(result.network.run({"x": X})["y"], 2 * X)
    assert (result.backend, result.passed_over) == ("cpu", ())


def test_auto_takes_the_cpu_where_nothing_else_runs_and_keeps_the_reasons(network, no_gpu):
    result = opened(network, "auto")
    np.testing.assert_array_equal(result.network.run({"x": X})["y"], 2 * X)
    assert result.backend == "cpu"
    assert [text.partition(":")[0] for text in result.passed_over] == [
        "tensorrt",
        "tensorrt-rtx",
        "cuda",
    ]
    assert all("no CUDA GPU on this machine" in text for text in result.passed_over)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in ("auto", "cpu")])
def test_a_backend_asked_for_by_name_is_refused_without_a_gpu(network, no_gpu, backend):
    with pytest.raises(BundleError, match=rf"double\.onnx: {backend}: no CUDA GPU"):
        opened(network, backend)


def test_a_provider_that_onnxruntime_lacks_is_named_with_the_way_to_get_it(network, monkeypatch):
    monkeypatch.setattr(backends, "CudaDevice", object)
    with pytest.raises(BundleError, match=r"no CUDAExecutionProvider, only .*onnxruntime-gpu"):
        opened(network, "cuda")


def test_an_unknown_backend_lists_the_known_ones(network):
    with pytest.raises(BundleError, match="expected one of auto, cpu, cuda"):
        opened(network, "gpu")


def test_a_file_that_is_no_network_gives_its_real_error_with_auto_too(tmp_path, no_gpu):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(BundleError, match=r"bad\.onnx: not a usable network: .*INVALID_PROTOBUF"):
        opened(path, "auto")


@pytest.mark.parametrize("backend", ["cpu", "cuda", "auto"])
def test_there_is_nothing_to_build_for_a_backend_without_engines(backend):
    with pytest.raises(BundleError, match=f"{backend}: expected one of tensorrt, tensorrt-rtx"):
        build_engines(SimpleNamespace(), InferenceSettings(backend))


class Driver:
    """Device memory in this process; streams do what they are told at once."""

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.memory: dict[int, ctypes.Array] = {}
        self.allocations = 0
        self.streams: list[int] = []

    def cuInit(self, flags):  # noqa: N802 - the driver's names
        return 0 if self.gpus else 100

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        return 0

    def cuDeviceGetName(self, name, length, device):  # noqa: N802
        name.value = b"Test GPU"
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[attribute]
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):  # noqa: N802
        context._obj.value = 1
        return 0

    def cuCtxSetCurrent(self, context):  # noqa: N802
        return 0

    def cuMemAlloc_v2(self, address, size):  # noqa: N802
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[address._obj.value] = buffer
        self.allocations += 1
        return 0

    def cuMemFree_v2(self, address):  # noqa: N802
        return 0 if self.memory.pop(address.value, None) else 1

    def cuStreamCreate(self, stream, flags):  # noqa: N802
        stream._obj.value = 7
        self.streams.append(7)
        return 0

    def cuStreamDestroy_v2(self, stream):  # noqa: N802
        self.streams.remove(stream.value)
        return 0

    def cuMemcpyHtoDAsync_v2(self, target, source, size, stream):  # noqa: N802
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2  # noqa: N815

    def cuStreamSynchronize(self, stream):  # noqa: N802
        return 0

    def cuGetErrorString(self, status, text):  # noqa: N802
        text._obj.value = b"no CUDA-capable device is detected"
        return 0


class Engine:
    """Doubles x into y, at the addresses it was given."""

    num_io_tensors = 2

    def __init__(self) -> None:
        self.addresses, self.shape = {}, ()

    def get_tensor_name(self, index):
        return ("x", "y")[index]

    def get_tensor_mode(self, name):
        return {"x": "INPUT", "y": "OUTPUT"}[name]

    def create_execution_context(self):
        return self

    def set_input_shape(self, name, shape):
        self.shape = shape

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        source, target = (
            (ctypes.c_float * int(np.prod(self.shape))).from_address(self.addresses[name])
            for name in ("x", "y")
        )
        for index, value in enumerate(source):
            target[index] = 2 * value
        return stream == 7


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU and TensorRT, whose builder and runtime know one engine."""
    driver = Driver()
    monkeypatch.setattr(cuda_device.ctypes, "CDLL", lambda _: driver)
    library = ModuleType("tensorrt")
    library.__version__ = "10.9.0"
    library.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
    library.TensorIOMode = SimpleNamespace(OUTPUT="OUTPUT")
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine() if plan else None)
    library.Runtime = lambda logger: runtime
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setattr(tensorrt_network, "build_engine", lambda *_, **__: b"plan")
    return driver


def test_auto_takes_tensorrt_where_there_is_a_gpu_and_keeps_its_engine(network, gpu, tmp_path):
    told = []
    result = opened(network, "auto", told.append, cache_dir=tmp_path / "cache")
    (line,) = told
    assert line.startswith("engine of double.onnx is built, there is none: this takes minutes")
    assert (result.backend, result.passed_over) == ("tensorrt", ())
    for rows in (1, 3, 2):
        x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
        np.testing.assert_array_equal(result.network.run({"x": x})["y"], 2 * x)
    assert gpu.allocations == 4  # two tensors, grown once each
    assert len(gpu.memory) == 2
    (engine,) = (tmp_path / "cache").iterdir()
    assert "Test_GPU__8_6_" in engine.name
    opened(network, "auto", cache_dir=tmp_path / "cache")  # from the cache, nothing to tell


def test_a_network_gives_its_memory_back(network, gpu, tmp_path):
    """As when a node is cleaned up and configured anew, however often."""
    for _ in range(3):
        again = opened(network, "tensorrt", lambda _: None, cache_dir=tmp_path)
        again.network.run({"x": np.ones((2, 2))})
        del again
        gc.collect()
    assert gpu.allocations == 6
    assert (gpu.memory, gpu.streams) == ({}, [])


def test_onnxruntimes_engines_are_for_every_number_of_images_and_built_ahead(
    network, gpu, tmp_path, monkeypatch
):
    """Without shapes they would be built in the drive, and anew where a camera is missing."""
    seen, ran = [], []

    class Provider:
        def __init__(self, path, *, threads, provider, provider_options):
            seen.append(provider_options)

        def run(self, inputs):
            ran.append({name: values.shape for name, values in inputs.items()})

    monkeypatch.setattr(backends, "OnnxRuntimeNetwork", Provider)
    bundle = SimpleNamespace(
        encoder_path=network, planner_path=network, manifest=SimpleNamespace(cameras=[1, 2, 3])
    )
    build_engines(bundle, InferenceSettings("tensorrt-ep", tmp_path))
    assert ran == [{"x": (6, 2)}, {"x": (1, 2)}]
    names = [f"trt_profile_{name}_shapes" for name in ("min", "opt", "max")]
    assert [seen[0][name] for name in names] == ["x:1x2", "x:6x2", "x:6x2"]
    assert [seen[1][name] for name in names] == ["x:1x2", "x:1x2", "x:1x2"]
    assert seen[0]["trt_engine_cache_enable"] == "True"


def test_an_engine_of_a_gpu_is_for_that_gpu_and_library(network, gpu):
    key = engine_key(network, "tensorrt", tf32=False, batch=3)
    assert (key.gpu, key.library_version) == ("Test GPU (8.6)", "10.9.0")
    assert (key.precision, key.batch) == ("fp32", 3)


def test_an_engine_that_does_not_load_any_more_is_built_anew(network, gpu, tmp_path, monkeypatch):
    """As after an update of the driver, of which the cache's key knows nothing."""
    told = []
    monkeypatch.setattr(tensorrt_network, "build_engine", lambda *_, **__: b"")
    with pytest.raises(BundleError, match="cannot load the engine that it has just built"):
        TensorRtNetwork(network, "tensorrt", tmp_path, told.append, tf32=True, batch=1)
    monkeypatch.setattr(tensorrt_network, "build_engine", lambda *_, **__: b"plan")
    TensorRtNetwork(network, "tensorrt", tmp_path, told.append, tf32=True, batch=1)
    assert ["in the cache does not load" in line for line in told] == [False, True]
    TensorRtNetwork(network, "tensorrt", tmp_path, pytest.fail, tf32=True, batch=1)


def test_a_gpu_without_memory_left_is_passed_over_with_the_reason(
    network, gpu, tmp_path, monkeypatch
):
    monkeypatch.setattr(Engine, "create_execution_context", lambda self: None)
    result = opened(network, "auto", lambda _: None, cache_dir=tmp_path)
    assert result.backend == "cpu"
    assert "is there GPU memory left?" in result.passed_over[0]


def test_a_library_of_another_version_is_passed_over_with_what_it_raises(
    network, gpu, tmp_path, monkeypatch
):
    def changed(*_, **__):
        raise AttributeError("no STRONGLY_TYPED")

    monkeypatch.setattr(tensorrt_network, "build_engine", changed)
    result = opened(network, "auto", lambda _: None, cache_dir=tmp_path)
    assert result.backend == "cpu"
    assert result.passed_over[0].endswith("tensorrt: AttributeError: no STRONGLY_TYPED")


def test_a_library_that_does_not_load_is_not_called_missing(network, gpu, monkeypatch):
    def broken(name):
        raise ImportError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(tensorrt_engine.importlib, "import_module", broken)
    with pytest.raises(BundleError, match=r"tensorrt does not load: libnvinfer\.so\.10"):
        opened(network, "tensorrt")


def test_the_drivers_own_words_say_why_there_is_no_gpu(gpu):
    gpu.gpus = 0
    with pytest.raises(CudaError, match="cuInit: error 100: no CUDA-capable device is detected"):
        CudaDevice()
