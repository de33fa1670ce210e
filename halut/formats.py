"""Number formats of the values that trees compare.

Floating formats are sign, exponent, mantissa, as in IEEE 754: ``fp16`` (binary16), ``bf16``,
``fp8_e5m2``, and ``fp8_e4m3`` of the OCP 8-bit specification, which has no infinities: all bits
but the sign set is NaN, the next smaller magnitude 448. What all of them have in common is that
magnitudes, taken as integers, are in the order of the values. So a comparison of values is one of
signed integers, whatever the format: see `FloatFormat.keys`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.errors import HalutError, closest

__all__ = [
    "FLOAT_FORMATS",
    "HALF_BITS",
    "FloatFormat",
    "check_half_tables",
    "check_sums",
    "input_format_bits",
]


HALF_BITS = 16
"""Bits of a table entry that is a half float."""


@dataclass(frozen=True, kw_only=True)
class FloatFormat:
    """A floating format of up to 16 bits.

    Parameters
    ----------
    name : str
    exponent_bits, mantissa_bits : int
    has_infinity : bool
        Whether an exponent of ones means infinity or NaN, as in IEEE 754. Otherwise only all ones
        is NaN.

    Examples
    --------
    >>> e4m3 = FLOAT_FORMATS["fp8_e4m3"]
    >>> e4m3.bits, e4m3.largest_finite
    (8, 448.0)
    >>> [hex(word) for word in e4m3.words([1.0, -0.0, 1e6, float("nan")])]
    ['0x38', '0x80', '0x7e', '0x7f']
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    has_infinity: bool = True

    @property
    def bits(self) -> int:
        """Width of a word."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """Type of an array of words: uint8 or uint16."""
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def largest(self) -> int:
        """Largest magnitude that is not NaN, as an integer."""
        ones = (1 << (self.bits - 1)) - 1
        return ones >> self.mantissa_bits << self.mantissa_bits if self.has_infinity else ones - 1

    @property
    def largest_finite(self) -> float:
        """Largest finite value."""
        return float(self._magnitudes(np.array(self.largest - int(self.has_infinity))))

    @property
    def _lowest_exponent(self) -> int:
        """Exponent of the smallest normal value."""
        return 2 - (1 << (self.exponent_bits - 1))

    def _magnitudes(self, magnitudes: NDArray[Any]) -> NDArray[np.float64]:
        """Values of magnitudes; infinity counts as the power of two that follows."""
        exponent = magnitudes >> self.mantissa_bits
        mantissa = magnitudes & ((1 << self.mantissa_bits) - 1)
        mantissa = mantissa + np.where(exponent > 0, 1 << self.mantissa_bits, 0)
        shift = np.maximum(exponent, 1) - 1 + self._lowest_exponent - self.mantissa_bits
        return np.ldexp(mantissa.astype(np.float64), shift)

    def words(self, values: ArrayLike) -> NDArray[Any]:
        """Round values to the nearest of the format, ties to even.

        What is beyond becomes infinity as in IEEE 754 or, in a format that has none, the largest
        finite value.

        Parameters
        ----------
        values : array-like of any shape, real
            Taken as float64.

        Returns
        -------
        ndarray of that shape
            Bit patterns, uint8 or uint16.
        """
        given = np.asarray(values)
        if self.name == "fp16":
            with np.errstate(over="ignore"):
                return given.astype(np.float16).view(np.uint16)
        exact = given.astype(np.float64)
        finite = np.isfinite(exact)
        size = np.where(finite, np.abs(exact), 0)
        lowest = self._lowest_exponent
        exponent = np.where(size > 0, np.maximum(np.frexp(size)[1] - 1, lowest), lowest)
        # The leading one of the mantissa adds one to the exponent: also when rounding made it.
        magnitude = np.rint(np.ldexp(size, self.mantissa_bits - exponent)).astype(np.int64)
        magnitude += (exponent.astype(np.int64) - lowest) << self.mantissa_bits
        magnitude = np.where(finite, np.minimum(magnitude, self.largest), self.largest)
        nan = self.largest + 1 if not self.has_infinity else (
            self.largest | 1 << (self.mantissa_bits - 1)
        )  # fmt: skip
        magnitude = np.where(np.isnan(exact), nan, magnitude)
        sign = np.signbit(exact).astype(np.int64) << (self.bits - 1)
        return (magnitude | sign).astype(self.dtype)

    def overflows(self, values: ArrayLike) -> int:
        """Count finite values that `words` turns into infinity or, without one, saturates.

        Examples
        --------
        >>> FLOAT_FORMATS["fp16"].overflows([65519, 65520, -1e6, float("inf")])
        2
        """
        exact = np.asarray(values)
        size = np.abs(exact[np.isfinite(exact)].astype(np.float64))
        step = 2.0 ** (np.frexp(self.largest_finite)[1] - 1 - self.mantissa_bits)
        limit = self.largest_finite + step / 2  # where rounding leaves the largest value
        return int(np.count_nonzero(size >= limit if self.has_infinity else size > limit))

    def values(self, words: ArrayLike) -> NDArray[np.float32]:
        """Return the values of words, exactly, as float32.

        Parameters
        ----------
        words : integer array-like of any shape
            Bit patterns.

        Returns
        -------
        float32 ndarray of that shape
        """
        patterns = np.asarray(words).astype(np.int64)
        magnitude = patterns & ((1 << (self.bits - 1)) - 1)
        size = self._magnitudes(magnitude)
        if self.has_infinity:
            size = np.where(magnitude == self.largest, np.inf, size)
        size = np.where(magnitude > self.largest, np.nan, size).astype(np.float32)
        return np.where(patterns >> (self.bits - 1) & 1, -size, size)

    def keys(self, words: NDArray[Any]) -> NDArray[np.int32]:
        """Return integers that compare as the values of words do.

        Parameters
        ----------
        words : unsigned integer ndarray of any shape
            Bit patterns.

        Returns
        -------
        int32 ndarray of that shape, range of signed `bits` bits
            Signed magnitudes; 0 for both zeros, the lowest integer for every NaN.
        """
        sign_bit = 1 << (self.bits - 1)
        magnitude = (words & (sign_bit - 1)).astype(np.int32)
        keys = np.where(words >= sign_bit, -magnitude, magnitude)
        return np.where(magnitude > self.largest, -sign_bit, keys).astype(np.int32)

    def thresholds(self, exact: ArrayLike) -> NDArray[Any]:
        """Choose words that decide on rounded inputs as nearly as `exact` does on exact ones.

        A rounded input is greater than a word from halfway to the next word on; that place is
        chosen nearest.

        Parameters
        ----------
        exact : array-like of any shape, finite

        Returns
        -------
        ndarray of that shape
            Bit patterns, never of NaN or plus infinity.
        """
        wanted = np.asarray(exact, dtype=np.float64)
        top = self.largest - int(self.has_infinity)
        edge = self.largest_finite
        nearest = self.keys(self.words(np.clip(wanted, -edge, edge))).astype(np.int64)
        below = nearest - (self._key_values(nearest) > wanted)
        # Three, because the steps are of two sizes around a power of two.
        choices = np.clip(np.stack([below, below - 1, below + 1]), -self.largest, top)
        decides = (self._key_values(choices) + self._key_values(choices + 1)) / 2
        best = np.abs(decides - wanted).argmin(axis=0)
        keys = np.take_along_axis(choices, best[None], axis=0)[0]
        sign = (keys < 0).astype(np.int64) << (self.bits - 1)
        return (np.abs(keys) | sign).astype(self.dtype)

    def _key_values(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.sign(keys) * self._magnitudes(np.abs(keys))


FLOAT_FORMATS = {
    each.name: each
    for each in (
        FloatFormat(name="fp16", exponent_bits=5, mantissa_bits=10),
        FloatFormat(name="bf16", exponent_bits=8, mantissa_bits=7),
        FloatFormat(name="fp8_e4m3", exponent_bits=4, mantissa_bits=3, has_infinity=False),
        FloatFormat(name="fp8_e5m2", exponent_bits=5, mantissa_bits=2),
    )
}
"""The floating formats by name."""


def input_format_bits(input_format: str) -> int:
    """Return the width of an input word in bits.

    Parameters
    ----------
    input_format : str
        One of `FLOAT_FORMATS`, or ``"int2"`` to ``"int16"``.

    Returns
    -------
    int
        2 to 16.

    Raises
    ------
    HalutError
        For any other format.

    Examples
    --------
    >>> input_format_bits("fp16"), input_format_bits("fp8_e4m3"), input_format_bits("int8")
    (16, 8, 8)
    """
    if isinstance(input_format, str):
        if input_format in FLOAT_FORMATS:
            return FLOAT_FORMATS[input_format].bits
        digits = input_format[3:]
        if input_format.startswith("int") and digits in {str(bits) for bits in range(2, 17)}:
            return int(digits)
    listed = ", ".join(f'"{name}"' for name in FLOAT_FORMATS)
    raise HalutError(
        f'input_format must be {listed} or "int2" to "int16", not {input_format!r}'
        f"{closest(str(input_format), FLOAT_FORMATS)}"
    )


MOST_TERMS = 16
"""Columns in a sum that a level of a tree compares, at most."""


MOST_WORDS = 256
"""Input words of a codebook's window, at most."""


