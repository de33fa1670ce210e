"""What an accelerator does with its accumulators before they leave.

- ``"raw"``: nothing.
- ``"fp16"``: ``accumulator * scale + offset`` as one fused multiply-add, rounded once, to the
  nearest half float, ties to even; overflow gives infinity. Scale and offset are float32, one of
  each per output. Sums of half floats are converted as they are, without scale and offset.
- ``"int8"``: ``(accumulator * multiplier + addend) >> shift``, saturated to 8 bits. The shift
  rounds down; the addend holds the half that makes that rounding to nearest and, in the same
  units, the zero point, which so may have a fraction.

ReLU comes last: what is below zero becomes zero, where the zero of ``"int8"`` is the word `zero`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.arrays import checked_array
from halut.checks import one_of
from halut.errors import HalutError

__all__ = ["CONSTANTS", "OUTPUT_FORMATS", "OutputStage", "byte_grid"]

OUTPUT_FORMATS = ("raw", "fp16", "int8")

MULTIPLIER_BITS = 16
ADDEND_BITS = 48
MAX_SHIFT = ADDEND_BITS - 1
MAX_EXACT_BITS = 29
"""Bits of an accumulator whose product with a float32 a float64 holds exactly."""

CONSTANTS: dict[str, dict[str, tuple[type[np.generic], int, int]]] = {
    "raw": {},
    "fp16": {"scale": (np.float32, 0, 0), "offset": (np.float32, 0, 0)},
    "int8": {
        "multiplier": (np.int32, 0, 2**MULTIPLIER_BITS - 1),
        "shift": (np.int32, 0, MAX_SHIFT),
        "addend": (np.int64, -(2 ** (ADDEND_BITS - 1)), 2 ** (ADDEND_BITS - 1) - 1),
        "zero": (np.int32, -128, 127),
    },
}
"""Constants of every output by format: dtype, and the range of integers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputStage:
    """Format of the results, and the constants of every output.

    Parameters
    ----------
    format : {"raw", "fp16", "int8"}
    relu : bool
    scale : float32 ndarray of shape (n_outputs,)
        ``"fp16"`` only; at least 0, finite. Absent, like `offset`, for float32 accumulators.
    offset : float32 ndarray of shape (n_outputs,)
        ``"fp16"`` only; finite.
    multiplier : int32 ndarray of shape (n_outputs,), range [0, 2**16)
        This and the following: ``"int8"`` only.
    shift : int32 ndarray of shape (n_outputs,), range [0, 47]
    addend : int64 ndarray of shape (n_outputs,), range of signed 48 bits
    zero : int32 ndarray of shape (n_outputs,), range [-128, 127]
        The word that stands for 0; used by `relu` only.

    Raises
    ------
    HalutError
        When a field breaks one of these rules.

    Examples
    --------
    >>> stage = OutputStage(format="fp16", scale=[0.25], offset=[1.0])
    >>> stage.apply(np.array([[-8], [3]])).tolist()
    [[-1.0], [1.75]]
    """

    format: str = "raw"
    relu: bool = False
    scale: NDArray[Any] | None = None
    offset: NDArray[Any] | None = None
    multiplier: NDArray[Any] | None = None
    shift: NDArray[Any] | None = None
    addend: NDArray[Any] | None = None
    zero: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        one_of("output_format", self.format, OUTPUT_FORMATS)
        if not isinstance(self.relu, (bool, np.bool_)):
            raise HalutError(f"relu must be true or false, not {self.relu!r}")
        object.__setattr__(self, "relu", bool(self.relu))
        wanted = {} if self.is_plain else CONSTANTS[self.format]
        n_outputs: int | None = None
        for name in {name for fields in CONSTANTS.values() for name in fields}:
            if name not in CONSTANTS[self.format] and getattr(self, name) is not None:
                raise HalutError(f'{name} must be absent for output_format "{self.format}"')
        for name, (dtype, low, high) in wanted.items():
            array = checked_array(name, getattr(self, name), dtype, (n_outputs,))
            n_outputs = len(array)
            if dtype is np.float32 and not np.isfinite(array).all():
                raise HalutError(f"{name} must be finite")
            if name == "scale" and np.signbit(array).any():
                raise HalutError(f"scale must be at least 0, not {array.min()}")
            if dtype is not np.float32 and (array.min() < low or array.max() > high):
                raise HalutError(
                    f"{name} must be in [{low}, {high}], not {array.min()} to {array.max()}"
                )
            object.__setattr__(self, name, array)

    @property
    def is_plain(self) -> bool:
        """Whether float32 accumulators are rounded to half floats, without constants."""
        return self.format == "fp16" and self.scale is None and self.offset is None

    @property
    def constants(self) -> dict[str, NDArray[Any]]:
        """The arrays of this format by name."""
        names = () if self.is_plain else CONSTANTS[self.format]
        return {name: getattr(self, name) for name in names}

    def select(self, outputs: NDArray[np.integer]) -> OutputStage:
        """Return the stage of some outputs, named by index; the same may come several times."""
        return replace(self, **{name: array[outputs] for name, array in self.constants.items()})

    def apply(self, accumulators: ArrayLike) -> NDArray[Any]:
        """Turn accumulators into results, bit by bit as the hardware does.

        Parameters
        ----------
        accumulators : ndarray of shape (n_rows, n_outputs)
            Integers, of up to 29 bits for ``"fp16"``, 32 for ``"int8"``; or, for ``"raw"`` and
            ``"fp16"`` without constants, float32.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            The dtype of the accumulators for ``"raw"``, float16 or int8.
        """
        sums = np.asarray(accumulators)
        if self.format == "raw":
            if not self.relu:
                return sums
            negative = np.signbit(sums) if sums.dtype.kind == "f" else sums < 0
            return np.where(negative & (sums == sums), sums.dtype.type(0), sums)
        if self.is_plain != (sums.dtype.kind == "f"):
            rule = "float32 without scale and offset, integers with them"
            raise HalutError(
                f'accumulators must be {rule}, not {sums.dtype}, for output_format "{self.format}"'
            )
        if self.is_plain:
            with np.errstate(over="ignore"):
                return self._rectified(sums.astype(np.float16))
        limit = 2 ** ((MAX_EXACT_BITS if self.format == "fp16" else 32) - 1)
        if sums.size and (sums.min() < -limit or sums.max() >= limit):
            raise HalutError(
                f'accumulators must be in [{-limit}, {limit - 1}] for output_format "{self.format}"'
            )
        if self.format == "fp16":
            return self._rectified(_fused(sums, self.constants["scale"], self.constants["offset"]))
        constants = {name: array.astype(np.int64) for name, array in self.constants.items()}
        scaled = sums.astype(np.int64) * constants["multiplier"] + constants["addend"]
        low = constants["zero"] if self.relu else -128
        return np.clip(scaled >> constants["shift"], low, 127).astype(np.int8)

    def _rectified(self, halves: NDArray[np.float16]) -> NDArray[np.float16]:
        """Half floats after ReLU, where there is one; no NaN has a sign."""
        return np.where(np.signbit(halves), np.float16(0), halves) if self.relu else halves


