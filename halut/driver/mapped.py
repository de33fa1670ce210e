"""Registers and memory of a board, mapped into this process."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from halut.errors import HalutError

__all__ = ["MappedMemory", "MappedRegisters"]


def _map(path: str | os.PathLike[str], offset: int, size: int) -> mmap.mmap:
    if offset % mmap.PAGESIZE:
        raise HalutError(
            f"offset must be a multiple of {mmap.PAGESIZE}, not {offset:#x} ({os.fspath(path)})"
        )
    handle = os.open(Path(path), os.O_RDWR | os.O_SYNC)
    try:
        return mmap.mmap(handle, size, offset=offset)
    finally:
        os.close(handle)


class MappedRegisters:
    """Registers of a block behind a file that can be mapped.

    Parameters
    ----------
    path : path-like
        ``/dev/uio0``, or ``/dev/mem``.
    offset : int, default 0
        Where they begin: 0 for UIO, the physical address for ``/dev/mem``.
    size : int, default 4096
        Bytes.
    """

    def __init__(self, path: str | os.PathLike[str], offset: int = 0, size: int = 4096) -> None:
        # 32 bits at a time: a device takes no other accesses.
        self._words = memoryview(_map(path, offset, size)).cast("I")

    def read(self, offset: int) -> int:
        """Read the register at a byte offset."""
        return self._words[offset // 4]

    def write(self, offset: int, value: int) -> None:
        """Write the register at a byte offset."""
        self._words[offset // 4] = value


class MappedMemory:
    """Memory that the block's bus master reaches, and this process, too.

    Parameters
    ----------
    path : path-like
        ``/dev/mem``, a reserved region's device, or ``/dev/udmabuf0``. It must not be cached, or be
        coherent.
    address : int
        Where it begins on the bus.
    size : int
        Bytes.
    offset : int, default 0
        Where it begins in the file.
    """

    def __init__(
        self, path: str | os.PathLike[str], address: int, size: int, offset: int = 0
    ) -> None:
        self.address = address
        self.size = size
        self._map = _map(path, offset, size)

    def read(self, address: int, size: int) -> bytes:
        """Read bytes at an address of the bus."""
        begin = address - self.address
        return self._map[begin : begin + size]

    def write(self, address: int, data: bytes) -> None:
        """Write bytes at an address of the bus."""
        begin = address - self.address
        self._map[begin : begin + len(data)] = data