def check_sums(terms: int, input_format: str) -> None:
    """Check that sums of so many input words can be compared.

    Raises
    ------
    HalutError
        When there are not 2 to 16 terms, words are floats, or sums have more than 16 bits.
    """
    if not 2 <= terms <= MOST_TERMS:
        raise HalutError(f"terms must be in [2, {MOST_TERMS}], not {terms}")
    most = 16 - (terms - 1).bit_length()
    if input_format in FLOAT_FORMATS or input_format_bits(input_format) > most:
        raise HalutError(
            f'input_format must be "int2" to "int{most}" for sums of {terms} terms, '
            f'not "{input_format}"'
        )


def check_half_tables(lut_bits: int, output_format: str, overflow: str | None = None) -> None:
    """Check what goes with tables of half floats, which are added up in binary32.

    Raises
    ------
    HalutError
        Unless entries have 16 bits, nothing overflows, and results are no bytes.
    """
    if lut_bits != HALF_BITS:
        raise HalutError(f"lut_bits must be {HALF_BITS} for lut_format fp16, not {lut_bits}")
    if overflow is not None:
        raise HalutError(f"overflow must be absent for lut_format fp16, not {overflow}")
    if output_format == "int8":
        raise HalutError(
            "output_format must be raw or fp16 for lut_format fp16, not int8: "
            "bytes are made of integer sums"
        )
