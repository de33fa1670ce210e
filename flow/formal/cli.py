"""Command line of ``flow formal``: proves what the units promise, and that the proofs can fail."""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from halut.cli import Parser
from halut.errors import CheckFailed, HalutError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m flow formal",
        description="Prove what the units promise, for all inputs, with Yosys and the ABC inside "
        "its pip package. Every property has a broken twin that must be refuted.",
        epilog="Exit status: 0 all proved and all twins refuted, 1 not, 2 wrong input or "
        "something missing. What is proved and what is not: docs/verification.md.",
    )
    add = parser.add_argument
    add("--only", default="", metavar="TEXT",
        help="checks whose name begins with TEXT, comma-separated (default: all)")  # fmt: skip
    add("--list", action="store_true", help="list checks and properties, prove nothing")
    add("--timeout", type=float, default=120, metavar="S",
        help="seconds that the solver may take for a property")  # fmt: skip
    add("-j", "--jobs", type=int, default=0, metavar="N",
        help="checks at a time; 0 for one per core")  # fmt: skip
    add("--yosys", default="pyosys", metavar="NAME", help="pyosys (pip package) or a program")
    add("-o", "--output", default="build", metavar="DIR", help="folder for all products")
    add("-v", "--verbose", action="store_true", help="a line for every property")
    return parser


def _chosen(only: str) -> list[Any]:
    from flow.formal.checks import all_checks

    checks = all_checks()
    starts = tuple(text.strip() for text in only.split(",") if text.strip())
    if not starts:
        return checks
    for start in starts:
        if not any(check.name.startswith(start) for check in checks):
            kinds = dict.fromkeys(check.name.split("_")[0] for check in checks)
            raise HalutError(f"--only must be among {', '.join(kinds)}, not {start!r}")
    return [check for check in checks if check.name.startswith(starts)]


def _prover(check: Any) -> Callable[..., list[Any]]:
    from flow.formal.prove import Check, prove_check
    from flow.formal.still import StillCheck, prove_still
    from flow.formal.whole import BoundCheck, NetlistCheck, prove_bound, prove_mapped

    provers: dict[type, Callable[..., list[Any]]] = {
        Check: prove_check,
        StillCheck: prove_still,
        BoundCheck: lambda check, *_: prove_bound(check),
        NetlistCheck: prove_mapped,
    }
    return provers[type(check)]


def main(argv: Sequence[str]) -> int:
    """Run ``python -m flow formal``; returns the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.jobs < 0:
        raise HalutError(f"--jobs must be at least 0, not {arguments.jobs}")
    if not 0 < arguments.timeout <= 1e6:
        raise HalutError(f"--timeout must be seconds above 0, not {arguments.timeout:g}")
    from flow.tools import find_abc, find_yosys
    from halut.files import write_text

    checks = _chosen(arguments.only)
    if arguments.list:
        for check in checks:
            print(check.name)
            for prop in getattr(check, "properties", ()):
                print(f"  {prop.name}: {prop.says}")
        return 0
    yosys, abc = find_yosys(arguments.yosys), find_abc()
    folder = Path(arguments.output) / "formal"
    if not _can_write(folder):
        raise HalutError(f"output must be writable ({folder})")
    start = time.monotonic()
    outcomes: list[Any] = []
    failures: list[str] = []
    jobs = arguments.jobs or os.cpu_count() or 1
    width = max(len(check.name) for check in checks)

    def work(check: Any) -> tuple[list[Any], float]:
        begin = time.monotonic()
        found = _prover(check)(check, yosys, abc, folder, arguments.timeout)
        return found, time.monotonic() - begin

    futures = _start(work, checks, jobs)
    for number, (check, future) in enumerate(zip(checks, futures, strict=True)):
        if sys.stderr.isatty():
            print(f"\r[{number + 1}/{len(checks)}] {check.name:<{width}}", end="",
                  file=sys.stderr, flush=True)  # fmt: skip
        try:
            found, seconds = future.result()
        except CheckFailed as error:
            failures.append(str(error))
            print(f"{check.name:<{width}}  undecided: {error}")
            continue
        finally:
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr, flush=True)
        outcomes += found
        failures += _report(check.name, found, seconds, width, arguments.verbose)
    report = folder / "report.json"
    write_text(report, _json(outcomes, yosys.version, abc.version))
    proved = sum(outcome.proved for outcome in outcomes)
    refuted = sum(outcome.refuted for outcome in outcomes)
    print(
        f"{proved} of {len(outcomes)} properties of {len(checks)} units proved, {refuted} of "
        f"{len(outcomes)} broken twins refuted, in {time.monotonic() - start:.0f} s "
        f"({yosys.version}, ABC {abc.version})"
    )
    print(f"wrote {report}")
    if failures:
        raise CheckFailed(failures[0] + (f"; {len(failures) - 1} more" if failures[1:] else ""))
    return 0


def _start(work: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> list[Future[Any]]:
    """Do `work` on all items, `jobs` at a time.

    The threads are daemons: when this process ends early, so do they, and the tools with them.
    """
    waiting: queue.SimpleQueue[tuple[Future[Any], Any]] = queue.SimpleQueue()
    futures: list[Future[Any]] = [Future() for _ in items]
    for pair in zip(futures, items, strict=True):
        waiting.put(pair)

    def serve() -> None:
        while True:
            try:
                future, item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(work(item))
            except BaseException as error:
                future.set_exception(error)

    for _ in range(min(jobs, len(items))):
        threading.Thread(target=serve, daemon=True).start()
    return futures


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _report(
    name: str, found: Sequence[Any], seconds: float, width: int, verbose: bool
) -> list[str]:
    """Print a check's outcomes; returns what is wrong, a line each."""
    failures = []
    good = sum(outcome.good for outcome in found)
    print(f"{name:<{width}}  {good} of {len(found)} proved, twins refuted  {seconds:5.1f} s")
    for outcome in found:
        if verbose:
            print(f"  {outcome.name}: {outcome.says}")
        if not outcome.proved:
            print(f"  {outcome.name} is broken by:")
            print("\n".join(f"    {line}" for line in outcome.example.splitlines()[:40]))
            failures.append(f"{name} must keep: {outcome.says} ({outcome.name})")
        elif not outcome.refuted:
            failures.append(
                f"the broken twin of {outcome.name} must be refuted, not proved ({name})"
            )
    return failures


def _json(outcomes: Sequence[Any], yosys: str, abc: str) -> str:
    """The same outcomes give the same text."""
    rows = [
        {
            "check": outcome.check,
            "property": outcome.name,
            "says": outcome.says,
            "proved": outcome.proved,
            "twin_refuted": outcome.refuted,
        }
        for outcome in outcomes
    ]
    kinds = {re.sub(r"_.*", "", row["check"]) for row in rows}
    data = {
        "kind": "halut-proofs",
        "version": 1,
        "units": sorted(kinds),
        "properties": rows,
        "tools": {"yosys": yosys, "abc": abc},
    }
    return json.dumps(data, indent=2) + "\n"
