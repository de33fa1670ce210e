"""Runs the benches of the top module on mutants of its Verilog, and counts those that fail."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import halut
import rtl_gen
import sim
from flow.report.table import terminal
from halut import golden
from halut.checks import known
from halut.errors import CheckFailed
from halut.files import write_text
from halut.schedule import schedule
from halut.sources import folder_hash
from rtl_gen import AcceleratorConfig, reference
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.generate import generate_axi
from rtl_gen.machine import machine
from sim import runner
from sim.axi import build_axi, write_random_job
from sim.schedule import simulate_schedule
from sim.simulation import build_accelerator, simulate

from .equivalence import proved_equal
from .operators import Mutant, apply, mutants, sample

__all__ = [
    "BENCHES",
    "BLOCKS",
    "CONFIGS",
    "argued",
    "campaign",
    "judge",
    "limit_s",
    "summary",
    "table",
]

AnySubject = AcceleratorConfig | AxiConfig

CONFIGS: dict[str, AcceleratorConfig] = {
    "small": AcceleratorConfig(
        name="small", n_codebooks=4, n_prototypes=4, n_outputs=2, encoder="pipelined",
        input_format="int8",
    ),
    "double": AcceleratorConfig(
        name="double", n_codebooks=6, n_prototypes=4, n_outputs=2, rows=2, parallel_codebooks=2,
        encoder="pipelined", input_format="int8", double_buffer=True,
    ),
    "bytes": AcceleratorConfig(
        name="bytes", n_codebooks=4, n_prototypes=4, n_outputs=3, rows=2, parallel_codebooks=2,
        outputs_per_cycle=3, output_format="int8", relu=True, memory="ff",
    ),
}  # fmt: skip
"""What is mutated: one program; two programs; an output stage and the interleaved encoder."""

BLOCKS: dict[str, AxiConfig] = {
    # Three words per codebook and prototype: addresses of a program have gaps.
    "axi": AxiConfig(core=dataclasses.replace(CONFIGS["small"], n_outputs=3, write_word_bits=8)),
    "axi_stream": AxiConfig(core=CONFIGS["double"], bus="stream", data_bits=32),
}
"""What is mutated when it is asked for: what `halut_axi` has around an accelerator."""
_BLOCK_MODULES = (
    "axi", "collector", "completion", "engine", "feeder", "fifo", "gearbox", "master", "read_dma",
    "registers", "stream", "supervisor", "write_dma",
)  # fmt: skip
SHORTEST_LIMIT_S = 120.0  # of a bench on a mutant
_BLOCK_GROUPS = 12  # row groups that its benches send

_ARGUMENTS = Path(__file__).with_name("equivalent.yaml")
# Whatever decides about a mutant beside the Verilog.
_CODE = [Path(str(package.__file__)).parent for package in (halut, rtl_gen, sim)]
_CODE.append(Path(__file__).parent)


def _matmul(config: AcceleratorConfig, verilog: Path, simulator: str, timeout_s: float) -> None:
    built = build_accelerator(config, verilog=verilog, simulator=simulator, timeout_s=timeout_s)
    env = {"HALUT_CONFIG": json.dumps(config.to_dict()), "HALUT_FAIL_FAST": "1"}
    runner.run(built, "sim.benches.matmul", env=env, timeout_s=timeout_s)


def _job(config: AcceleratorConfig, verilog: Path, simulator: str, timeout_s: float) -> None:
    rng = np.random.default_rng(5)
    program = reference.random_program(config, rng)
    A = rng.uniform(-100, 100, (40, program.n_features))
    simulate(
        config, program, A, verilog=verilog, simulator=simulator, stall_pattern="both",
        timeout_s=timeout_s,
    )  # fmt: skip


def _schedule(config: AcceleratorConfig, verilog: Path, simulator: str, timeout_s: float) -> None:
    rng = np.random.default_rng(6)
    along = 2 if config.output_format == "raw" else 1
    size = (13, along * config.n_codebooks, 2 * config.n_outputs)
    program = golden.random_program(
        rng, size[1], config.n_prototypes, size[2], config.input_format, config.lut_bits,
        n_features=11, output_format=config.output_format, relu=config.relu,
    )  # fmt: skip
    plan = schedule(*size, machine(config), order="rows", row_block=6)
    A = rng.uniform(-100, 100, (13, 11))
    simulate_schedule(
        config, plan, program, A, verilog=verilog, simulator=simulator, timeout_s=timeout_s
    )


BENCHES: dict[str, Callable[[AcceleratorConfig, Path, str, float], None]] = {
    "bench_matmul": _matmul,
    "simulate": _job,
    "simulate_schedule": _schedule,
}
"""The benches of the top module, those that find most first."""


def _block(config: AxiConfig, verilog: Path, simulator: str, timeout_s: float) -> None:
    built = build_axi(config, verilog=verilog, simulator=simulator, timeout_s=timeout_s)
    bench = "axi_stream" if config.bus == "stream" else "axi"
    with tempfile.TemporaryDirectory() as folder:
        write_random_job(Path(folder), config, _BLOCK_GROUPS)
        env = {"HALUT_JOB": folder, "HALUT_FAIL_FAST": "1"}
        runner.run(built, f"sim.benches.{bench}", env=env, timeout_s=timeout_s)


def _build(config: AnySubject, verilog: Path, simulator: str, timeout_s: float) -> runner.Build:
    build: Callable[..., runner.Build] = build_accelerator
    if isinstance(config, AxiConfig):
        build = build_axi
    return build(config, verilog=verilog, simulator=simulator, timeout_s=timeout_s)


def _benches(config: AnySubject) -> Mapping[str, Callable[..., None]]:
    return {"bench_axi": _block} if isinstance(config, AxiConfig) else BENCHES


def _population(config: AnySubject) -> tuple[str, list[Mutant]]:
    """Verilog and its mutants; of a block, those of what is around the accelerator."""
    if not isinstance(config, AxiConfig):
        verilog = rtl_gen.generate(config).verilog
        return verilog, mutants(verilog)
    verilog = generate_axi(config).verilog
    names = tuple(f"halut_{name}" for name in _BLOCK_MODULES)
    return verilog, [mutant for mutant in mutants(verilog) if mutant.module.startswith(names)]


def argued(path: Path = _ARGUMENTS) -> dict[str, str]:
    """Return why mutants are equivalent, by id, as the committed list argues."""
    listed = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    return {mutant: entry["reason"] for entry in listed for mutant in entry["mutants"]}


def judge(
    config: AnySubject,
    verilog: str,
    mutant: Mutant,
    folder: Path,
    *,
    simulator: str,
    timeout_s: float = SHORTEST_LIMIT_S,
) -> dict[str, Any]:
    """Run the benches on one mutant, one after the other, until one fails.

    A bench that ends after `timeout_s` has failed, too: that must be much longer than it takes on
    the Verilog as it is (`limit_s`).

    Returns
    -------
    dict
        ``status``: ``"killed"``, ``"proved"`` (equivalent: Yosys has a proof), ``"survived"``, or
        ``"rejected"`` by the simulator's compiler; ``by``: the bench; ``reason``; ``seconds``.
    """
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    changed = apply(verilog, mutant)
    path = folder / f"{mutant.id}.v"
    path.write_text(changed, encoding="utf-8")

    def result(status: str, by: str | None = None, reason: str | None = None) -> dict[str, Any]:
        seconds = round(time.monotonic() - start, 1)
        return {"status": status, "by": by, "reason": reason, "seconds": seconds}

    built = None
    try:
        try:
            built = _build(config, path, simulator, timeout_s)
        except runner.SimulationFailed as error:
            return result("rejected", reason=_short(error))
        for name, bench in _benches(config).items():
            try:
                bench(config, path, simulator, timeout_s)
            except CheckFailed as error:
                return result("killed", name, _short(error))
        return result("proved" if proved_equal(verilog, changed, mutant.module) else "survived")
    finally:
        path.unlink()
        if built is not None:
            shutil.rmtree(built.directory, ignore_errors=True)
            built.directory.with_name(f"{built.directory.name}.lock").unlink(missing_ok=True)


def _short(error: Exception) -> str:
    """The message without the path behind it."""
    message = str(error)
    return (message.rpartition(" (")[0] or message)[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Failing benches are what is asked for: their logs are not shown."""
    log = logging.getLogger("sim.runner")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _fingerprint(verilog: str, simulator: str) -> str:
    content = f"{verilog}\0{simulator}\0{folder_hash(_CODE)}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def campaign(
    names: Mapping[str, AnySubject],
    out: Path,
    *,
    count: int,
    seed: int,
    jobs: int,
    simulator: str,
) -> list[dict[str, Any]]:
    """Judge mutants of every configuration, those without a result below `out` only.

    Results are kept one file per mutant, ``out/<configuration>/<mutant>.json``, and belong to the
    Verilog and the benches that they were made with; others are made again. An interruption
    loses the mutants that are being judged.

    Returns
    -------
    list of dict
        Per mutant: what `judge` returns, and ``configuration``, ``id``, ``kind``, ``operator``,
        ``before``, ``after``.
    """
    parts: list[list[tuple[str, str, str, Mutant]]] = []
    for name, config in names.items():
        verilog, population = _population(config)
        mark = _fingerprint(verilog, simulator)
        chosen = sample(population, count, seed)
        parts.append([(name, verilog, mark, mutant) for mutant in chosen])
    # Configurations take turns: what is there after a while is a sample of all of them.
    turns = itertools.zip_longest(*parts)
    work = [item for turn in turns for item in turn if item is not None]
    done: dict[tuple[str, str], dict[str, Any]] = {}
    for name, _, mark, mutant in work:
        kept = _kept(out / name / f"{mutant.id}.json", mark)
        if kept is not None:
            done[name, mutant.id] = kept
    if done:
        print(f"{len(done)} of {len(work)} mutants were judged before", file=sys.stderr)

    def one(name: str, verilog: str, mark: str, mutant: Mutant) -> dict[str, Any]:
        folder = out / name
        verdict = judge(
            names[name], verilog, mutant, folder, simulator=simulator, timeout_s=limits[name]
        )
        facts = {key: value for key, value in dataclasses.asdict(mutant).items()
                 if key not in ("module", "line")}  # fmt: skip
        record = {"configuration": name, **facts, **verdict}
        text = json.dumps({"made_with": mark, **record}, indent=2)
        write_text(folder / f"{mutant.id}.json", text + "\n")
        return record

    limits: dict[str, float] = {}
    for part in parts:
        if any((name, mutant.id) not in done for name, _, _, mutant in part):
            name, verilog = part[0][:2]
            limits[name] = limit_s(
                _check_unchanged(names[name], verilog, out / name, simulator), jobs
            )
    with _quiet(), ThreadPoolExecutor(jobs) as pool:
        pending = {
            pool.submit(one, name, verilog, mark, mutant): (name, mutant.id)
            for name, verilog, mark, mutant in work
            if (name, mutant.id) not in done
        }
        waiting = set(pending)
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    done[pending[future]] = future.result()
                _progress(len(done), len(work), done.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    order = [item for part in parts for item in part]
    return [done[name, mutant.id] for name, _, _, mutant in order]


def limit_s(unchanged_s: float, jobs: int) -> float:
    """Seconds after which a bench has failed on a mutant.

    `unchanged_s` is what all take on the Verilog as it is, one at a time.

    A machine that is busy with other things as well must not kill mutants.

    Examples
    --------
    >>> limit_s(2.0, 1), limit_s(40.0, 1), limit_s(40.0, 4)
    (120.0, 400.0, 1600.0)
    """
    return max(SHORTEST_LIMIT_S, 10 * unchanged_s * jobs)


def _check_unchanged(
    config: AnySubject, verilog: str, folder: Path, simulator: str, timeout_s: float = 1800.0
) -> float:
    """Run the benches on the Verilog as it is: where one fails, it says nothing about mutants.

    Returns the seconds that they took, with building.
    """
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "unchanged.v"
    path.write_text(verilog, encoding="utf-8")
    for bench in _benches(config).values():
        bench(config, path, simulator, timeout_s)
    return time.monotonic() - start


def _kept(path: Path, mark: str) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.pop("made_with", None) != mark:
        return None
    return record


def _progress(n_done: int, n_all: int, records: Any) -> None:
    if not sys.stderr.isatty():
        return
    counts = Counter(record["status"] for record in records)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    end = "\n" if n_done == n_all else ""
    print(f"\r\033[K{n_done} of {n_all} mutants: {text}", end=end, file=sys.stderr, flush=True)


def summary(records: list[dict[str, Any]], reasons: Mapping[str, str]) -> dict[str, Any]:
    """Count the records by configuration; `reasons` says why mutants are equivalent, by id.

    Returns
    -------
    dict
        Per configuration: ``mutants``, ``rejected``, ``killed``, ``by`` (killed, by bench),
        ``proved``, ``argued``, ``survivors`` (ids) and ``rate``, killed of those that are neither
        rejected nor equivalent.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(record["configuration"] for record in records):
        mine = [record for record in records if record["configuration"] == name]
        status = Counter(record["status"] for record in mine)
        alive = [record["id"] for record in mine if record["status"] == "survived"]
        survivors = [mutant for mutant in alive if mutant not in reasons]
        judged = status["killed"] + len(survivors)
        found[name] = {
            "mutants": len(mine),
            "rejected": status["rejected"],
            "killed": status["killed"],
            "by": dict(Counter(r["by"] for r in mine if r["status"] == "killed")),
            "proved": status["proved"],
            "argued": len(alive) - len(survivors),
            "survivors": survivors,
            "rate": status["killed"] / judged if judged else 0.0,
        }
    return found


def table(found: Mapping[str, Any]) -> str:
    """Return a summary as text."""
    counts = ("mutants", "rejected", "killed", "proved", "argued")
    rows = [["configuration", *counts, "survived", "rate"]]
    for name, facts in found.items():
        numbers = [facts[key] for key in counts] + [len(facts["survivors"])]
        rows.append([name, *map(str, numbers), f"{100 * facts['rate']:.1f} %"])
    return terminal(rows)


def default_jobs() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pick_configs(text: str | None) -> dict[str, AnySubject]:
    """Return the configurations of a list with commas, by default all of `CONFIGS`."""
    every: dict[str, AnySubject] = {**CONFIGS, **BLOCKS}
    names = text.split(",") if text else list(CONFIGS)
    known("config", names, every)
    return {name: every[name] for name in names}
