"""``python -m flow mutate``: how many faults the benches find."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from halut.cli import Parser
from halut.errors import CheckFailed, HalutError
from halut.files import write_text

_DESCRIPTION = """\
Puts one small fault at a time into the emitted Verilog of three configurations, or of what
halut_axi has around an accelerator, and runs the benches of the top module on it. Mutants that
no bench finds must be equivalent: Yosys proves it, or flow/mutation/equivalent.yaml argues it.
Results are kept per mutant: a run that was interrupted goes on where it was."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(prog="python -m flow mutate", description=_DESCRIPTION)
    add = parser.add_argument
    add(
        "--config",
        metavar="NAMES",
        help="small, double, bytes, axi or axi_stream, with commas (default: the first three)",
    )
    add("--count", type=int, default=100, metavar="N",
        help="mutants of each configuration")  # fmt: skip
    add("--seed", type=int, default=1, metavar="N", help="which ones")
    add("--bar", type=float, default=95, metavar="PERCENT",
        help="least share killed of those not equivalent")  # fmt: skip
    add("--jobs", type=int, metavar="N", help="mutants at a time (default: one per processor)")
    add("--simulator", metavar="NAME", help="icarus or verilator (default: icarus where it is)")
    add("-o", "--output", default="build/mutants", metavar="DIR",
        help="results and report.json")  # fmt: skip
    options = parser.parse_args(argv)
    for name in ("count", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise HalutError(f"--{name} must be at least 1, not {value}")
    if options.seed < 0:
        raise HalutError(f"--seed must be at least 0, not {options.seed}")
    if not 0 <= options.bar <= 100:
        raise HalutError(f"--bar must be in [0, 100] %, not {options.bar:g}")

    from sim import runner

    from .campaign import argued, campaign, default_jobs, pick_configs, summary, table

    configs = pick_configs(options.config)
    simulator = options.simulator
    if simulator is None and "icarus" in runner.available_simulators():
        simulator = "icarus"  # builds in a moment
    simulator = runner.pick_simulator(simulator)
    out = Path(options.output)
    records = campaign(
        configs, out, count=options.count, seed=options.seed, jobs=options.jobs or default_jobs(),
        simulator=simulator,
    )  # fmt: skip
    reasons = argued()
    found = summary(records, reasons)
    for record in records:
        if record["status"] == "survived" and record["id"] in reasons:
            record.update(status="argued", reason=reasons[record["id"]])
    report = {"seed": options.seed, "count": options.count, "simulator": simulator,
              "bar": options.bar, "configurations": found, "mutants": records}  # fmt: skip
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    print(table(found))
    for record in records:
        if record["status"] == "survived":
            print(f"survived: {record['configuration']} {record['id']}\n"
                  f"  {record['before'].strip()}\n  {record['after'].strip()}")  # fmt: skip
    print(f"wrote {out / 'report.json'}")
    low = [name for name, facts in found.items() if 100 * facts["rate"] < options.bar]
    if low:
        raise CheckFailed(f"the benches must kill {options.bar:g} % of the mutants of every "
                          f"configuration, but do not of {', '.join(low)}")  # fmt: skip
    return 0
