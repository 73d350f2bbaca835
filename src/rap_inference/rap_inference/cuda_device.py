"""The little of the CUDA driver that running an engine takes: a device, memory, a stream.

Through the driver's own library, which is there wherever a GPU is, so no package has to match it.
Source: CUDA Driver API (context, memory and stream management).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

DRIVER = "libcuda.so.1"

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_LENGTH = 256


class CudaError(RuntimeError):
    """No usable GPU, or a call that failed; the text has the driver's own words."""


class CudaDevice:
    """The first GPU, in its primary context, which TensorRT shares.

    Attributes:
        name: Such as "NVIDIA RTX A4000 (8.6)": the compute capability in brackets.
    """

    def __init__(self) -> None:
        """Opens the device.

        Raises:
            CudaError: If there is no driver or no GPU.
        """
        try:
            self._driver = ctypes.CDLL(DRIVER)
        except OSError as error:
            raise CudaError(f"no CUDA GPU on this machine: {error}") from error
        self._call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self.name = self._name(device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context

    def use(self) -> None:
        """Makes the device current in the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Returns the address of device memory, which lives until it is freed."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value)

    def free(self, address: int) -> None:
        """Gives back what `allocate` returned."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def make_stream(self) -> int:
        """Returns the handle of a stream that does not wait for the default one."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # CU_STREAM_NON_BLOCKING
        return int(stream.value or 0)

    def end_stream(self, stream: int) -> None:
        """Gives back what `make_stream` returned."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def upload(self, address: int, values: npt.NDArray[np.float32], stream: int) -> None:
        """Copies a contiguous array to the device."""
        self._copy("cuMemcpyHtoDAsync_v2", address, values.ctypes.data, values.nbytes, stream)

    def download(self, values: npt.NDArray[np.float32], address: int, stream: int) -> None:
        """Copies device memory into a contiguous array, which is full after `finish`."""
        self._copy("cuMemcpyDtoHAsync_v2", values.ctypes.data, address, values.nbytes, stream)

    def finish(self, stream: int) -> None:
        """Waits for everything in a stream."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def _copy(self, function: str, target: int, source: int, size: int, stream: int) -> None:
        addresses = ctypes.c_uint64(target), ctypes.c_uint64(source)
        self._call(function, *addresses, ctypes.c_size_t(size), ctypes.c_void_p(stream))

    def _name(self, device: ctypes.c_int) -> str:
        name = ctypes.create_string_buffer(_NAME_LENGTH)
        self._call("cuDeviceGetName", name, _NAME_LENGTH, device)
        version = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            version.append(str(value.value))
        return f"{name.value.decode()} ({'.'.join(version)})"

    def _call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401 - ctypes' own types
        status = getattr(self._driver, function)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(status, ctypes.byref(text))
            words = text.value.decode() if text.value else "unknown error"
            raise CudaError(f"{function}: error {status}: {words}")
