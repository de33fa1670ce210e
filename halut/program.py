"""The program: everything that an accelerator is loaded with for one matrix B.

A `Program` is made by learning, saved as one ``.npz`` file without pickles, and read by the
golden model, the loader and the testbenches. It holds integers and float16 bit patterns only
where the hardware does, and float32 scales where software meets it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.arrays import checked_array
from halut.checks import in_range, integer
from halut.errors import HalutError
from halut.formats import (
    FLOAT_FORMATS,
    MOST_WORDS,
    check_half_tables,
    check_sums,
    input_format_bits,
)
from halut.output import OutputStage, byte_stage
from halut.program_file import ARRAYS, read_program, write_program

__all__ = ["Program", "input_format_bits"]

_log = logging.getLogger(__name__)

LUT_FORMATS = ("int", "fp16")

_SCALARS = ("n_features", "input_format", "lut_bits", "lut_format")


def _per_output(value: ArrayLike, n_outputs: int) -> NDArray[Any]:
    """Repeat a single number for every output."""
    given = np.asarray(value)
    return np.full(n_outputs, given) if given.ndim == 0 else given


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """What an accelerator is loaded with for one matrix B.

    Every array is copied, checked and made read-only. Two programs are equal when all of their
    contents are, bit by bit.

    Parameters
    ----------
    n_features : int
        D, columns of A.
    input_format : str
        ``"fp16"``, ``"bf16"``, ``"fp8_e4m3"``, ``"fp8_e5m2"``, or ``"int2"`` to ``"int16"``: the
        words that the trees compare, see `halut.formats`.
    lut_bits : int, default 8
        Width of a table entry, 2 to 16; 16 for half floats.
    split_dims : int32 ndarray of shape (n_codebooks, tree_depth), range [0, n_features)
        The column of A that level t of codebook c's tree looks at. With `signs` of shape
        (n_codebooks, tree_depth, terms) and in [-1, n_features): the columns that are added up
        there; -1 stands for none, a word of 0. With `places` of shape (n_codebooks, window) and in
        [-1, n_features): the columns of each codebook's window.
    thresholds : ndarray of shape (n_codebooks, n_prototypes - 1)
        Breadth-first: node ``2**level - 1 + partial_code``. float16 for ``"fp16"``, bit patterns
        for the other floating formats, uint16 or uint8 (infinities allowed, NaN not); int16 in the
        format's range for integer formats, with `signs` in that of `threshold_bits` bits.
    lut_format : {"int", "fp16"}, default "int"
        Table entries: integers of `lut_bits`, or half floats, added up in float32.
    lut : int8, int16 or float16 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
        Table entries in the range of signed `lut_bits` bits; int8 up to 8 bits. Half floats of
        any value.
    lut_scale : float32 ndarray of shape (n_outputs,)
        Greater than 0.
    lut_offset : float32 ndarray of shape (n_outputs,)
        The product is about ``accumulator * lut_scale + lut_offset``.
    input_scale : float32 ndarray of shape (n_codebooks, tree_depth), optional
        Greater than 0. Integer formats: ``word = clip(rint((x - input_offset) / input_scale))``.
        Ones when absent, as floating formats demand. With `places` of shape (n_codebooks, window).
    input_offset : float32 ndarray of the shape of `input_scale`, optional
        Zeros when absent, as floating formats demand.
    signs : int8 ndarray of shape (n_codebooks, tree_depth, terms), -1 or 1, optional
        Levels compare sums of 2 to 16 words, of an integer format; a term with -1 is subtracted by
        its complement, that is, ``-1 - word`` is added.
    places : uint8 ndarray of shape (n_codebooks, tree_depth) or (n_codebooks, n_prototypes - 1)
        Range [0, window), optional. Codebooks take all words of their windows; each level, or each
        node (breadth-first), compares the word of the window that stands at its place. Not with
        `signs`.
    output : OutputStage, optional
        What is done with the accumulators before they leave; nothing when absent. See
        `with_output`.
    provenance : dict of str to str, optional
        Where the program came from.

    Raises
    ------
    HalutError
        When a field breaks one of these rules.

    Examples
    --------
    >>> program = Program(
    ...     n_features=2,
    ...     input_format="int8",
    ...     split_dims=[[1]],
    ...     thresholds=[[10]],
    ...     lut=[[[-3, 7]]],
    ...     lut_scale=[0.5],
    ...     lut_offset=[1.0],
    ... )
    >>> program.n_codebooks, program.n_prototypes, program.n_outputs
    (1, 2, 1)
    >>> program.input_words([[0.0, 11.2]]).shape
    (1, 1, 1)
    """

    n_features: int
    input_format: str
    split_dims: NDArray[Any]
    thresholds: NDArray[Any]
    lut: NDArray[Any]
    lut_scale: NDArray[Any]
    lut_offset: NDArray[Any]
    lut_bits: int = 8
    lut_format: str = "int"
    input_scale: NDArray[Any] = None  # type: ignore[assignment]  # replaced when constructed
    input_offset: NDArray[Any] = None  # type: ignore[assignment]  # replaced when constructed
    signs: NDArray[Any] | None = None
    places: NDArray[Any] | None = None
    output: OutputStage = field(default_factory=OutputStage)
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put(
            "n_features",
            in_range("n_features", integer("n_features", self.n_features), 1, 2**31 - 1),
        )
        input_format_bits(self.input_format)
        put("input_format", str(self.input_format))
        put("lut_bits", in_range("lut_bits", integer("lut_bits", self.lut_bits), 2, 16))
        floating = FLOAT_FORMATS.get(self.input_format)

        dims = (None, None) if self.signs is None else (None, None, None)
        put("split_dims", checked_array("split_dims", self.split_dims, np.int32, dims))
        n_codebooks, tree_depth = self.split_dims.shape[:2]
        inputs = self.split_dims.shape[:2]
        if self.places is not None:
            tree_depth = self._check_places()
        if not 1 <= tree_depth <= 8:
            raise HalutError(f"split_dims must have 1 to 8 levels, not {tree_depth}")
        lowest = 0 if self.signs is None and self.places is None else -1
        if self.split_dims.min() < lowest or self.split_dims.max() >= self.n_features:
            raise HalutError(
                f"split_dims must be in [{lowest}, {self.n_features}), not "
                f"{self.split_dims.min()} to {self.split_dims.max()}"
            )
        if self.signs is not None:
            put("signs", checked_array("signs", self.signs, np.int8, self.split_dims.shape))
            if (np.abs(self.signs) != 1).any():
                raise HalutError("signs must be -1 or 1")
            check_sums(self.terms, self.input_format)

        n_prototypes = 2**tree_depth
        stored: Any = floating.dtype if floating else np.int16
        if self.input_format == "fp16":
            stored = np.float16
        nodes = (n_codebooks, n_prototypes - 1)
        put("thresholds", checked_array("thresholds", self.thresholds, stored, nodes))
        if floating is None:
            self._check_range("thresholds", self.thresholds, self.threshold_bits)
        elif np.isnan(self.threshold_values).any():
            raise HalutError("thresholds must not be NaN")

        if not isinstance(self.output, OutputStage):
            raise HalutError(f"output must be an OutputStage, not {type(self.output).__name__}")
        if self.lut_format not in LUT_FORMATS:
            raise HalutError(f"lut_format must be int or fp16, not {self.lut_format!r}")
        dtype: Any = np.int8 if self.lut_bits <= 8 else np.int16
        if self.lut_format == "fp16":
            dtype = np.float16
            check_half_tables(self.lut_bits, self.output.format)
        put("lut", checked_array("lut", self.lut, dtype, (None, n_codebooks, n_prototypes)))
        if self.lut_format == "int":
            self._check_range("lut", self.lut, self.lut_bits)

        outputs = (self.lut.shape[0],)
        for name, shape, absent in (
            ("lut_scale", outputs, None),
            ("lut_offset", outputs, None),
            ("input_scale", inputs, 1.0),
            ("input_offset", inputs, 0.0),
        ):
            value = getattr(self, name)
            if value is None and absent is not None:
                value = np.full(shape, absent)
            array = checked_array(name, value, np.float32, shape)
            if not np.isfinite(array).all():
                raise HalutError(f"{name} must be finite")
            if name.endswith("scale") and array.min() <= 0:
                raise HalutError(f"{name} must be greater than 0, not {array.min()}")
            if floating and absent is not None and (array != absent).any():
                raise HalutError(
                    f'{name} must be {absent:g} everywhere for input_format "{self.input_format}"'
                )
            put(name, array)

        if self.output.is_plain != (self.output.format == self.lut_format == "fp16"):
            rule = "absent" if self.lut_format == "fp16" else "given"
            raise HalutError(
                f"scale and offset must be {rule} for output_format fp16 of lut_format "
                f"{self.lut_format}"
            )
        for name, array in self.output.constants.items():
            if array.shape != outputs:
                raise HalutError(f"{name} must have shape {outputs}, not {array.shape}")

        if not isinstance(self.provenance, Mapping) or not all(
            isinstance(key, str) and isinstance(value, str)
            for key, value in self.provenance.items()
        ):
            raise HalutError("provenance must map str to str")
        put("provenance", dict(self.provenance))

    def _check_places(self) -> int:
        """Check the places of windows; return the depth of trees."""
        if self.signs is not None:
            raise HalutError("places must be absent with signs")
        n_codebooks, window = self.split_dims.shape
        if not 1 <= window <= MOST_WORDS:
            raise HalutError(f"windows must have 1 to {MOST_WORDS} words, not {window}")
        shape = (n_codebooks, None)
        n_nodes = checked_array("thresholds", self.thresholds, np.float64, shape).shape[1]
        tree_depth = n_nodes.bit_length()
        if n_nodes + 1 != 2**tree_depth:
            raise HalutError(f"thresholds must be 2**levels - 1 per codebook, not {n_nodes}")
        array = checked_array("places", self.places, np.uint8, shape)
        if array.shape[1] not in (tree_depth, n_nodes):
            raise HalutError(
                f"places must be {tree_depth} or {n_nodes} per codebook, one for each level or "
                f"node, not {array.shape[1]}"
            )
        if array.max() >= window:
            raise HalutError(f"places must be in [0, {window}), not reach {array.max()}")
        object.__setattr__(self, "places", array)
        return tree_depth

    @staticmethod
    def _check_range(name: str, array: NDArray[Any], bits: int) -> None:
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        if array.min() < low or array.max() > high:
            raise HalutError(
                f"{name} must be in [{low}, {high}], not {array.min()} to {array.max()}"
            )

    @property
    def n_codebooks(self) -> int:
        """C, the number of trees."""
        return self.split_dims.shape[0]

    @property
    def tree_depth(self) -> int:
        """T = log2 K, the levels of a tree, 1 to 8."""
        return self.thresholds.shape[1].bit_length()

    @property
    def n_prototypes(self) -> int:
        """K, the leaves of a tree, 2 to 256."""
        return self.thresholds.shape[1] + 1

    @property
    def n_outputs(self) -> int:
        """M, columns of B."""
        return self.lut.shape[0]

    @property
    def input_bits(self) -> int:
        """Width of an input word in bits, 2 to 16."""
        return input_format_bits(self.input_format)

    @property
    def terms(self) -> int:
        """Words that a level adds up, 1 to 16; 1 without `signs`."""
        return 1 if self.signs is None else self.split_dims.shape[2]

    @property
    def window(self) -> int:
        """Words of a codebook's window; 0 without `places`."""
        return 0 if self.places is None else self.split_dims.shape[1]

    @property
    def splits(self) -> str:
        """What has a split dimension of its own: ``"level"``, or ``"node"``."""
        is_node = self.places is not None and self.places.shape[1] != self.tree_depth
        return "node" if is_node else "level"

    @property
    def encoder(self) -> str:
        """What trees compare: ``"tree"``, ``"sums"``, ``"window"`` or ``"node"``."""
        if self.signs is not None:
            return "sums"
        if self.places is None:
            return "tree"
        return "node" if self.splits == "node" else "window"

    @property
    def n_values(self) -> int:
        """Input words of a row and codebook: tree_depth * terms, or those of its window."""
        return self.window or self.tree_depth * self.terms

    @property
    def threshold_bits(self) -> int:
        """Width of a threshold and of what is compared with it: input_bits + ceil(log2 terms)."""
        return self.input_bits + (self.terms - 1).bit_length()

    @property
    def threshold_words(self) -> NDArray[Any]:
        """Thresholds as input words are: int16, or the bit patterns of a floating format."""
        if self.input_format == "fp16":
            return self.thresholds.view(np.uint16)
        return self.thresholds

    @property
    def threshold_values(self) -> NDArray[np.float32]:
        """Values of the thresholds, exactly."""
        floating = FLOAT_FORMATS.get(self.input_format)
        if floating is None:
            return self.thresholds.astype(np.float32)
        return floating.values(self.threshold_words)

    @property
    def accumulator_bits(self) -> int:
        """Width at which no sum of C table entries overflows: lut_bits + ceil(log2 C).

        32 for half floats, which are added up in float32.
        """
        if self.lut_format == "fp16":
            return 32
        return self.lut_bits + (self.n_codebooks - 1).bit_length()

    @property
    def output_format(self) -> str:
        """Format of the results: ``"raw"``, ``"fp16"`` or ``"int8"``."""
        return self.output.format

    @property
    def relu(self) -> bool:
        """Whether results below zero become zero."""
        return self.output.relu

    def with_output(
        self,
        output_format: str,
        *,
        relu: bool = False,
        scale: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> Program:
        """Return this program with an output stage.

        Parameters
        ----------
        output_format : {"raw", "fp16", "int8"}
            Accumulators; the product, rounded once to half floats; the product in 8-bit words.
        relu : bool
            Whether results below zero become zero.
        scale, offset : float or array-like of shape (n_outputs,), optional
            ``"fp16"``: result = accumulator * scale + offset, by default `lut_scale` and
            `lut_offset`; absent for tables of half floats, whose result is the accumulator
            rounded, so that `lut_scale` and `lut_offset` are still to be applied. ``"int8"``: the
            grid of the words, result = clip(rint((product - offset) / scale)), see
            `halut.output.byte_grid`; must be given.

        Returns
        -------
        Program

        Examples
        --------
        >>> from halut import golden
        >>> program = golden.random_program(np.random.default_rng(1), 4, 16, 3)
        >>> requantised = program.with_output("int8", scale=0.5, offset=0.0, relu=True)
        >>> words = golden.random_words(np.random.default_rng(2), program, 5)
        >>> golden.results(requantised, words).dtype.name
        'int8'
        """
        if output_format == "fp16" and self.lut_format == "fp16":
            if scale is not None or offset is not None:
                raise HalutError(
                    "scale and offset must be absent for output_format fp16 of lut_format fp16"
                )
            stage = OutputStage(format="fp16", relu=relu)
        elif output_format == "fp16":
            stage = OutputStage(
                format="fp16",
                relu=relu,
                scale=_per_output(self.lut_scale if scale is None else scale, self.n_outputs),
                offset=_per_output(self.lut_offset if offset is None else offset, self.n_outputs),
            )
        elif output_format == "int8":
            if scale is None or offset is None:
                raise HalutError('scale and offset must be given for output_format "int8"')
            stage = byte_stage(self.lut_scale, self.lut_offset, scale, offset, relu)
        else:
            if scale is not None or offset is not None:
                raise HalutError('scale and offset must be absent for output_format "raw"')
            stage = OutputStage(format=output_format, relu=relu)
        return dataclasses.replace(self, output=stage)

    def input_words(self, A: ArrayLike, quiet: bool = False) -> NDArray[Any]:
        """Gather the split dimensions of rows and turn them into input words.

        With `signs` a level's terms follow each other; with `places` there are all columns of each
        codebook's window. No column is the word 0.

        Floating formats round to the nearest value, ties to even; what is beyond becomes infinity
        or, in ``"fp8_e4m3"``, which has none, the largest finite value. Integer formats compute
        ``clip(rint((x - input_offset) / input_scale))`` in float64, ties to even; infinities
        saturate. Finite values beyond a floating format are counted in a warning.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype
            Rows. NaN is allowed for floating formats (and goes left in every tree).
        quiet : bool, default False
            Whether to leave out the warning.

        Returns
        -------
        ndarray of shape (n_rows, n_codebooks, n_values)
            Bit patterns, uint16 or uint8, for floating formats; int16 in the format's range for
            integer formats.

        Raises
        ------
        HalutError
            When the shape is wrong, or a value is NaN and the format an integer.
        """
        rows = np.asarray(A)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise HalutError(f"A must have shape (any, {self.n_features}), not {rows.shape}")
        if rows.dtype.kind not in "biuf":
            raise HalutError(f"A must hold real numbers, not {rows.dtype}")
        dims = np.maximum(self.split_dims, 0)
        gathered = rows[:, dims]  # (N, C, T)
        if self.input_format in FLOAT_FORMATS:
            floating = FLOAT_FORMATS[self.input_format]
            beyond = 0 if quiet else floating.overflows(gathered)
            if beyond:
                _log.warning(
                    "warning: %d of %d input values are beyond %s, which ends at %g: they become "
                    "%s",
                    beyond,
                    gathered.size,
                    self.input_format,
                    floating.largest_finite,
                    "infinite" if floating.has_infinity else "the largest value",
                )
            words = floating.words(gathered)
            return words if self.places is None else np.where(self.split_dims < 0, 0, words)
        if gathered.dtype.kind == "f":
            self.check_not_nan(bool(np.isnan(gathered).any()))
        grids = self.input_scale, self.input_offset
        if self.signs is not None:
            grids = self.input_scale[..., None], self.input_offset[..., None]
        words = self.quantise(gathered, *grids)
        if self.signs is None and self.places is None:
            return words
        words = np.where(self.split_dims < 0, np.int16(0), words)
        return words.reshape(len(rows), self.n_codebooks, self.n_values)

    def check_not_nan(self, found: bool) -> None:
        """Raise `HalutError` when a compared value is NaN and the input format an integer."""
        if found and self.input_format not in FLOAT_FORMATS:
            raise HalutError(f'A must not hold NaN for input_format "{self.input_format}"')

    def quantise(
        self, values: NDArray[Any], scale: NDArray[np.float32], offset: NDArray[np.float32]
    ) -> NDArray[Any]:
        """Turn real values into input words, without warnings.

        Parameters
        ----------
        values : ndarray of any shape, any real dtype
        scale, offset : float32 ndarray that broadcasts to that shape
            Of integer formats: ``word = clip(rint((value - offset) / scale))``.

        Returns
        -------
        ndarray of that shape
            As `input_words` returns them.
        """
        if self.input_format in FLOAT_FORMATS:
            return FLOAT_FORMATS[self.input_format].words(values)
        limit = 2 ** (self.input_bits - 1)
        words = values.astype(np.float64)
        words -= offset
        words /= scale
        np.rint(words, out=words)
        np.clip(words, -limit, limit - 1, out=words)
        return words.astype(np.int16)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the program to one ``.npz`` file; the same content gives the same bytes.

        Parameters
        ----------
        path : path-like
            The file to write, as it is named (no suffix is added).

        Returns
        -------
        pathlib.Path
            `path`.

        Raises
        ------
        HalutError
            When `path` cannot be written; nothing half-written is left.
        """
        return write_program(vars(self), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Program:
        """Read a program and check every field of it.

        Parameters
        ----------
        path : path-like
            A file that `save` wrote.

        Returns
        -------
        Program

        Raises
        ------
        HalutError
            When the file is missing, damaged, not a program, of another version, or breaks one
            of the rules of `Program`; the message names the file.
        """
        return read_program(path, cls)

    def _content(self) -> tuple[Any, ...]:
        arrays = tuple(getattr(self, name).tobytes() for name in ARRAYS)
        scalars = tuple(getattr(self, name) for name in _SCALARS)
        stage = [(name, array.tobytes()) for name, array in self.output.constants.items()]
        optional = tuple(
            None if array is None else array.tobytes() for array in (self.signs, self.places)
        )
        return (*scalars, self.split_dims.shape, self.lut.shape, *arrays, *optional,
                self.output.format, self.output.relu, *stage,
                tuple(sorted(self.provenance.items())))  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def __repr__(self) -> str:
        return (
            f"Program(n_features={self.n_features}, n_codebooks={self.n_codebooks}, "
            f"n_prototypes={self.n_prototypes}, n_outputs={self.n_outputs}, "
            f'input_format="{self.input_format}", lut_bits={self.lut_bits}, '
            f'lut_format="{self.lut_format}", '
            f'output_format="{self.output_format}", relu={self.relu})'
        )
