"""``python -m halut info``: what a program holds."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from halut.program import Program


def add_verb(verbs: Any) -> None:
    """Add ``info`` to the command line."""
    verb = verbs.add_parser(
        "info", help="show what a program holds", description="Show what a program holds."
    )
    verb.add_argument("program", metavar="PROGRAM", help="program (.npz)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    program = Program.load(options.program)
    facts: dict[str, Any] = {
        "n_features": program.n_features,
        "n_codebooks": program.n_codebooks,
        "n_prototypes": program.n_prototypes,
        "n_outputs": program.n_outputs,
        "input_format": program.input_format,
        "lut_bits": program.lut_bits,
        "lut_format": program.lut_format,
        "accumulator_bits": program.accumulator_bits,
        "output_format": program.output_format,
        "relu": program.relu,
        "lut_total_bits": program.lut.size * program.lut_bits,
        "threshold_total_bits": program.thresholds.size * program.threshold_bits,
        "lut_range": [program.lut.min().item(), program.lut.max().item()],
        "distinct_split_dims": len(np.unique(program.split_dims[program.split_dims >= 0])),
        "provenance": program.provenance,
    }
    if program.signs is not None:
        facts["terms"] = program.terms
    if program.window:
        facts |= {"window": program.window, "splits": program.splits}
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    provenance = facts.pop("provenance")
    for name, value in [*facts.items(), *sorted(provenance.items())]:
        shown = " to ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{name:20} {shown}")
    return 0
