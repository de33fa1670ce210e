"""One row group on its way through the accelerator: its Verilog, simulated and drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flow.report.html.svg import Drawing
from halut import golden
from halut.errors import CheckFailed
from halut.program import Program
from rtl_gen import reference
from rtl_gen.config import AcceleratorConfig

__all__ = ["Excerpt", "draw", "record", "sampled"]

# A longer passage is cut in its middle: these many cycles stay on each side.
_SIDE = 26
_SUMS = "block0.decoder0.sums"
_ROW, _LABELS = 34, 150
_NARROW, _WIDE, _FILLED = 44, 96, 1020  # px: of a cycle at least and at most, of all cycles


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """What was seen at every clock edge around one row group's passage."""

    #: Numbered from the first input transfer; consecutive but for one gap at most.
    cycles: list[int]
    #: Value of each signal just before the edge that ends each cycle.
    signals: dict[str, list[int]]
    #: Codes of row 0 in the lanes, in the cycles in which they are those of this row group.
    codes: list[list[int] | None]
    results: list[int | float]  #: Row 0's results, which equal the exact model.
    program: str  #: What was loaded.


def sampled(path: Path, clock: str, wanted: Iterable[str]) -> dict[str, list[int]]:
    """Values just before every rising edge of a clock, from a VCD file.

    Parameters
    ----------
    path : Path
        As Verilator writes it: one declaration or change per line.
    clock : str
        Full name of the clock, scopes joined by dots.
    wanted : iterable of str
        Full names of the signals. Bits that are not 0 or 1 are read as 0.

    Returns
    -------
    dict of str to list of int
        One value per edge.

    Raises
    ------
    CheckFailed
        When a signal is not in the file.
    """
    names = [clock, *wanted]
    code_of: dict[str, str] = {}
    scopes: list[str] = []
    samples: dict[str, list[int]] = {name: [] for name in names[1:]}
    values: dict[str, int] = {}
    before: dict[str, int] = {}
    with path.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            words = line.split()
            if words[:1] == ["$scope"]:
                scopes.append(words[2])
            elif words[:1] == ["$upscope"]:
                scopes.pop()
            elif words[:1] == ["$var"]:
                code_of.setdefault(".".join([*scopes, words[4]]), words[3])
            elif words[:1] == ["$enddefinitions"]:
                break
        missing = [name for name in names if name not in code_of]
        if missing:
            raise CheckFailed(f"a recording must hold {missing[0]} ({path})")
        values = dict.fromkeys((code_of[name] for name in names), 0)
        tick = code_of[clock]
        for line in lines:
            text = line.strip()
            if text.startswith("#"):
                before = dict(values)
                continue
            bits, code = text[1:].split() if text[:1] in "bB" and text else (text[:1], text[1:])
            if code not in values:
                continue
            value = int("".join("1" if bit == "1" else "0" for bit in bits), 2)
            if code == tick and value and not values[tick]:
                for name, taken in samples.items():
                    taken.append(before[code_of[name]])
            values[code] = value
    return samples


def _codes(config: AcceleratorConfig, lanes: list[int]) -> list[int]:
    """Row 0's code in every lane."""
    if config.binary_codes:
        return [lane & (config.n_prototypes - 1) for lane in lanes]
    return [(lane & ((1 << config.n_prototypes) - 1)).bit_length() - 1 for lane in lanes]


