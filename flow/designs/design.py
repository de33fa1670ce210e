"""What the flow is given: Verilog, and streams to exercise it with.

Any design with valid/ready streams goes the same way. `accelerator` makes one of a
configuration; the direct engines that it is compared with make theirs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from halut import golden
from halut.errors import HalutError
from halut.program import Program
from rtl_gen import generate, reference
from rtl_gen.image import check_program, program_image
from rtl_gen.tiled_config import AnyConfig
from sim.accelerator import expected_beats, input_transfers, output_fields, top_name

__all__ = [
    "BLOCK",
    "CLOCK_TREE",
    "LOADING_WARM_UP",
    "LOADING_WINDOW",
    "PARTS",
    "Design",
    "Stream",
    "Workload",
    "accelerator",
    "window_of",
]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A valid/ready stream of the top."""

    #: Ports.
    valid: str
    ready: str
    payload: tuple[str, ...]  #: Payload ports, in the order of an item's parts.
    items: list[tuple[int, ...]]  #: Transfers to make, or to expect.


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a design is made to do."""

    #: Input streams that are sent first, one after the other (program, weights).
    setup: list[Stream]
    inputs: Stream  #: Sent at every cycle that the design is ready.
    outputs: Stream  #: Taken at every cycle; `items` is what the exact model says.
    #: Done per input transfer.
    look_ups: float
    macs: float
    description: str  #: One line for the report.
    seed: int
    #: Input ports that stand still at a value.
    fixed: Mapping[str, int] = field(default_factory=dict)
    #: Signals of streams that the testbench makes, each of another, for a top without streams.
    wires: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Design:
    """A design to synthesise."""

    name: str  #: For titles.
    slug: str  #: Folder below ``build/``.
    verilog: str  #: All modules.
    #: Module and ports; `reset` is active low and sampled at the clock edge.
    top: str
    clock: str
    reset: str
    #: What the design does per cycle when nothing stalls.
    look_ups_per_cycle: float
    macs_per_cycle: float
    #: Columns of A per codebook behind `macs_per_cycle`; None for a direct engine.
    codebook_width: float | None
    #: From the last transfer in of a row group to its first out; between row groups.
    latency_cycles: int
    interval_cycles: int
    config_hash: str
    #: The configuration of the accelerator (`AcceleratorConfig.to_dict`) or of the direct engine
    #: (`EngineConfig.to_dict`); None for a unit.
    configuration: Mapping[str, Any] | None = None
    #: `workload(seed, n_transfers)` returns a `Workload` of about that many input transfers.
    workload: Callable[[int, int], Workload]
    #: `loading(seed)` returns a `Workload` whose inputs load a program, and the number of its words
    #: that are in the window; None when nothing is loaded.
    loading: Callable[[int], tuple[Workload, int]] | None = None
    #: Kind of unit by prefix of the module's name; other modules are their own kind.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Changes when the workload does, for the same `config_hash`, seed and length.
    workload_key: str = ""
    group_transfers: int = 1  #: Input transfers of a row group.
    #: Input ports that stand still while results are computed; their paths are not timed.
    static: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        prefixed = re.search(r"^module (\w+halut_clock_gate)\b", self.verilog, re.M)
        if prefixed:
            raise HalutError(
                f"the clock gate of a design must be halut_clock_gate, which the flow maps, not "
                f"{prefixed[1]}: generate it without a prefix ({self.name})"
            )

    @property
    def srams(self) -> list[tuple[int, int]]:
        """Sizes of its SRAMs, words and bits of a word, each once."""
        found = set()
        for parameters in re.findall(r"^  halut_sram #\((.*?)\n  \)", self.verilog, re.M | re.S):
            values = dict(re.findall(r"\.(\w+)\(32'd(\d+)\)", parameters))
            found.add((int(values["WORDS"]), int(values["WIDTH"])))
        return sorted(found)

    @property
    def verilog_hash(self) -> str:
        return hashlib.sha256(self.verilog.encode()).hexdigest()


# Words before a window of loading, and the most in it.
LOADING_WARM_UP = 8
LOADING_WINDOW = 1024

_UNITS = {
    "halut_lut_memory": "LUT memory and select",
    "halut_decoder_block": "decoder block",
    "halut_decoder": "decoder sums",
    "halut_sram_table": "LUT memory and select",
    "halut_sram": "SRAM",
    "halut_threshold_memory": "threshold memory",
    "halut_comparator": "comparators",
    "halut_encoder": "encoder",
    "halut_control": "control",
    "halut_output": "output",
    "halut_skid_buffer": "output",
    "halut_join": "join",
    "halut_float_adder": "float adders",
    "halut_half_to_single": "float adders",
    "halut_half_converter": "converters",
    "halut_byte_converter": "converters",
    "halut_single_to_half": "converters",
    "halut_matmul": "top",
    "halut_tiled": "top",
}
CLOCK_TREE = "clock tree"
"""Kind of unit of the clock's buffers."""
BLOCK = "block"
"""Kind of unit of what is in a hard macro."""
# Part of the architecture that a kind of unit is in; those of other designs stand alone.
PARTS = {
    "encoder": "encoders",
    "comparators": "encoders",
    "threshold memory": "encoders",
    "LUT memory and select": "LUT banks",
    "SRAM": "LUT banks",
    "decoder block": "decoders",
    "decoder sums": "decoders",
    "float adders": "decoders",
    "output": "output",
    "join": "output",
    "converters": "output",
    "control": "control and clock",
    "top": "control and clock",
    CLOCK_TREE: "control and clock",
    "input nets and clock root": "control and clock",
}


