"""A network as a list of steps over images with the channels last, which C can compute.

Every step says exactly what it computes: integers, or floats in a stated order of operations.
`halut.nn.c_export.trace` makes the steps of a PyTorch network, `halut.nn.c_export.reference`
computes them in NumPy, `halut.nn.c_export.emit` writes them in C. All three give the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Add",
    "Affine",
    "Clamp",
    "Grid",
    "LookUp",
    "Maximum",
    "Mean",
    "Network",
    "Product",
    "Quantise",
    "Scaled",
    "Stage",
    "Step",
    "Sums",
    "Terms",
    "Value",
    "Window",
    "Words",
]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """What 8-bit words stand for: ``(word - zero) * scale``."""

    scale: float
    zero: int

    def values(self, words: NDArray[Any]) -> NDArray[np.float32]:
        """Return what words stand for, rounded once."""
        return ((words.astype(np.int64) - self.zero) * self.scale).astype(np.float32)


@dataclass(eq=False)
class Value:
    """What a step computes, or the network's input.

    Attributes
    ----------
    name : str
    shape : (height, width, channels)
        Rows of a linear layer are one pixel.
    kind : {"f32", "i32", "i16", "i8"}
    places : intp ndarray of shape (n_features,) or None
        Behind flattening: where feature i of the PyTorch network lies. None: at i.
    grid : Grid or None
        Of words that stand for floats.
    base : Value or None
        The value whose memory this one is, seen as another shape.
    """

    name: str
    shape: Shape
    kind: str = "f32"
    places: NDArray[np.intp] | None = None
    grid: Grid | None = None
    base: Value | None = None

    @property
    def memory(self) -> Value:
        """The value whose memory this one is: itself, but for flattened ones."""
        return self if self.base is None else self.base.memory

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of all of them."""
        return self.size * {"f32": 4, "i32": 4, "i16": 2, "i8": 1}[self.kind]


@dataclass(frozen=True)
class Window:
    """A kernel that moves over an image: each pair is of rows and columns."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    """Above, and on the left."""

    def taps(self, source: Shape, out: Shape) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return for every output pixel and kernel position the pixel under it.

        Returns
        -------
        pixel : intp ndarray of shape (out height * out width, kernel area)
            0 outside of the image.
        valid : bool ndarray of that shape
            Whether it is on the image.
        """
        places, on_axis = [], []
        for axis in range(2):
            first = np.arange(out[axis])[:, None] * self.stride[axis] - self.padding[axis]
            place = first + np.arange(self.kernel[axis]) * self.dilation[axis]  # (out, kernel)
            places.append(place)
            on_axis.append((place >= 0) & (place < source[axis]))
        pixel = places[0][:, None, :, None] * source[1] + places[1][None, :, None, :]
        valid = on_axis[0][:, None, :, None] & on_axis[1][None, :, None, :]
        flat = (out[0] * out[1], math.prod(self.kernel))
        return np.where(valid, pixel, 0).reshape(flat), np.broadcast_to(
            valid, (out[0], out[1], *self.kernel)
        ).reshape(flat)


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """How floats become words, and words sums.

    Attributes
    ----------
    signs : int64 ndarray of shape (G, C, T, terms), range [-1, 1]
        A word is added, its complement is, or nothing.
    scale, offset : float32 ndarray of shape (G, C, T)
        ``word = clip(rint((value - offset) / scale))`` in float64.
    bits : int
        Of a word.
    """

    signs: NDArray[np.int64]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    bits: int


@dataclass(frozen=True, eq=False)
class Sums:
    """Integer sums, stored as they are, or 0 if `relu` and below; see ``halut_stage``."""

    relu: bool = False


@dataclass(frozen=True, eq=False)
class Scaled:
    """Floats of sums: sum * scale + offset, rounded after each operation.

    Attributes
    ----------
    scale, offset : float32 ndarray of shape (n_channels,)
    relu : bool
        Whether sums below 0 become 0 before.
    """

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Words:
    """Words of sums: floor((sum * multiplier + addend) / 2**shift), from `low` to 127.

    Attributes
    ----------
    multiplier, shift, addend, low : int64 ndarray of shape (n_channels,)
        Ranges: signed 32, unsigned 6, signed 63 and signed 8 bits.
    grid : (float, float) or None
        When given, floats of the words: word * grid[0] + grid[1].
    """

    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    addend: NDArray[np.int64]
    low: NDArray[np.int64]
    grid: tuple[float, float] | None = None