def _fused(
    sums: NDArray[Any], scale: NDArray[np.float32], offset: NDArray[np.float32]
) -> NDArray[np.float16]:
    """Return ``sums * scale + offset``, rounded once."""
    product = sums.astype(np.float64) * scale  # exact
    addend = offset.astype(np.float64)
    total = product + addend
    # What the sum lost, exactly (Knuth's two-sum).
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    # Round to odd instead, so that rounding again to fewer bits is as if done once.
    is_even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.copysign(np.inf, lost))
    with np.errstate(over="ignore"):
        return np.where((lost != 0) & is_even, odd, total).astype(np.float16)


def byte_grid(values: ArrayLike, relu: bool = False) -> tuple[float, float]:
    """Return the scale and offset of an 8-bit grid that spans values.

    Parameters
    ----------
    values : array-like of any shape, finite
        Of the product, as far as known.
    relu : bool
        Whether what is below 0 is 0 anyway.

    Returns
    -------
    scale, offset : float
        ``word = clip(rint((value - offset) / scale))``, from -128 to 127.

    Examples
    --------
    >>> byte_grid([-1.0, 254.0])
    (1.0, 127.0)
    """
    exact = np.asarray(values, dtype=np.float64)
    low, high = float(exact.min()), float(exact.max())
    if relu:
        low, high = 0.0, max(high, 0.0)
    scale = float(np.float32((high - low) / 255)) or 1.0
    return scale, float(np.float32(low + 128 * scale))


def byte_stage(
    lut_scale: NDArray[np.float32],
    lut_offset: NDArray[np.float32],
    scale: ArrayLike,
    offset: ArrayLike,
    relu: bool,
) -> OutputStage:
    """Choose the integers that turn accumulators into words of a grid; see `byte_grid`."""
    n_outputs = len(lut_scale)
    steps = np.broadcast_to(np.asarray(scale, dtype=np.float64), (n_outputs,))
    origin = np.broadcast_to(np.asarray(offset, dtype=np.float64), (n_outputs,))
    if not (np.isfinite(steps).all() and np.isfinite(origin).all() and (steps > 0).all()):
        raise HalutError("scale must be greater than 0 and finite, and offset finite")
    ratio = lut_scale / steps
    point = (lut_offset - origin) / steps
    # As many bits of the ratio as there are, as long as the zero point has room.
    room = ADDEND_BITS - 2 - np.ceil(np.log2(np.abs(point) + 2))
    shift = np.minimum(MULTIPLIER_BITS - 1 - np.floor(np.log2(ratio)), room)
    shift = np.minimum(shift, MAX_SHIFT)
    multiplier = np.rint(np.ldexp(ratio, shift.astype(np.int64)))
    # Rounding may have made the multiplier one bit longer.
    shift = np.where(multiplier >= 2**MULTIPLIER_BITS, shift - 1, shift).astype(np.int64)
    if shift.min() < 0:
        raise HalutError(
            "scale must be at most 2**16 times smaller than the LUT's, and offset near the product"
        )
    addend = np.ldexp(point, shift) + np.ldexp(0.5, shift)
    return OutputStage(
        format="int8",
        relu=relu,
        multiplier=np.rint(np.ldexp(ratio, shift)),
        shift=shift,
        addend=np.floor(addend),
        zero=np.clip(np.rint(-origin / steps), -128, 127),
    )
