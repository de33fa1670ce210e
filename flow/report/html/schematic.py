"""The architecture of one configuration, drawn with its real sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow.designs.design import PARTS
from flow.figures.metrics import Metrics
from flow.report.html.svg import Drawing
from rtl_gen.config import AcceleratorConfig, ceil_log2
from rtl_gen.tiled_config import AnyConfig, TiledConfig

__all__ = ["draw"]

_WIDTH, _HEIGHT = 1236, 482
_TOP, _BODY = 34, 288  # upper edge and height of the data path's blocks
# Left edge and width of each block.
_INPUT, _ENCODER, _DECODER, _OUTPUT = (8, 112), (208, 232), (566, 392), (1052, 150)
_STACK = 6  # px between the cards of a stack


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def _wire(bits: int) -> float:
    """Stroke of a bus: a pixel more for every doubling, up to 7."""
    return min(1.5 + 0.6 * ceil_log2(max(bits, 1)), 7.0)


def _shares(metrics: Metrics) -> dict[str, list[str]]:
    """Area and power of each part as shares of the whole."""
    areas: dict[str, float] = {}
    powers: dict[str, float] = {}
    for row in metrics.breakdown:
        part = PARTS.get(row["unit"], row["unit"])
        areas[part] = areas.get(part, 0.0) + row["area"]
        power = sum(row.get(f"{kind}_mw", 0.0) for kind in ("internal", "switching", "leakage"))
        powers[part] = powers.get(part, 0.0) + power
    total_area, total_power = sum(areas.values()), sum(powers.values())
    words: dict[str, list[str]] = {}
    for part, area in areas.items():
        words[part] = [f"{area / total_area:.1%} of area"] if total_area else []
        if total_power:
            words[part].append(f"{powers[part] / total_power:.1%} of power")
    return words


class _Schematic:
    def __init__(self, config: AcceleratorConfig, metrics: Metrics) -> None:
        self.c = config
        self.shares = _shares(metrics)
        self.svg = Drawing(
            _WIDTH, _HEIGHT, f"Architecture of the configuration {config.name}", "schematic"
        )
        # Where a mark of the critical path goes, by the kind of unit.
        self.marks: dict[str, tuple[float, float]] = {}

    def card(self, place: tuple[int, int], part: str, copies: int, name: str) -> None:
        """A block, as a stack where there are several."""
        x, width = place
        for k in reversed(range(min(copies, 3))):
            style = "block" if k == 0 else "block behind"
            self.svg.box(x + k * _STACK, _TOP - k * _STACK, width, _BODY, f"{style} {part}")
        self.svg.text(x + 14, _TOP + 24, name, "name")
        if copies > 1:
            self.svg.text(x + width - 12, _TOP + 24, f"×{copies:,}", f"copies {part}", "end")

    def lines(self, x: float, y: float, lines: list[str], anchor: str = "start") -> None:
        for k, line in enumerate(lines):
            self.svg.text(x, y + 16 * k, line, "small", anchor)

    def share(self, x: float, y: float, part: str, anchor: str = "start") -> None:
        for k, words in enumerate(self.shares.get(part, [])):
            self.svg.text(x, y + 16 * k, words, "share", anchor)

    def bus(
        self, points: list[tuple[float, float]], bits: int, name: str, at: tuple[float, float]
    ) -> None:
        self.svg.arrow(points, "wire", _wire(bits))
        self.svg.text(at[0], at[1] - 12, name, "wirename", "middle")
        self.svg.text(at[0], at[1] + 22, f"{bits:,} bit" + "s" * (bits > 1), "wirename", "middle")

    def input(self) -> None:
        c, (x, width) = self.c, _INPUT
        rows, columns = min(c.rows, 6), min(c.n_codebooks, 8)
        size = 12
        left = x + (width - columns * size) / 2
        top = _TOP + 104 - rows * size / 2
        for row in range(rows):
            for column in range(columns):
                lit = column * c.n_codebooks < c.parallel_codebooks * columns
                self.svg.box(
                    left + column * size, top + row * size, size - 2, size - 2,
                    "cell lit" if lit else "cell", 2,
                )  # fmt: skip
        self.svg.text(x + width / 2, _TOP + 24, "row group", "name", "middle")
        self.lines(
            x + width / 2,
            _TOP + 176,
            [
                _plural(c.rows, "row"),
                f"× {_plural(c.n_codebooks, 'codebook')}",
                f"× {_plural(c.n_values, 'value')}",
                c.input_format,
                f"in {_plural(c.n_groups, 'transfer')}",
            ],
            "middle",
        )

    def tree(self, x: float, y: float, width: float, height: float) -> None:
        """A binary tree, to its real depth but no deeper than five levels."""
        depth = min(self.c.tree_depth, 5)
        place = lambda level, k: (  # noqa: E731
            x + width * (k + 0.5) / 2**level,
            y + height * level / depth,
        )
        for level in range(depth):
            for k in range(2**level):
                for child in (2 * k, 2 * k + 1):
                    self.svg.line([place(level, k), place(level + 1, child)], "branch", 1)
        for level in range(depth + 1):
            for k in range(2**level):
                cx, cy = place(level, k)
                leaf = "leaf" if level == depth else "node"
                self.svg.add("circle", cx=cx, cy=cy, r=2.6 if level else 3.4, class_=leaf)

    def encoders(self) -> None:
        c, (x, width) = self.c, _ENCODER
        self.card(_ENCODER, "encoders", c.parallel_codebooks, "encoder")
        walkers = c.rows * (c.tree_depth if c.encoder == "interleaved" else 1)
        how = (
            f"{_plural(walkers, 'tree walker')}, a cycle apart"
            if c.encoder == "interleaved"
            else f"{_plural(c.tree_stages, 'pipeline stage')}, {_plural(c.rows, 'row')}"
        )
        self.lines(
            x + 14, _TOP + 44, [c.encoder, how, f"{c.tree_depth} levels → {c.n_prototypes} codes"]
        )
        self.tree(x + 24, _TOP + 98, width - 48, 58)
        self.svg.box(x + 14, _TOP + 172, width - 28, 60, "inner encoders", 5)
        self.svg.text(x + 24, _TOP + 190, "thresholds", "strong")
        per_lane = c.stored_groups * c.threshold_nodes
        self.lines(
            x + 24,
            _TOP + 207,
            [f"{per_lane:,} × {c.node_bits} bits ({c.constants_memory})",
             f"{c.threshold_total_bits:,} bits in all"],
        )  # fmt: skip
        self.share(x + 14, _TOP + _BODY - 30, "encoders")
        self.marks["encoder"] = self.marks["comparators"] = (x + width, _TOP + 62)
        self.marks["threshold memory"] = (x + width - 14, _TOP + 172)

    def decoders(self) -> None:
        c, (x, width) = self.c, _DECODER
        self.card(_DECODER, "decoders", c.n_outputs, "decoder column")
        half = 176
        self.svg.box(x + 14, _TOP + 40, half, 192, "inner luts", 5)
        banks = min(c.parallel_codebooks, 8)
        words = min(c.stored_groups * c.n_prototypes, 8)
        pitch = (half - 24) / 8
        for bank in range(banks):
            for word in range(words):
                self.svg.box(
                    x + 26 + bank * pitch, _TOP + 112 + word * 12, pitch - 4, 9, "word", 1.5
                )
        self.svg.text(x + 24, _TOP + 60, "LUT banks", "strong")
        self.lines(
            x + 24,
            _TOP + 78,
            [f"{_plural(c.parallel_codebooks, 'bank')} ({c.memory})",
             f"{c.stored_groups * c.n_prototypes:,} words × {c.lut_bits} bits each"],
        )  # fmt: skip
        self.svg.text(x + 24, _TOP + 226, f"{c.lut_total_bits:,} bits in all", "small")
        right = x + half + 40
        self.svg.arrow([(x + 14 + half, _TOP + 136), (right - 6, _TOP + 136)], "wire", 3)
        self.svg.box(right, _TOP + 40, width - half - 54, 192, "inner decoders", 5)
        levels = ceil_log2(c.parallel_codebooks)
        self.svg.text(right + 10, _TOP + 60, "look up and add", "strong")
        look_ups = _plural(c.parallel_codebooks * c.rows, "look-up")
        steps = [(f"{c.n_prototypes}:1 select", f"{look_ups} a cycle")]
        if levels:
            steps.append(("adder tree", f"{c.parallel_codebooks} terms, {levels} levels"))
        if c.n_groups > 1:
            steps.append(("accumulator", f"{c.accumulator_bits} bits, {c.n_groups} steps"))
        else:
            steps.append(("sum", f"{c.accumulator_bits} bits"))
        gap = 150 / len(steps)
        for k, (name, detail) in enumerate(steps):
            y = _TOP + 76 + k * gap
            self.svg.box(right + 10, y, width - half - 74, min(gap - 12, 44), "step", 4)
            self.lines(right + 18, y + 17, [name])
            self.svg.text(right + 18, y + 33, detail, "small soft")
            if k:
                self.svg.arrow(
                    [(right + 36, y - gap + min(gap - 12, 44)), (right + 36, y)], "wire", 1.5
                )
        self.share(x + 14, _TOP + _BODY - 30, "LUT banks")
        self.share(right, _TOP + _BODY - 30, "decoders")
        self.marks["LUT memory and select"] = (x + 14 + half, _TOP + 40)
        self.marks["decoder sums"] = (x + width - 14, _TOP + 40)
        self.marks["decoder block"] = (x + width / 2, _TOP)

    def output(self) -> None:
        c, (x, width) = self.c, _OUTPUT
        self.card(_OUTPUT, "output", 1, "output")
        kind = {"raw": "raw sums", "fp16": "scaled to FP16", "int8": "requantised INT8"}
        self.lines(
            x + 14,
            _TOP + 48,
            [
                f"{_plural(c.n_beats, 'transfer')}",
                f"of {_plural(c.output_width, 'result')}",
                kind[c.output_format],
                f"{c.result_bits} bits each",
                *(["ReLU"] if c.relu else []),
            ],
        )
        self.svg.text(x + 14, _TOP + 136, "result matrix", "small soft")
        rows, columns = min(c.rows, 6), min(c.n_outputs, 9)
        for row in range(rows):
            for column in range(columns):
                lit = row * c.n_outputs + column < c.output_width
                self.svg.box(
                    x + 14 + column * 12, _TOP + 146 + row * 12, 10, 10,
                    "cell out" if lit else "cell", 2,
                )  # fmt: skip
        self.svg.text(x + 14, _TOP + 162 + 12 * rows, f"{c.rows} × {c.n_outputs:,}", "small soft")
        self.share(x + 14, _TOP + _BODY - 30, "output")
        self.marks["output"] = self.marks["join"] = (x + width, _TOP + 20)

    def control(self) -> None:
        c, svg = self.c, self.svg
        x, y = _ENCODER[0], 402
        width = _OUTPUT[0] + _OUTPUT[1] - x
        svg.box(x, y, width, 62, "block control")
        svg.text(x + 14, y + 24, "control", "name")
        svg.text(
            x + 14,
            y + 45,
            "handshakes, valid bits"
            + (f", codebook counter 0–{c.n_groups - 1}" if c.n_groups > 1 else ""),
            "small",
        )
        svg.text(
            x + width / 2 + 20,
            y + 24,
            f"latency {c.latency_cycles} cycles · a row group every "
            f"{_plural(c.interval_cycles, 'cycle')}",
            "strong",
            "middle",
        )
        svg.text(
            x + width / 2 + 20,
            y + 45,
            f"{c.look_ups_per_cycle:,.6g} look-ups per cycle, which stand for "
            f"{c.macs_per_cycle:,.6g} MACs",
            "small",
            "middle",
        )
        self.share(x + width - 14, y + 28, "control and clock", "end")
        for kind in ("control", "top", "clock tree"):
            self.marks[kind] = (x + width / 4, y)

    def wires(self) -> None:
        c = self.c
        values = c.rows * c.parallel_codebooks * c.n_values * c.input_bits
        y = _TOP + 136
        left, right = _INPUT[0] + _INPUT[1], _ENCODER[0]
        self.bus([(left + 2, y), (right, y)], values, "input", ((left + right) / 2, y))
        left, right = _ENCODER[0] + _ENCODER[1], _DECODER[0]
        left += _STACK * (min(c.parallel_codebooks, 3) - 1)
        self.bus(
            [(left, y), (right, y)],
            c.rows * c.parallel_codebooks * c.code_wires,
            "codes" if c.binary_codes else "codes, one-hot",
            ((left + right) / 2, y),
        )
        left, right = _DECODER[0] + _DECODER[1], _OUTPUT[0]
        left += _STACK * (min(c.n_outputs, 3) - 1)
        bits = c.rows * c.n_outputs * c.accumulator_bits
        self.bus([(left, y), (right, y)], bits, "sums", ((left + right) / 2, y))
        x = _OUTPUT[0] + _OUTPUT[1]
        bits = c.output_width * c.result_bits
        self.svg.arrow([(x, y), (_WIDTH - 2, y)], "wire", _wire(bits))
        self.svg.text(x, _TOP - 8, f"o_data {bits:,} bit" + "s" * (bits > 1), "wirename", "end")

    def program(self) -> None:
        c, y = self.c, 362
        width = c.program_data_bits
        self.svg.text(_INPUT[0], y - 12, "program", "wirename")
        self.svg.text(_INPUT[0], y + 22, f"{width} bits a word", "wirename")
        bottom = _TOP + _BODY
        for k, block in enumerate((_ENCODER, _DECODER)):
            x = block[0] + 62
            start = _INPUT[0] + 62 if k == 0 else _ENCODER[0] + 62
            self.svg.arrow([(start, y), (x, y), (x, bottom)], "wire program", _wire(width) / 2)

    def units(self, config: TiledConfig) -> None:
        """Say that this is one of several."""
        x, y = _INPUT[0], 426
        self.svg.text(x, y, f"one of {_plural(config.n_units, 'unit')}", "strong")
        counts = " × ".join(map(str, config.tiles.values()))
        self.lines(x, y + 19, [f"{counts} in N, M, D", "shares are of all"])

    def critical(self, kinds: list[str]) -> None:
        """Number the blocks that the path goes through, in its order."""
        taken: dict[tuple[float, float], int] = {}
        for number, kind in enumerate(kinds, 1):
            place = self.marks.get(kind)
            if place is None:
                continue
            # Further visits stand below the first.
            y = place[1] + 22 * taken.get(place, 0)
            taken[place] = taken.get(place, 0) + 1
            circle = self.svg.add("circle", cx=place[0], cy=y, r=10, class_="mark")
            self.svg.hover(circle, f"Step {number} of the critical path: {kind}")
            self.svg.text(place[0], y + 4, str(number), "marknumber", "middle")


def draw(config: AnyConfig, metrics: Metrics) -> str:
    """The data path of a configuration, or of one of its units, as SVG.

    Parameters
    ----------
    metrics : Metrics
        Shares of area and power, and the critical path, where they were measured.
    """
    if isinstance(config, TiledConfig):
        picture = _Schematic(config.unit, metrics)
        picture.units(config)
    else:
        picture = _Schematic(config, metrics)
    picture.program()
    picture.wires()
    picture.input()
    picture.encoders()
    picture.decoders()
    picture.output()
    picture.control()
    path: Mapping[str, Any] = metrics.notes.get("critical_path") or {}
    picture.critical([part["kind"] for part in path.get("stretches", [])])
    return picture.svg.markup()