Stage = Sums | Scaled | Words
"""What becomes of an integer sum."""


@dataclass(kw_only=True, eq=False)
class Step:
    """One operation: reads values, makes one."""

    inputs: list[Value]
    output: Value

    @property
    def name(self) -> str:
        """Of what it makes."""
        return self.output.name


@dataclass(kw_only=True, eq=False)
class LookUp(Step):
    """A looked-up product of G groups, C codebooks, depth T, K = 2**T, M outputs per group.

    Attributes
    ----------
    tap, channel : int64 ndarray of shape (G, C, T)
        What the levels read: position in the kernel, row by row, and channel. For sums of shape
        (G, C, T, terms); for nodes that read a value each (G, C, K - 1).
    thresholds : int64 ndarray of shape (G, C, K - 1)
        Greater goes right. For float inputs keys, see `halut.nn.c_export.thresholds`; for sums
        sums of words.
    pad : int64 ndarray of shape (n_channels,) or None
        Integers outside of the image; None: 0.
    table : int64 ndarray of shape (G, C, K, M)
    lut_bits : int
    terms : Terms or None
        What makes words of floats, and sums of these, where levels compare sums.
    """

    window: Window
    tap: NDArray[np.int64]
    channel: NDArray[np.int64]
    thresholds: NDArray[np.int64]
    pad: NDArray[np.int64] | None
    table: NDArray[np.int64]
    lut_bits: int
    stage: Stage
    terms: Terms | None = None

    @property
    def reads(self) -> str:
        """What reads values: ``"levels"``, ``"sums"`` of them, or ``"nodes"``."""
        if self.terms is not None:
            return "sums"
        depth = self.thresholds.shape[2].bit_length()
        return "levels" if self.tap.shape[2] == depth else "nodes"


@dataclass(kw_only=True, eq=False)
class Product(Step):
    """An exact product; weights of float32 or, as integers, int64, of shape (G, M, D).

    Floats are added one after the other, features in the order of the kernel's positions, then
    channels; then `bias` (n_channels,) is added. Integers go through `stage`.
    """

    window: Window
    weights: NDArray[np.float32] | NDArray[np.int64]
    bias: NDArray[np.float32] | None = None
    pad: int = 0
    stage: Stage = field(default_factory=Sums)


@dataclass(kw_only=True, eq=False)
class Affine(Step):
    """value * scale + offset per channel, rounded once (`fused`) or after each operation."""

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    fused: bool


@dataclass(kw_only=True, eq=False)
class Clamp(Step):
    """Values below `low` become it, values above `high`, if that is not None."""

    low: float = 0.0
    high: float | None = None


@dataclass(kw_only=True, eq=False)
class Maximum(Step):
    """Largest value under a kernel, channel by channel."""

    window: Window


@dataclass(kw_only=True, eq=False)
class Mean(Step):
    """Mean under a kernel: values added row by row, then divided; words go through `stage`."""

    window: Window
    stage: Stage = field(default_factory=Sums)


@dataclass(kw_only=True, eq=False)
class Add(Step):
    """a + b; words: floor((a * multipliers[0] + b * multipliers[1] + addend) / 2**shift)."""

    multipliers: tuple[int, int] = (0, 0)
    addend: int = 0
    shift: int = 0
    low: int = -128


@dataclass(kw_only=True, eq=False)
class Quantise(Step):
    """Floats as words: clip(rint(value * inverse) + zero)."""

    inverse: np.float32
    zero: int


@dataclass(eq=False)
class Network:
    """Steps in the order of computation; the last one's output is the network's."""

    input: Value
    steps: list[Step]

    @property
    def output(self) -> Value:
        """What the network computes."""
        return self.steps[-1].output

    def readers(self, value: Value) -> list[Step]:
        """Return the steps that read a value's memory, as whatever shape."""
        memory = value.memory
        return [step for step in self.steps if any(memory is one.memory for one in step.inputs)]
