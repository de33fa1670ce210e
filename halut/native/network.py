"""Looked-up convolutions of a network in C, one after the other: where everything lies.

Between layers, values are `Planes` with zeros around every image, so that a kernel's features are
at fixed distances from a position. network.h says what the kernels do with them; here NumPy works
out the places, once for a size of images.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.native.library import Kernels

__all__ = [
    "CONVOLVE",
    "LARGEST",
    "LOAD",
    "MULTIPLY",
    "Convolution",
    "Planes",
    "Step",
    "Window",
    "by_multiplied",
    "dense_places",
    "make_trees",
    "multiplies",
    "plan",
    "room_bytes",
    "run",
]

LOAD, CONVOLVE, LARGEST, MULTIPLY = range(4)
"""Kinds of steps."""

_TILE, _LANES, _QUAD, _MULTIPLIED = 64, 16, 4, 8
_CODES_BYTES, _BAND_SLOTS = 3 << 18, 2048
"""Of a band, at most: codes in the cache of the second level, a line in the first one's."""

_Places = NDArray[np.int64]


class Step(ctypes.Structure):
    """`Step` of network.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in (
            "kind", "n_items", "channels", "height", "width", "row_step", "item_step",
            "out_row_step", "out_item_step", "by_pixel", "in_step", "out_step", "other_step",
            "groups", "n_codebooks", "depth", "n_outputs", "n_features", "wrap_bits", "relu",
            "pool", "rectify", "rectify_sum", "norm_once", "n_bands",
        )),
        *((name, ctypes.c_void_p) for name in (
            "x", "out", "other", "places", "trees", "weights", "tables", "scale", "offset",
            "norm_scale", "norm_offset", "bands", "slots", "first_run", "runs",
        )),
    )  # fmt: skip


@dataclass(frozen=True)
class Planes:
    """Images in memory, a plane of float32 for every channel.

    A plane holds the rows of all images one after the other. Zeros follow every row and every
    image, and come before the first one: as many columns, or rows, as the margin says.
    """

    n_items: int
    channels: int
    height: int
    width: int
    margin: int

    @property
    def row_step(self) -> int:
        """Floats from a row to the next one."""
        return self.width + self.margin

    @property
    def item_step(self) -> int:
        """Floats from an image to the next one."""
        return (self.height + self.margin) * self.row_step

    @property
    def first(self) -> int:
        """Where in a plane the first image begins."""
        return self.margin * (self.row_step + 1)

    @property
    def step(self) -> int:
        """Floats of a plane; vectors may be read past the last image."""
        return -(-(self.first + self.n_items * self.item_step) // _LANES) * _LANES + 3 * _LANES

    def places(self) -> _Places:
        """Return where in a plane every value is: (items, height, width)."""
        return self.from_corner(0, 0, (1, 1), (self.height, self.width))

    def from_corner(
        self, above: int, left: int, stride: tuple[int, int], size: tuple[int, int]
    ) -> _Places:
        """Return where in a plane windows begin that overlap the margin: (items, height, width)."""
        items = self.first + np.arange(self.n_items) * self.item_step
        rows = (np.arange(size[0]) * stride[0] - above) * self.row_step
        columns = np.arange(size[1]) * stride[1] - left
        places: _Places = items[:, None, None] + rows[:, None] + columns
        return places


def dense_places(n_items: int, channels: int, height: int, width: int) -> _Places:
    """Return where values (items, height, width) of channel 0 are in contiguous images."""
    at = np.arange(n_items)[:, None, None] * (channels * height * width)
    places: _Places = at + np.arange(height * width).reshape(height, width)
    return places


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation (each down, across), and padding (left, right, above, below)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    sides: tuple[int, int, int, int]


@dataclass(frozen=True)
class Convolution:
    """Where a convolution reads and writes; arrays as `Step` of network.h says.

    Attributes
    ----------
    places : int64 ndarray of shape (groups, codebooks filled up to a multiple of 4, depth)
    bands : int64 ndarray of shape (n_bands, 4)
    slots : int32 ndarray of shape (tiles, 64)
    first_run : int32 ndarray of shape (tiles + 1,)
    runs : int32 ndarray of shape (n_runs, 4)
    """

    places: NDArray[np.int64]
    bands: NDArray[np.int64]
    slots: NDArray[np.int32]
    first_run: NDArray[np.int32]
    runs: NDArray[np.int32]

    def fill(self, step: Step) -> None:
        """Give a step these arrays, which must outlive it."""
        step.n_bands = len(self.bands)
        for name in ("places", "bands", "slots", "first_run", "runs"):
            setattr(step, name, getattr(self, name).ctypes.data)


def plan(
    planes: Planes,
    window: Window,
    dims: NDArray[np.int64],
    size: tuple[int, int],
    *,
    pool: bool,
    to: _Places,
    other: _Places | None,
) -> Convolution:
    """Work out what a convolution reads and where its results go.

    Parameters
    ----------
    planes : Planes
        What it reads; the margin is at least the padding.
    window : Window
    dims : int64 ndarray of shape (groups, codebooks, depth)
        Features ``(channel * height + row) * width + column`` of a group's channels and the kernel.
    size : tuple of int
        Height and width of the output before pooling.
    pool : bool
        Whether two by two values become their largest one.
    to : int64 ndarray of shape (items, height, width)
        Where results of the first output go.
    other : int64 ndarray of that shape or None
        Where what is added to them is.
    """
    left, _, above, _ = window.sides
    at = planes.from_corner(above, left, window.stride, size)
    if pool:
        height, width = size[0] // 2 * 2, size[1] // 2 * 2
        phases = [at[:, y:height:2, x:width:2].ravel() for y in (0, 1) for x in (0, 1)]
        slots = np.stack([_filled(phase, _LANES) for phase in phases], axis=1)  # (tiles, 4, 16)
    else:
        slots = _filled(at.ravel(), _TILE)
    slots = slots.reshape(-1, _TILE)
    bands = _bands(slots, dims.shape[1])
    per_tile = _LANES if pool else _TILE
    first_run, runs = _runs(to.ravel(), None if other is None else other.ravel(), per_tile)
    return Convolution(
        _feature_places(planes, window, dims), bands, slots.astype(np.int32), first_run, runs
    )


def _filled(places: _Places, size: int) -> _Places:
    """Return places in rows of a size, the last one filled up with the last place."""
    n_more = -len(places) % size
    return np.concatenate([places, np.repeat(places[-1:], n_more)]).reshape(-1, size)


def _feature_places(planes: Planes, window: Window, dims: NDArray[np.int64]) -> NDArray[np.int64]:
    groups, n_codebooks, _ = dims.shape
    height, width = window.kernel
    group = np.arange(groups)[:, None, None] * (planes.channels // groups)
    channel = dims // (height * width) + group
    row = dims // width % height * window.dilation[0]
    column = dims % width * window.dilation[1]
    places = channel * planes.step + row * planes.row_step + column
    last = np.repeat(places[:, -1:], -n_codebooks % _QUAD, axis=1)
    return np.ascontiguousarray(np.concatenate([places, last], axis=1), dtype=np.int64)


def _bands(slots: _Places, n_codebooks: int) -> NDArray[np.int64]:
    """Cut tiles into bands; slots become places in their band's line."""
    code_bytes = -(-n_codebooks // _QUAD) * _QUAD * _TILE
    most = max(1, min(_CODES_BYTES // code_bytes, _BAND_SLOTS // _TILE))
    n_bands = -(-len(slots) // most)
    ends = len(slots) * np.arange(n_bands + 1) // n_bands
    bands = np.empty((n_bands, 4), dtype=np.int64)
    for band, begin, end in zip(bands, ends, ends[1:], strict=False):
        part = slots[begin:end]
        low, high = part.min(), part.max()
        band[:] = low, high - low + 1, begin, end - begin
        part -= low
    return bands


def _runs(
    to: _Places, other: _Places | None, per_tile: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find neighbouring results that go to neighbouring places, at most 16 together."""
    index = np.arange(len(to))
    breaks = (index % per_tile == 0) | (np.diff(to, prepend=to[:1]) != 1)
    if other is not None:
        breaks |= np.diff(other, prepend=other[:1]) != 1
    begins = np.flatnonzero(breaks)
    lengths = np.diff(begins, append=len(to))
    n_pieces = -(-lengths // _LANES)
    piece = np.arange(n_pieces.sum()) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    begin = np.repeat(begins, n_pieces) + piece * _LANES
    length = np.minimum(np.repeat(begins + lengths, n_pieces) - begin, _LANES)
    source = np.zeros_like(begin) if other is None else other[begin]
    runs = np.stack([begin % per_tile, length, to[begin], source], axis=1).astype(np.int32)
    n_tiles = -(-len(to) // per_tile)
    first_run = np.searchsorted(begin, np.arange(n_tiles + 1) * per_tile).astype(np.int32)
    return first_run, runs


def make_trees(chosen: Kernels, thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay out thresholds (groups, codebooks, 2**depth - 1), breadth-first, for a variant."""
    groups, n_codebooks, n_nodes = thresholds.shape
    depth = (n_nodes + 1).bit_length() - 1
    n_floats = chosen.library.halut_tree_floats(chosen.index, depth)
    trees = np.empty((groups, -(-n_codebooks // _QUAD) * _QUAD, n_floats), dtype=np.float32)
    thresholds = np.ascontiguousarray(thresholds)
    chosen.call(
        "halut_make_trees", groups, n_codebooks, depth, thresholds.ctypes.data, trees.ctypes.data
    )
    return trees


def by_multiplied(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay out weights (outputs, features) as `MULTIPLY` reads them, filled up with zeros."""
    n_outputs, n_features = weights.shape
    filled = np.zeros((-(-n_outputs // _MULTIPLIED) * _MULTIPLIED, n_features), dtype=np.float32)
    filled[:n_outputs] = weights
    return np.ascontiguousarray(filled.reshape(-1, _MULTIPLIED, n_features).swapaxes(1, 2))


def multiplies(chosen: Kernels) -> bool:
    """Say whether a variant has steps of the kind `MULTIPLY`."""
    return bool(chosen.library.halut_multiplies(chosen.index))


def room_bytes(convolutions: Sequence[Convolution]) -> tuple[int, int]:
    """Return how many bytes steps need: for a line, a multiple of 64, and in all."""
    line = max(int(one.bands[:, 1].max()) for one in convolutions)
    line_bytes = -(-(line + _TILE) * 4 // 64) * 64
    codes = max(int(one.bands[:, 3].max()) * one.places.shape[1] * _TILE for one in convolutions)
    return line_bytes, line_bytes + codes


def run(chosen: Kernels, steps: ctypes.Array[Any], room: int, line_bytes: int) -> None:
    """Do steps.

    Parameters
    ----------
    chosen : Kernels
    steps : array of Step
    room : int
        Address of `room_bytes`, a multiple of 64.
    line_bytes : int
        See `room_bytes`.
    """
    chosen.call("halut_network", ctypes.addressof(steps), len(steps), room, line_bytes)
