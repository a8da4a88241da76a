"""The memory that referee and worker share: the same arithmetic on both sides, no names on the wire.

On the host it is memory files, on a GPU CUDA's virtual memory management, by ctypes on libcuda. The referee allocates
and exports; the descriptor rides along with BUFFERS like that of a memory file, and the worker maps it. Unlike the
older ``cudaIpc`` handles this needs neither a common PID namespace nor a peer that keeps a block of an allocator alive,
and nothing is pickled. The worker can neither resize nor free the referee's mapping. PyTorch's allocator is not
involved, so its ``expandable_segments`` setting does not matter.

Source: CUDA Driver API, "Virtual Memory Management", and CUDA Programming Guide, "Inter Process Communication" there.
"""

import ctypes
import math
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch

ALIGNMENT = 64
Shapes = tuple[tuple[torch.dtype, tuple[int, ...]], ...]
LOGITS_DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
_size, _NO_FLAGS = ctypes.c_size_t, ctypes.c_uint64(0)
_PINNED, _POSIX_DESCRIPTOR, _ON_DEVICE, _READ_WRITE, _MINIMUM = 1, 1, 1, 3, 0


@dataclass(frozen=True)
class Buffers:
    """The memory that referee and worker share, in the order in which its descriptors ride along.

    inputs, targets: int64 (chunk_tokens,); logits: (slab_rows, vocabulary); state: uint8 (state_bytes,)
    device: index of the CUDA device that they are on, ``None`` for host memory; descriptors: known to the referee alone
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    logits: torch.Tensor
    state: torch.Tensor
    device: int | None
    descriptors: tuple[int, ...] = ()


def buffer_shapes(
    chunk_tokens: int, slab_rows: int, vocab_size: int, logits_dtype: torch.dtype, state_bytes: int
) -> Shapes:
    """Element type and shape of each of the four buffers."""
    tokens = (torch.int64, (chunk_tokens,))
    return tokens, tokens, (logits_dtype, (slab_rows, vocab_size)), (torch.uint8, (state_bytes,))


def logits_code(dtype: torch.dtype) -> int:
    """The code of a logits dtype in HELLO. Raises ``ValueError`` for one that the protocol does not carry."""
    if dtype not in LOGITS_DTYPES:
        raise ValueError(f"logits_dtype is {dtype}; wanted one of {', '.join(map(str, LOGITS_DTYPES))}.")
    return LOGITS_DTYPES.index(dtype)


def state_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of the state blob: the tensors in the mapping's order, each from a multiple of 64 bytes on."""
    return sum(_aligned(t.numel() * t.element_size()) for t in tensors.values())