def window_of(design: Design, cycles: int | None) -> tuple[int, int]:
    """Warm-up and window, in cycles: whole row groups, enough of them for an average."""
    interval = max(1, design.interval_cycles)
    if cycles is None:
        work = max(1.0, design.look_ups_per_cycle, design.macs_per_cycle / 16)
        cycles = int(min(256, max(64, 8192 / work)))
    warm_up = design.latency_cycles + 2 * interval + 4
    return -(-warm_up // interval) * interval, -(-cycles // interval) * interval


def accelerator(
    config: AnyConfig,
    program: Program | None = None,
    words: np.ndarray | None = None,
) -> Design:
    """The accelerator of a configuration, with a random or a given program and rows.

    Parameters
    ----------
    program : Program, optional
        Random by default.
    words : ndarray of shape (n_rows, n_codebooks, tree_depth), optional
        Input words (`Program.input_words`), repeated as often as needed. Random by default.
    """
    if program is not None:
        check_program(config, program)
    if words is not None and (program is None or len(words) == 0):
        raise HalutError("input rows must come with the program they were made for")

    key = hashlib.sha256()
    if program is not None:
        constants = [*program.output.constants.values()]
        constants += [each for each in (program.signs, program.places) if each is not None]
        for array in (program.lut, program.thresholds, program.split_dims, *constants):
            key.update(np.ascontiguousarray(array).tobytes())
    if words is not None:
        key.update(np.ascontiguousarray(words).tobytes())

    def workload(seed: int, n_transfers: int) -> Workload:
        rng = np.random.default_rng(seed)
        used = program or reference.random_program(config, rng)
        n_rows = -(-n_transfers // config.n_groups) * config.rows
        if words is None:
            rows = golden.random_words(rng, used, n_rows)
        else:
            rows = words[np.arange(n_rows) % len(words)]
        look_ups = config.rows * config.parallel_codebooks * config.n_outputs
        return Workload(
            setup=[
                Stream(
                    valid="program_valid",
                    ready="program_ready",
                    payload=("program_address", "program_data"),
                    items=list(program_image(config, used)),
                )
            ],
            inputs=Stream(
                valid="i_valid",
                ready="i_ready",
                payload=("i_data",),
                items=[(item,) for item in input_transfers(config, rows)],
            ),
            outputs=Stream(
                valid="o_valid",
                ready="o_ready",
                payload=tuple(f"o_{name}" for name in output_fields(config)),
                items=[tuple(int(part) for part in b) for b in expected_beats(config, used, rows)],
            ),
            look_ups=look_ups,
            macs=look_ups * config.codebook_width,
            description=("random program, " if program is None else "given program, ")
            + ("random rows" if words is None else "given rows"),
            seed=seed,
        )

    def loading(seed: int) -> tuple[Workload, int]:
        """One row group through a program, then another program over it."""
        work = workload(seed, config.n_groups)
        rng = np.random.default_rng(seed + 1)
        image = program_image(config, reference.random_program(config, rng))
        window = image[-LOADING_WINDOW:]
        return Workload(
            setup=[*work.setup, work.inputs],
            inputs=replace(work.setup[0], items=[*image[-LOADING_WARM_UP:], *window, *image[:4]]),
            outputs=work.outputs,
            look_ups=0,
            macs=0,
            description="a random program over another",
            seed=seed,
        ), len(window)

    return Design(
        name=config.name,
        slug=config.slug,
        verilog=generate(config).verilog,
        top=top_name(config),
        clock="clk_i",
        reset="rst_ni",
        look_ups_per_cycle=config.look_ups_per_cycle,
        macs_per_cycle=config.macs_per_cycle,
        codebook_width=config.codebook_width,
        latency_cycles=config.latency_cycles,
        interval_cycles=config.interval_cycles,
        config_hash=config.hash,
        configuration=config.to_dict(),
        workload=workload,
        loading=loading,
        labels=_UNITS,
        workload_key=key.hexdigest(),
        group_transfers=config.n_groups,
    )
