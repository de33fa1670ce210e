"""The demo's page: tables of results and pictures in one HTML file."""

from __future__ import annotations

import html
import logging
import time
from importlib.metadata import version
from pathlib import Path

import halut
from halut.files import atomic_write
from sim.demo import pictures
from sim.demo.pipeline import Outcome, Sweep

__all__ = ["write_page"]

log = logging.getLogger(__name__)

_CSS = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1d2733; background: #f3f5f6; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .5rem; }
p { max-width: 72ch; }
figure { margin: 1rem 0; background: white; border-radius: 10px; padding: 1rem 1.1rem;
         box-shadow: 0 1px 3px #0f1f2b22; }
figure img { width: 100%; height: auto; display: block; }
figcaption { color: #64707d; font-size: .9rem; margin-top: .6rem; max-width: 84ch; }
table { border-collapse: collapse; background: white; border-radius: 10px; overflow: hidden;
        box-shadow: 0 1px 3px #0f1f2b22; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .5rem .9rem; text-align: right; border-bottom: 1px solid #e8ecef; }
th:first-child, td:first-child { text-align: left; }
thead th { background: #0f766e; color: white; font-weight: 600; border: 0; }
.ok { color: #0f766e; font-weight: 600; }
footer { color: #64707d; font-size: .85rem; margin-top: 3rem; }
code { background: #e8ecef; padding: .1em .35em; border-radius: 4px; font-size: .9em; }
"""


def _format(outcome: Outcome, value: float) -> str:
    return f"{100 * value:.1f} %" if outcome.problem.labels is not None else f"{value:.4f}"


def table_rows(outcomes: list[Outcome]) -> list[tuple[str, list[str]]]:
    """Return the table of results: a label, and one text per problem, line by line."""
    lines: list[tuple[str, list[str]]] = []
    lines.append(("measure", [
        "accuracy" if o.problem.labels is not None else "squared error / variance"
        for o in outcomes
    ]))  # fmt: skip
    for stage in ("exact", "MADDNESS", "INT8", "RTL"):
        lines.append((stage, [_format(o, o.qualities[stage]) for o in outcomes]))
    lines += [
        ("rows simulated", [f"{len(o.problem.test):,}" for o in outcomes]),
        ("outputs equal to the model", [f"{o.result.outputs.size:,} of {o.result.outputs.size:,}"
                                        for o in outcomes]),
        ("clock cycles", [f"{o.result.cycles:,}" for o in outcomes]),
        ("cycles per image", [f"{o.result.cycles / o.problem.n_images:,.1f}" for o in outcomes]),
        ("look-ups per cycle", [f"{o.config.look_ups_per_cycle:g}" for o in outcomes]),
        ("bytes of LUT", [f"{o.lut_bytes:,}" for o in outcomes]),
    ]  # fmt: skip
    return lines


def _table(outcomes: list[Outcome]) -> str:
    head = "".join(f"<th>{html.escape(o.problem.title)}</th>" for o in outcomes)
    body = []
    for label, cells in table_rows(outcomes):
        kind = ' class="ok"' if label in ("RTL", "outputs equal to the model") else ""
        values = "".join(f"<td{kind}>{html.escape(cell)}</td>" for cell in cells)
        body.append(f"<tr><td>{html.escape(label)}</td>{values}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _figure(address: str, alt: str, caption: str) -> str:
    return (
        f'<figure><img src="{address}" alt="{html.escape(alt)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _describe(outcome: Outcome) -> str:
    c = outcome.config
    return (
        f"{c.n_codebooks} codebooks, {c.n_prototypes} prototypes, {c.n_outputs} outputs, "
        f"{c.rows} row{'s' if c.rows > 1 else ''} and {c.parallel_codebooks} "
        f"codebook{'s' if c.parallel_codebooks > 1 else ''} in parallel, {c.encoder} encoder, "
        f"{c.input_format} inputs; one group of rows every {c.interval_cycles} cycle"
        f"{'s' if c.interval_cycles > 1 else ''}, latency {c.latency_cycles} cycles"
    )


def write_page(
    path: Path, digits: Outcome, photo: Outcome, sweeps: list[Sweep], seconds: float
) -> None:
    """Draw every picture and write the page, in one go.

    Parameters
    ----------
    path : Path
        The HTML file.
    digits, photo : Outcome
    sweeps : list of Sweep
        One for each of them.
    seconds : float
        How long the demo took until here.
    """
    start = time.monotonic()
    outcomes = [digits, photo]
    uri = pictures.as_data_uri
    parts = [
        "<h1>Matrix products by table look-up</h1>",
        "<p>Two matrix products on real images, learned with MADDNESS, turned into Verilog and "
        "simulated on images that were not learned from. <b>MADDNESS</b> is the float model, "
        "<b>INT8</b> the bit-exact model with 8-bit tables, <b>RTL</b> what the simulated Verilog "
        "gave: the same as INT8 on every output bit, or this page would not exist.</p>",
        _table(outcomes),
        f"<p>Digits: {_describe(digits)}.<br>Photographs: {_describe(photo)}. Simulated with "
        f"{digits.result.simulator}.</p>",
        "<h2>Handwritten digits</h2>",
        _figure(
            uri(pictures.digit_answers(digits)),
            "digits with the accelerator's answers",
            "Held-out digits and the accelerator’s answers, mistakes first.",
        ),
        _figure(
            uri(pictures.digit_tree(digits)),
            "a learned tree, its thresholds and its table",
            "A row walks down each tree by comparing one pixel per level with the threshold of "
            "the node that it has reached; the leaf is the code. The accelerator adds the code’s "
            "column of the table to the ten sums. No multiplication is left.",
        ),
        "<h2>Photographs</h2>",
        *(
            _figure(
                uri(pictures.photograph(photo, shown)),
                f"the photograph {shown.name}, filtered exactly and by the accelerator",
                f"The right 40 % of “{shown.name}”, which was not learned from, through eight "
                "3×3 colour filters: exact, as the simulated Verilog answered, and the absolute "
                "difference, four times amplified, in units of the picture’s range.",
            )
            for shown in photo.problem.photographs
        ),
        _figure(
            uri(pictures.filter_tree(photo)),
            "the learned tree of the window's middle line",
            "Below the tree: the mean of the three pixels of all training windows that end in the "
            "leaf.",
        ),
        "<h2>Codes and errors</h2>",
        _figure(
            uri(pictures.code_histogram(outcomes)),
            "code histograms",
            "How often held-out rows end in each leaf, and the entropy of each codebook’s codes "
            "(at most 4 bits with 16 leaves).",
        ),
        _figure(
            uri(pictures.error_by_codebooks(outcomes, sweeps)),
            "error by number of codebooks",
            "More codebooks, smaller error; float tables. Nearest-centroid codes cost "
            "multiplications, trees cost comparisons: the gap is the price of the tree.",
        ),
    ]
    log.info("  %-46s %5.1f s", "drew the pictures", time.monotonic() - start)
    tools = ", ".join(f"{name} {version(name)}" for name in ("amaranth", "cocotb", "numpy"))
    parts.append(
        f"<footer>halut-stack {halut.__version__}; {tools}; "
        f"{seconds + time.monotonic() - start:.0f} s. Images: scikit-learn’s bundled digits and "
        "sample photographs.</footer>"
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>halut-stack demo</title><style>{_CSS}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
