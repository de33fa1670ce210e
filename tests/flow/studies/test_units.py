"""The table of single units."""

from __future__ import annotations

from flow.figures.metrics import METRICS, Metrics
from flow.studies.units import markdown, title
from rtl_gen.config import AcceleratorConfig

SMALL = AcceleratorConfig(
    name="small", n_codebooks=4, n_prototypes=4, n_outputs=4, input_format="int4", lut_bits=4,
    encoder="pipelined", write_word_bits=8,
)  # fmt: skip


def test_table() -> None:
    metrics = Metrics()
    for name in METRICS:
        metrics.set(name, 2.0)
    metrics.provenance = {"slug": "unit_x"}
    text = markdown(SMALL, {"decoders": metrics, "adder": metrics})
    # Two decoders per program word: an operation costs half of a cycle.
    row = next(line for line in text.splitlines() if line.startswith("| 2 decoders |"))
    assert row.endswith("| 2 | 1.0000 |")
    assert "- **adder**: two accumulators" in text and "`unit_x`" in text
    assert (title("encoders", SMALL), title("encoder", SMALL)) == ("2 encoders", "encoder")