def record(
    config: AcceleratorConfig, program: Program | None = None, rows: ArrayLike | None = None
) -> Excerpt:
    """Simulate one row group and take down what passes.

    Parameters
    ----------
    program : Program, optional
        Random by default.
    rows : array-like of shape (n_rows, n_features), optional
        Its first P rows are sent. Random by default.

    Raises
    ------
    HalutError
        When Verilator cannot be run here (Icarus records in a format that is not read).
    CheckFailed
        When results or codes differ from the exact model.
    """
    import sim

    rng = np.random.default_rng(1)
    given = program
    if program is None:
        program = reference.random_program(config, rng)
    if rows is None:
        rows = _random_rows(rng, program, config.rows)
    sent = np.asarray(rows)[: config.rows]
    result = sim.simulate(config, program, sent, simulator="verilator", waves=True)
    assert result.waves is not None
    top = "halut_matmul"
    ports = ["i_valid", "i_ready", "i_data", "o_valid", "o_ready", "o_data", "o_last"]
    if config.n_beats > 1:
        ports.append("o_index")
    lanes = [f"encoder{q}.codes" for q in range(config.parallel_codebooks)]
    wanted = [f"{top}.{name}" for name in [*ports, *lanes, _SUMS]]
    try:
        seen = sampled(result.waves / "dump.vcd", f"{top}.clk_i", wanted)
    finally:
        shutil.rmtree(result.waves, ignore_errors=True)
    signals = {name.removeprefix(f"{top}."): values for name, values in seen.items()}
    starts = [
        k
        for k, pair in enumerate(zip(signals["i_valid"], signals["i_ready"], strict=True))
        if pair == (1, 1)
    ]
    first, last = starts[0], _last_transfer(signals)
    expected = golden.encode(program, program.input_words(sent))[0]
    codes_at: dict[int, list[int]] = {}
    for step, edge in enumerate(starts):
        at = edge + config.encoder_cycles
        codes = _codes(config, [signals[lane][at] for lane in lanes])
        q = config.parallel_codebooks
        wanted_codes = expected[step * q : (step + 1) * q].tolist()
        if codes != wanted_codes:
            raise CheckFailed(f"codes of transfer {step} must be {wanted_codes}, not {codes}")
        codes_at[at] = codes
    edges = list(range(max(first - 1, 0), min(last + 3, len(signals["i_valid"]))))
    if len(edges) > 2 * _SIDE + 4:
        edges = edges[:_SIDE] + edges[-_SIDE:]
    shown = [*ports, _SUMS]
    return Excerpt(
        cycles=[edge - first for edge in edges],
        signals={name: [signals[name][edge] for edge in edges] for name in shown},
        codes=[codes_at.get(edge) for edge in edges],
        results=result.outputs[0].tolist(),
        program="a random program and row" if given is None else "the given program",
    )


