"""The accelerator's streams as lists of integers: what goes in, and what must come out.

Everything is computed from the configuration with NumPy before a simulation starts, so that a
testbench only moves integers between lists and ports.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.program import Program
from rtl_gen import reference
from rtl_gen.tiled_config import AnyConfig, TiledConfig, result_order
from sim.packing import pack, pack_bytes, unpack, unpack_bytes

__all__ = [
    "describe_beat",
    "expected_beats",
    "input_bytes",
    "input_transfers",
    "output_fields",
    "port_widths",
    "results",
    "top_name",
]


def top_name(config: AnyConfig) -> str:
    """Return the name of the top module."""
    return "halut_tiled" if isinstance(config, TiledConfig) else "halut_matmul"


def port_widths(config: AnyConfig) -> dict[str, int]:
    """Return the width in bits of every port of the top module, as the interface states them.

    Typed out here and not read from the manifest: a test compares the three (this, the manifest
    and the simulated module).
    """
    widths = {
        "clk_i": 1,
        "rst_ni": 1,
        "i_valid": 1,
        "i_ready": 1,
        "i_data": config.rows * config.parallel_codebooks * config.n_values * config.input_bits,
        "o_valid": 1,
        "o_ready": 1,
        "o_data": config.output_width * config.result_bits,
        "o_last": 1,
        "program_valid": 1,
        "program_ready": 1,
        "program_address": config.program_address_bits,
        "program_data": config.program_data_bits,
    }
    if config.n_beats > 1:
        widths["o_index"] = (config.n_beats - 1).bit_length()
    return widths


def output_fields(config: AnyConfig) -> tuple[str, ...]:
    """Return the payload ports of the output stream, in the order of an item's parts."""
    return ("data", "index", "last") if config.n_beats > 1 else ("data", "last")


def input_transfers(config: AnyConfig, words: NDArray[np.integer]) -> list[int]:
    """Return the input stream's transfers for rows of input words.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    words : ndarray of shape (n_rows, n_codebooks, n_values), uint16 or int16
        As `Program.input_words` returns them. The last row group is filled up with zeros.

    Returns
    -------
    list of int, length ceil(n_rows / P) * G
        Transfer g of a row group has row p, lane q, value v at bit
        ``((p * Q + q) * n_values + v) * input_bits``.
    """
    return pack(_input_fields(config, words), config.input_bits)


def input_bytes(config: AnyConfig, words: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the transfers of `input_transfers` as rows of bytes, the lowest first."""
    return pack_bytes(_input_fields(config, words), config.input_bits)


def _input_fields(config: AnyConfig, words: NDArray[np.integer]) -> NDArray[np.integer]:
    n_rows, n_codebooks, depth = words.shape
    rows, lanes = config.rows, config.parallel_codebooks
    n_row_groups = -(-n_rows // rows)
    padded = np.zeros((n_row_groups * rows, n_codebooks, depth), dtype=words.dtype)
    padded[:n_rows] = words
    grouped = padded.reshape(n_row_groups, rows, config.n_groups, lanes, depth)
    grouped = grouped.transpose(0, 2, 1, 3, 4)  # (row group, G, P, Q, T)
    return grouped.reshape(n_row_groups * config.n_groups, rows * lanes * depth)


def expected_beats(
    config: AnyConfig, program: Program, words: NDArray[np.integer]
) -> list[tuple[int, ...]]:
    """Return what the model says the output stream carries for rows of input words.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    program : Program
    words : ndarray of shape (n_rows, n_codebooks, n_values)
        The number of rows must be a multiple of P.

    Returns
    -------
    list of tuple, length n_rows / P * n_beats
        One item per transfer: the ports of `output_fields`.
    """
    if len(words) % config.rows:
        raise ValueError(f"n_rows must be a multiple of {config.rows}, not {len(words)}")
    values = reference.result_words(reference.results(config, program, words))  # (N, M)
    ordered = values.reshape(-1, config.rows * config.n_outputs)[:, result_order(config)]
    beats = pack(ordered.reshape(-1, config.output_width), config.result_bits)
    n_beats = config.n_beats
    if n_beats == 1:
        return [(beat, 1) for beat in beats]
    return [(beat, k % n_beats, int(k % n_beats == n_beats - 1)) for k, beat in enumerate(beats)]


def results(config: AnyConfig, beats: list[int] | NDArray[np.uint8], n_rows: int) -> NDArray[Any]:
    """Put the output stream's data together again.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    beats : list of int, or ndarray of shape (n_beats, bytes), uint8
        The ``o_data`` of every transfer, of ceil(n_rows / P) row groups; bytes lowest first.
    n_rows : int
        Rows that are asked for; those that filled up the last row group are dropped.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        Accumulators, int32 or int64; float16; or int8.
    """
    take_apart: Any = unpack_bytes if isinstance(beats, np.ndarray) else unpack
    fields = take_apart(beats, config.output_width, config.result_bits, signed=True)
    order = result_order(config).ravel()
    groups = fields.reshape(-1, len(order))
    words = np.empty_like(groups)
    words[:, order] = groups
    return reference.results_of_words(config, words.reshape(-1, config.n_outputs)[:n_rows])


def describe_beat(
    config: AnyConfig, index: int, expected: tuple[int, ...], received: tuple[int, ...]
) -> str:
    """Say in words where two output transfers differ: row, output and the two values."""
    beat = index % config.n_beats
    row_group = index // config.n_beats
    names = output_fields(config)
    for name, want, got in zip(names[1:], expected[1:], received[1:], strict=True):
        if want != got:
            return f"o_{name} of beat {beat}, row group {row_group}, must be {want}, not {got}"
    pair = [expected[0], received[0]]
    words = unpack(pair, config.output_width, config.result_bits, signed=True)
    wrong = np.flatnonzero(words[0] != words[1])
    values = reference.results_of_words(config, words)
    flat = int(result_order(config)[beat, wrong[0]])
    row = row_group * config.rows + flat // config.n_outputs
    return (
        f"row {row}, output {flat % config.n_outputs} must be {values[0, wrong[0]]}, "
        f"not {values[1, wrong[0]]} ({len(wrong)} of {config.output_width} results differ)"
    )
