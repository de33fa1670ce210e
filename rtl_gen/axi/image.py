"""What lies in memory: programs as loads, rows, results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.program import Program

from ..front_end import FrontEndConfig, gather_image
from ..image import program_image, switch_word
from ..reference import results_of_words
from ..tiled_config import result_order
from .config import AxiConfig
from .descriptor import descriptor
from .feeder import GATHER_WORD_BYTES

__all__ = [
    "Load",
    "data_layout",
    "loads",
    "pixel_bytes",
    "result_array",
    "row_bytes",
    "run_descriptor",
    "switch_descriptor",
]


@dataclass(frozen=True)
class Load:
    """Words that one descriptor writes, and where to.

    Attributes
    ----------
    opcode : {"load", "gather"}
    first, inner, stride : int
        Word n has the address first + n // inner * stride + n % inner.
    data : bytes
        The words, each in `word_bytes`, lowest byte first.
    word_bytes : int
    """

    opcode: str
    first: int
    inner: int
    stride: int
    data: bytes
    word_bytes: int

    @property
    def count(self) -> int:
        """Words."""
        return len(self.data) // self.word_bytes

    def addresses(self) -> list[int]:
        """The address of every word."""
        n = range(self.count)
        return [self.first + k // self.inner * self.stride + k % self.inner for k in n]

    def descriptor(self, config: AxiConfig, source: int, **more: int) -> bytes:
        """The descriptor of the words at the address `source`."""
        return descriptor(
            self.opcode,
            configuration=int(config.core_hash[:8], 16),
            source=source,
            count=self.count,
            program_address=self.first,
            inner=self.inner,
            stride=self.stride,
            **more,
        )


_LARGEST = (1 << 16) - 1


def _runs(addresses: Sequence[int]) -> list[tuple[int, int]]:
    """(first address, number) of neighbours."""
    runs: list[tuple[int, int]] = []
    for address in addresses:
        if runs and address == sum(runs[-1]) and runs[-1][1] < _LARGEST:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((address, 1))
    return runs


def _regular(addresses: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """(first, inner, stride, number) of parts whose runs are equally long and equally far apart."""
    parts: list[tuple[int, int, int, int]] = []
    last = 0  # first address of the last run
    for first, length in _runs(addresses):
        if parts:
            begin, inner, stride, number = parts[-1]
            step = first - last
            fits = length == inner and 0 < step <= _LARGEST
            if fits and (stride == step or number == inner):
                parts[-1] = (begin, inner, step, number + length)
                last = first
                continue
        parts.append((first, length, 0, length))
        last = first
    return parts


def _join(words: Sequence[int], word_bytes: int) -> bytes:
    return b"".join(word.to_bytes(word_bytes, "little") for word in words)


def data_layout(config: AxiConfig) -> dict[str, int]:
    """Return the sizes of what lies in memory, in bytes or numbers, by their names."""
    a = config.accelerator
    return {
        "item_bytes": config.item_bytes,
        "result_bytes": config.result_bytes,
        "program_word_bytes": config.program_word_bytes,
        "input_element_bytes": config.input_element_bytes,
        "result_element_bytes": config.result_element_bytes,
        "rows": a.rows,
        "codebooks": a.n_codebooks,
        "tree_levels": a.tree_depth,
        **({"terms": a.terms} if a.terms > 1 else {}),
        **({"window": a.window} if a.window else {}),
        "outputs": a.n_outputs,
        "input_transfers": config.item_transfers,
        "parallel_codebooks": a.parallel_codebooks,
    }


def loads(config: AxiConfig, program: Program, bank: int = 0) -> list[Load]:
    """Return what is loaded for a program, in the order of `program_image`.

    Parameters
    ----------
    config : AxiConfig
    program : Program
    bank : int, default 0
        Where to, with `double_buffer`.

    Raises
    ------
    HalutError
        When the program does not fit the accelerator.
    """
    image = program_image(config.accelerator, program, bank)
    found = []
    begin = 0
    for first, inner, stride, number in _regular([address for address, _ in image]):
        words = [word for _, word in image[begin : begin + number]]
        data = _join(words, config.program_word_bytes)
        found.append(Load("load", first, inner, stride, data, config.program_word_bytes))
        begin += number
    if isinstance(config.core, FrontEndConfig):
        choices = dict(gather_image(config.core, program))
        if config.gathers:
            places = [choices.get(k, 0) for k in range(max(choices) + 1)]
            data = _join(places, GATHER_WORD_BYTES)
            found.append(Load("gather", 0, 1, 0, data, GATHER_WORD_BYTES))
    return found


def switch_descriptor(config: AxiConfig, bank: int, **more: int) -> bytes:
    """The descriptor that lets the next rows use a bank."""
    return descriptor(
        "switch",
        configuration=int(config.core_hash[:8], 16),
        program_address=switch_word(config.accelerator, bank)[0],
        **more,
    )


def run_descriptor(
    config: AxiConfig, source: int, destination: int, count: int, **more: int
) -> bytes:
    """The descriptor that sends `count` items (row groups, or images)."""
    return descriptor(
        "run",
        configuration=int(config.core_hash[:8], 16),
        source=source,
        destination=destination,
        count=count,
        **more,
    )


def _elements(config: AxiConfig, words: NDArray[np.integer]) -> bytes:
    return words.astype(f"<i{config.input_element_bytes}").tobytes()


def row_bytes(config: AxiConfig, words: NDArray[np.integer]) -> bytes:
    """Return rows as they lie in memory.

    Parameters
    ----------
    config : AxiConfig
    words : ndarray of shape (n_rows, n_codebooks, n_values)
        As `Program.input_words` returns them. Zeros fill the last row group.

    Returns
    -------
    bytes
        Row groups of (G, P, Q, n_values) values of 1 or 2 bytes. With one row in parallel, or all
        codebooks in parallel, that is the array `words` as it is.
    """
    a = config.accelerator
    n_rows, n_codebooks, n_values = words.shape
    padded = np.zeros((-(-n_rows // a.rows) * a.rows, n_codebooks, n_values), dtype=words.dtype)
    padded[:n_rows] = words
    grouped = padded.reshape(-1, a.rows, a.n_groups, a.parallel_codebooks, n_values)
    return _elements(config, grouped.transpose(0, 2, 1, 3, 4))


def pixel_bytes(config: AxiConfig, images: NDArray[np.integer]) -> bytes:
    """Return images, words of shape (images, height, width, channels), as they lie in memory."""
    return _elements(config, images)


def result_array(config: AxiConfig, data: bytes, n_rows: int) -> NDArray[Any]:
    """Return the results that lie in memory.

    Parameters
    ----------
    config : AxiConfig
    data : bytes
        Of whole row groups.
    n_rows : int
        Rows that are asked for.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        Accumulators, int32 or int64; float16; float32; or int8. Of one unit they are in memory
        row by row as they are here; several units' are put in order.
    """
    a = config.accelerator
    size = config.result_element_bytes
    order = result_order(a).ravel()
    if len(data) % (len(order) * size):
        raise HalutError(
            f"results must be whole row groups of {len(order) * size} bytes, not {len(data)} bytes"
        )
    fields = np.frombuffer(data, dtype=f"<i{size}").astype(np.int64).reshape(-1, len(order))
    words = np.empty_like(fields)
    words[:, order] = fields
    return results_of_words(a, words.reshape(-1, a.n_outputs)[:n_rows])
