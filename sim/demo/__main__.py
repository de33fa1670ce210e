"""``python -m sim.demo``: the whole way from images to checked Verilog, with pictures."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from halut.cli import Parser, run
from halut.errors import HalutError

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def _parser() -> Parser:
    parser = Parser(
        prog="python -m sim.demo",
        description="Learn two matrix products on real images, generate their accelerators, "
        "simulate them on held-out images, check every output bit, draw the results.",
        epilog="Exit status: 0 all outputs equal the model, 1 they do not, 2 wrong input.",
    )
    parser.add_argument(
        "-o", "--output", default="build/demo", metavar="DIR",
        help="folder for the page, programs and Verilog (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--rows", type=int, metavar="N",
        help="held-out rows: images of digits, and about so many windows per photograph "
        "(default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--simulator", metavar="NAME",
        help="verilator or icarus (default: the first one installed)",
    )  # fmt: skip
    parser.add_argument("--no-pictures", action="store_true", help="do not draw the page")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("sim.demo").setLevel(logging.INFO)
    if options.rows is not None and options.rows < 1:
        raise HalutError(f"--rows must be at least 1, not {options.rows}")
    try:
        from sim.demo.page import table_rows, write_page
        from sim.demo.pipeline import run_problem, sweep_codebooks
        from sim.demo.problems import digits, photographs
    except ModuleNotFoundError as error:
        raise HalutError(
            f"{error.name} must be installed for the demo (pip install -e .[demo])"
        ) from None
    from rtl_gen.config import AcceleratorConfig
    from sim.runner import pick_simulator

    simulator = pick_simulator(options.simulator)
    folder = Path(options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HalutError(f"output must be writable: {error.strerror} ({folder})") from None
    begin = time.monotonic()
    n_steps = 2 if options.no_pictures else 3

    def step(number: int, what: str) -> None:
        print(f"[{number}/{n_steps}] {what}  ({time.monotonic() - begin:.0f} s)", flush=True)

    outcomes = []
    for number, (make, name) in enumerate(((digits, "digits"), (photographs, "photo")), start=1):
        problem = make(options.rows)
        step(number, f"{problem.title}: {len(problem.test)} held-out rows")
        config = AcceleratorConfig.from_yaml(_CONFIGS / f"{name}.yaml")
        outcomes.append(run_problem(problem, config, folder, simulator))
    page = folder / "index.html"
    if not options.no_pictures:
        step(3, "error by number of codebooks, pictures")
        sweeps = [sweep_codebooks(o.problem, o.config.n_prototypes) for o in outcomes]
        write_page(page, outcomes[0], outcomes[1], sweeps, time.monotonic() - begin)

    print()
    lines = [("", [outcome.problem.title for outcome in outcomes]), *table_rows(outcomes)]
    width = max(len(label) for label, _ in lines)
    columns = [max(len(cells[k]) for _, cells in lines) for k in range(len(outcomes))]
    for label, cells in lines:
        row = "  ".join(f"{cell:>{size}}" for cell, size in zip(cells, columns, strict=True))
        print(f"{label:<{width}}  {row}")
    print(f"\nRTL and model agree on every bit; {time.monotonic() - begin:.0f} s")
    print(f"wrote {folder if options.no_pictures else page}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