def state_views(tensors: Mapping[str, torch.Tensor], blob: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views into ``blob`` (uint8, shape (state_bytes,)) with the names, shapes and dtypes of ``tensors``."""
    views, at = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        views[name] = blob[at : at + size].view(tensor.dtype).view(tensor.shape)
        at += _aligned(size)
    return views


def _aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def map_tensor(fd: int, dtype: torch.dtype, shape: tuple[int, ...], device: int | None = None) -> torch.Tensor:
    """A tensor over the memory behind ``fd``, a file's or a CUDA device's, without a copy; no elements map nothing."""
    count = math.prod(shape)
    if device is not None:
        return attach(fd, dtype.itemsize * count, device).tensor(dtype, shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mmap.mmap(fd, count * dtype.itemsize), dtype=dtype, count=count).view(shape)


class DeviceMemoryError(RuntimeError):
    """The driver refused; the text names the call and its reason."""


class DeviceMemory:
    """A mapping of ``size`` bytes on a CUDA device. Views keep this object alive; ``close`` is the owner's business."""

    def __init__(self, handle: int, size: int, device: int) -> None:
        self.size, self.device, self._handle = size, device, handle
        address = ctypes.c_uint64()
        _call("cuMemAddressReserve", ctypes.byref(address), _size(size), _size(0), ctypes.c_uint64(0), _NO_FLAGS)
        self.address = address.value
        _call("cuMemMap", address, _size(size), _size(0), ctypes.c_uint64(handle), _NO_FLAGS)
        access = struct.pack("3i", _ON_DEVICE, device, _READ_WRITE)  # CUmemAccessDesc
        _call("cuMemSetAccess", address, _size(size), access, _size(1))

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """A view of the first elements, without a copy."""
        raw = torch.as_tensor(self, device=torch.device("cuda", self.device))
        return raw[: math.prod(shape) * dtype.itemsize].view(dtype).view(shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """What ``torch.as_tensor`` needs to see all of it as uint8."""
        pointer = self.address, False
        return {"shape": (self.size,), "typestr": "|u1", "data": pointer, "version": 3, "strides": None}

    def close(self) -> None:
        """Unmap and release; no view may be used afterwards. Safe to call twice."""
        if self.address:
            torch.cuda.synchronize(self.device)
            address, self.address = ctypes.c_uint64(self.address), 0
            _call("cuMemUnmap", address, _size(self.size))
            _call("cuMemAddressFree", address, _size(self.size))
            _call("cuMemRelease", ctypes.c_uint64(self._handle))


def allocate(size: int, device: int) -> tuple[DeviceMemory, int]:
    """At least ``size`` bytes, zeroed, and a descriptor that exports them; the caller closes both."""
    _make_current(device)
    whole = _whole(size, device)
    handle, descriptor = ctypes.c_uint64(), ctypes.c_int(-1)
    _call("cuMemCreate", ctypes.byref(handle), _size(whole), _properties(device), _NO_FLAGS)
    _call("cuMemExportToShareableHandle", ctypes.byref(descriptor), handle, _POSIX_DESCRIPTOR, _NO_FLAGS)
    memory = DeviceMemory(handle.value, whole, device)
    memory.tensor(torch.uint8, (whole,)).zero_()
    torch.cuda.synchronize(device)
    return memory, descriptor.value


def attach(descriptor: int, size: int, device: int) -> DeviceMemory:
    """Map what ``allocate(size, device)`` exported. The descriptor stays the caller's."""
    _make_current(device)
    handle = ctypes.c_uint64()
    imported = ctypes.c_void_p(descriptor)  # the driver takes the descriptor's value in place of a pointer
    _call("cuMemImportFromShareableHandle", ctypes.byref(handle), imported, _POSIX_DESCRIPTOR)
    return DeviceMemory(handle.value, _whole(size, device), device)


def settle(device: int | None) -> None:
    """Wait until this process's work on the device is done, so that the peer sees it. Nothing for host memory."""
    if device is not None:
        torch.cuda.current_stream(device).synchronize()


def shared_device() -> int | None:
    """The CUDA device whose memory the referee can share with a worker; ``None`` where there is none."""
    if not torch.cuda.is_available():
        return None
    try:
        memory, descriptor = allocate(1, 0)
    except DeviceMemoryError:
        return None
    os.close(descriptor)
    memory.close()
    return 0


@cache
def _whole(size: int, device: int) -> int:
    """``size`` rounded up to the device's granularity, at least one granule; the same on both sides."""
    granule = ctypes.c_size_t()
    _call("cuMemGetAllocationGranularity", ctypes.byref(granule), _properties(device), _MINIMUM)
    return max(1, -(-size // granule.value)) * granule.value


def _properties(device: int) -> bytes:
    """CUmemAllocationProp: kind, kind of handle, place; a pointer for Windows and flags stay 0."""
    return struct.pack("4iP8x", _PINNED, _POSIX_DESCRIPTOR, _ON_DEVICE, device, 0)


def _make_current(device: int) -> None:
    torch.cuda.set_device(device)
    torch.empty(1, device=torch.device("cuda", device))  # makes PyTorch's context the current one of this thread


def _call(name: str, *arguments: object) -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceMemoryError(f"the CUDA driver cannot be loaded: {error}") from None
    function: Callable[..., int] = getattr(driver, name)
    if code := function(*arguments):
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        reason = text.value.decode() if text.value else "unknown error"
        raise DeviceMemoryError(f"{name} failed: {reason} ({code}).")