def _random_rows(rng: np.random.Generator, program: Program, n_rows: int) -> NDArray[np.float64]:
    """Rows that reach both sides of every threshold, as a float matrix."""
    values = np.asarray(program.threshold_values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    span = float(np.abs(finite).max()) if finite.size else 1.0
    return rng.uniform(-span, span, (n_rows, program.n_features))


def _last_transfer(signals: dict[str, list[int]]) -> int:
    ends = [
        k
        for k, part in enumerate(
            zip(signals["o_valid"], signals["o_ready"], signals["o_last"], strict=True)
        )
        if part == (1, 1, 1)
    ]
    if not ends:
        raise CheckFailed("a recording must hold the row group's last output transfer")
    return ends[0]


class _Diagram:
    """Rows of signals over the cycles of an excerpt."""

    def __init__(self, cycles: list[int], n_rows: int) -> None:
        self.column = min(max(_FILLED / len(cycles), _NARROW), _WIDE)
        self.letters = int((self.column - 10) / 7)
        self.bottom = 30 + _ROW * n_rows
        width = _LABELS + self.column * len(cycles) + 12
        self.svg = Drawing(
            width, self.bottom + 4, "Timing diagram of one row group passing through", "waveform"
        )
        for k, cycle in enumerate(cycles):
            x = self.x(k)
            self.svg.line([(x, 22), (x, self.bottom)], "gridline", 1)
            self.svg.text(x + self.column / 2, 14, str(cycle), "axis", "middle")
            if k and cycle != cycles[k - 1] + 1:
                self.svg.line([(x, 20), (x, self.bottom)], "cut", 3)
        self.svg.text(_LABELS - 12, 14, "cycle", "axis", "end")

    def x(self, cycle: float) -> float:
        """Where a cycle begins."""
        return _LABELS + cycle * self.column

    def name(self, y: float, words: str) -> None:
        """What a row is."""
        self.svg.text(_LABELS - 12, y + 20, words, "signal", "end")

    def clock(self, y: float, count: int) -> None:
        """A period in every cycle."""
        points = []
        for k in range(count):
            points += [(self.x(k), y + 26), (self.x(k), y + 6), (self.x(k + 0.5), y + 6),
                       (self.x(k + 0.5), y + 26)]  # fmt: skip
        self.svg.line([*points, (self.x(count), y + 26)], "trace faint", 1.5)

    def bit(self, y: float, values: list[int]) -> None:
        """A wire."""
        points: list[tuple[float, float]] = []
        for k, value in enumerate(values):
            level = y + (6 if value else 26)
            points += [(self.x(k), level), (self.x(k + 1), level)]
            if value:
                self.svg.box(self.x(k), y + 6, self.column, 20, "high", 0)
        self.svg.line(points, "trace", 2)

    def bus(self, y: float, values: list[str], lit: list[bool], part: str) -> None:
        """Several wires; values of this row group are written and coloured, others left blank."""
        begin = 0
        for k in range(1, len(values) + 1):
            if k < len(values) and not lit[k] and not lit[begin]:
                continue
            self._stretch(y, begin, k, values[begin] if lit[begin] else "", part)
            begin = k

    def _stretch(self, y: float, begin: int, end: int, words: str, part: str) -> None:
        left, right = self.x(begin), self.x(end)
        points = [(left, 16), (left + 4, 6), (right - 4, 6), (right, 16), (right - 4, 26),
                  (left + 4, 26)]  # fmt: skip
        shape = self.svg.add(
            "polygon",
            points=" ".join(f"{px:g},{y + py:g}" for px, py in points),
            class_=f"bus {part if words else 'idle'}",
        )
        if words:
            self.svg.hover(shape, words)
            self.svg.text((left + right) / 2, y + 20, self._short(words), "value", "middle")

    def _short(self, words: str) -> str:
        if len(words) <= self.letters:
            return words
        tail = (self.letters - 1) // 2
        return f"{words[: self.letters - 1 - tail]}…{words[-tail:]}"


def draw(config: AcceleratorConfig, excerpt: Excerpt) -> str:
    """The recording as an SVG timing diagram."""
    s, cycles = excerpt.signals, excerpt.cycles
    into = [bool(v and r) for v, r in zip(s["i_valid"], s["i_ready"], strict=True)]
    out = [bool(v and r) for v, r in zip(s["o_valid"], s["o_ready"], strict=True)]
    taken = {cycle for cycle, sent in zip(cycles, into, strict=True) if sent}
    # The accumulator holds this row group's sums, partial ones too.
    summed = [cycle - config.pipeline_stages in taken for cycle in cycles]
    codes = ["" if found is None else " ".join(map(str, found)) for found in excerpt.codes]
    buses = {
        "i_data": ([f"{value:x}" for value in s["i_data"]], into, "encoders"),
        "codes": (codes, [bool(words) for words in codes], "luts"),
        "sum of output 0": ([f"{value:x}" for value in s[_SUMS]], summed, "decoders"),
        "o_index": ([f"{value:x}" for value in s.get("o_index", [])], out, "output"),
        "o_data": ([f"{value:x}" for value in s["o_data"]], out, "output"),
    }
    rows = ["clk", "i_valid", "i_ready", "i_data", "codes", "sum of output 0"]
    rows += ["o_valid", "o_ready", *(["o_index"] if config.n_beats > 1 else []), "o_data", "o_last"]
    diagram = _Diagram(cycles, len(rows))
    for number, name in enumerate(rows):
        y = 30 + _ROW * number
        diagram.name(y, name)
        if name == "clk":
            diagram.clock(y, len(cycles))
        elif name in buses:
            diagram.bus(y, *buses[name])
        else:
            diagram.bit(y, s[name])
    return diagram.svg.markup()
