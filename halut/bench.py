"""Measure the software: accuracy, learning, and the online product beside ``A @ B``.

Whatever is compared is measured in the same run. One thread unless asked otherwise: the number of
BLAS threads is fixed when NumPy is loaded, so each measurement runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import halut
from halut import golden, mixed, native, process
from halut.baseline import ProductQuantization
from halut.errors import HalutError
from halut.matmul import HalutMatmul
from halut.output import byte_grid
from halut.problem_set import PROBLEM_SET, geometric_means, measure
from halut.problems import PROBLEMS, PUBLISHED, digit_classes, relative_error

__all__ = [
    "accuracy",
    "conditions",
    "formats",
    "kernels",
    "learn",
    "measured_alone",
    "online",
    "peak_gb",
    "problems",
    "tables",
]

INPUT_FORMATS = ("fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int16", "int8", "int6", "int4", "int2")
LUT_BITS = (16, 12, 8, 4, 2)

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

_WITH_TORCH = ("layers", "forward", "networks")


def conditions() -> dict[str, Any]:
    """Return what a measurement depends on: machine, versions, threads."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
        name = models[0] if models else name
    except OSError:
        pass  # not Linux: the processor's name is all there is
    configuration = np.show_config(mode="dicts")
    blas = configuration.get("Build Dependencies", {}).get("blas", {}) if configuration else {}
    return {
        "machine": name,
        "cpus": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "threads": os.environ.get(_THREAD_VARIABLES[0], "all"),
        "kernels": native.status()[0] or "numpy",
        "vectors": _vector_extensions(),
        "halut": halut.__version__,
    }


def _vector_extensions() -> list[str]:
    """Return what the processor has for vectors and small matrices, as Linux names it."""
    names = ("avx2", "avx512bw", "avx512vbmi", "avx512_vnni", "amx_int8", "asimd")
    with contextlib.suppress(OSError):
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
        return [name for name in names if name in words]
    return []


def measured_alone(name: str, threads: int, arguments: dict[str, Any]) -> Any:
    """Run one measurement in a process of its own.

    Parameters
    ----------
    name : str
        ``"accuracy"``, ``"problems"``, ``"tables"``, ``"formats"``, ``"learn"``, ``"online"`` or
        ``"kernels"`` of this module;
        ``"layers"``, ``"forward"`` or ``"networks"`` of `halut.nn.bench`, which need torch.
    threads : int
        BLAS threads.
    arguments : dict
        Its arguments, in JSON types.

    Returns
    -------
    what the measurement returned

    Raises
    ------
    HalutError
        When the process failed; what it said is on stderr.
    """
    environment = os.environ | {variable: str(threads) for variable in _THREAD_VARIABLES}
    module = "halut.nn.bench" if name in _WITH_TORCH else "halut.bench"
    done = process.run([sys.executable, "-m", module, name, json.dumps(arguments)], env=environment)
    sys.stderr.write(done.errors)
    if done.status:
        raise HalutError(f"measurement must finish, but {name} ended with {done.status}")
    return json.loads(done.output)


def accuracy() -> dict[str, Any]:
    """Measure the errors of all `PROBLEMS` on unseen rows.

    Returns
    -------
    dict
        ``rows``: one dict per problem and number of codebooks, with relative squared errors of
        float tables, of quantised programs as the accelerator computes them, and of others.
    """
    results = []
    for make, sizes in PROBLEMS:
        problem = make()
        exact = problem.test @ problem.B
        for n_codebooks in sizes:
            learned = HalutMatmul(C=n_codebooks).learn_offline(problem.train, problem.B)
            baseline = ProductQuantization(C=n_codebooks).learn_offline(problem.train, problem.B)
            row: dict[str, Any] = {
                "problem": problem.name,
                "n_codebooks": n_codebooks,
                "float": relative_error(learned.matmul_online(problem.test), exact),
                "k_means": relative_error(baseline.matmul_online(problem.test), exact),
            }
            for input_format, lut_bits in (("fp16", 8), ("int8", 8), ("int8", 4)):
                program = learned.program(input_format, lut_bits)
                words = program.input_words(problem.test)
                product = golden.dequantize(program, golden.matmul(program, words))
                row[f"{input_format}_lut{lut_bits}"] = relative_error(product, exact)
            published = PUBLISHED[problem.name, n_codebooks]
            row |= dict(zip(("stella_nera", "bolt", "k_means_published"), published, strict=True))
            row["ratio"] = row["float"] / row["stella_nera"]
            results.append(row)
    return {"conditions": conditions(), "rows": results}


def problems() -> dict[str, Any]:
    """Measure encoders and efforts of learning on `halut.problem_set.PROBLEM_SET`.

    Returns
    -------
    dict
        ``rows``, see `halut.problem_set.measure`; ``means``, see `geometric_means`.
    """
    rows = measure()
    return {"conditions": conditions(), "rows": rows, "means": geometric_means(rows)}


def tables() -> dict[str, Any]:
    """Measure tables that are not all alike on `halut.problem_set.PROBLEM_SET`, up to C = 16.

    Returns
    -------
    dict
        ``rows``, see `halut.mixed.measure`.
    """
    few = tuple((make, tuple(size for size in sizes if size <= 16)) for make, sizes in PROBLEM_SET)
    return {"conditions": conditions(), "rows": mixed.measure(few)}


def formats(n_codebooks: int = 16) -> dict[str, Any]:
    """Measure what each number format costs on `halut.problems.digit_classes`.

    Parameters
    ----------
    n_codebooks : int
        C.

    Returns
    -------
    dict
        ``rows``: one dict per format with ``input_format``, ``lut`` (None: the floats of
        learning), ``output``, ``error``, the relative squared error of the product as the
        accelerator computes it, and ``right``, the share of digits told rightly; ``exact_right``
        is that of the product itself.
    """
    problem, labels = digit_classes()
    exact = problem.test @ problem.B
    learned = HalutMatmul(C=n_codebooks).learn_offline(problem.train, problem.B)

    def row(input_format: str | None, lut: str | None, output: str, product: Any) -> dict[str, Any]:
        right = float((product.argmax(axis=1) == labels).mean())
        error = relative_error(product, exact)
        return {"input_format": input_format, "lut": lut, "output": output, "error": error,
                "right": right}  # fmt: skip

    rows = [row(None, None, "raw", learned.matmul_online(problem.test))]
    cases = [(name, 8) for name in INPUT_FORMATS] + [("int8", bits) for bits in LUT_BITS]
    for input_format, lut_bits in dict.fromkeys(cases):
        program = learned.program(input_format, lut_bits)
        product = golden.dequantize(
            program, golden.matmul(program, program.input_words(problem.test))
        )
        rows.append(row(input_format, f"int{lut_bits}", "raw", product))
    program = learned.program("int8", lut_format="fp16")
    words = program.input_words(problem.test)
    product = golden.dequantize(program, golden.matmul(program, words))
    rows.append(row("int8", "fp16", "raw", product))
    program = learned.program("int8", 8)
    words = program.input_words(problem.test)
    halves = golden.results(program.with_output("fp16"), words)
    rows.append(row("int8", "int8", "fp16", halves.astype(np.float32)))
    scale, offset = byte_grid(learned.matmul_online(problem.train))
    bytes_ = golden.results(program.with_output("int8", scale=scale, offset=offset), words)
    rows.append(row("int8", "int8", "int8", bytes_ * scale + offset))
    return {
        "conditions": conditions(),
        "n_codebooks": n_codebooks,
        "n_test_rows": len(labels),
        "exact_right": float((exact.argmax(axis=1) == labels).mean()),
        "rows": rows,
    }


def learn(
    n_rows: int = 131072,
    n_features: int = 576,
    n_outputs: int = 128,
    n_codebooks: int = 64,
    n_prototypes: int = 16,
) -> dict[str, Any]:
    """Measure learning on float32 mixtures of 64 decaying sources.

    Parameters
    ----------
    n_rows, n_features, n_outputs, n_codebooks, n_prototypes : int
        N, D, M, C, K.

    Returns
    -------
    dict
        Processor and wall-clock seconds, peak memory of the whole process (data included) in
        GB (10**9 bytes), error on 8192 further rows; processor seconds of ``A.T @ A``, the median
        of five, and how many times as long learning takes.
    """
    draw = np.random.default_rng(0)
    sources = min(64, n_features)
    mixing = draw.standard_normal((sources, n_features), dtype=np.float32) / np.sqrt(sources)
    mixing *= np.float32(0.95) ** np.arange(sources, dtype=np.float32)[:, None]
    A = np.empty((n_rows + 8192, n_features), dtype=np.float32)
    for begin in range(0, len(A), 8192):  # in pieces, so that making data does not set the peak
        part = A[begin : begin + 8192]
        np.matmul(
            draw.standard_normal((len(part), sources), dtype=np.float32),
            mixing.astype(np.float32),
            out=part,
        )
        part += np.float32(0.1) * draw.standard_normal(part.shape, dtype=np.float32)
    B = draw.standard_normal((n_features, n_outputs), dtype=np.float32)
    rows, unseen = A[:n_rows], A[n_rows:]
    data_gb = peak_gb()
    cpu, wall = time.process_time(), time.perf_counter()
    learned = HalutMatmul(C=n_codebooks, K=n_prototypes).learn_offline(rows, B)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = peak_gb()
    exact = []
    for _ in range(5):
        exact.append(_milliseconds(lambda: rows.T @ rows, time.process_time) / 1e3)
    gram = float(np.median(exact))
    return {
        "conditions": conditions(),
        "n_rows": n_rows,
        "n_features": n_features,
        "n_outputs": n_outputs,
        "n_codebooks": n_codebooks,
        "n_prototypes": n_prototypes,
        "cpu_s": cpu,
        "wall_s": wall,
        "exact_cpu_s": gram,
        "ratio": cpu / gram,
        "peak_gb": peak,
        "peak_before_gb": data_gb,
        "error": relative_error(learned.matmul_online(unseen), unseen @ B),
        "refine_passes": learned.stats_.refine_passes,
    }


def peak_gb() -> float:
    """Peak resident memory of this process in GB (10**9 bytes).

    Linux' own count starts anew with each program; getrusage's is inherited from the parent.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def online(
    n_rows: int = 10000,
    n_features: int = 512,
    n_outputs: int = 100,
    n_codebooks: int = 16,
    n_prototypes: int = 16,
    repeats: int = 25,
) -> dict[str, Any]:
    """Measure ``matmul_online`` beside ``A @ B``, in turns, on float32 rows.

    Parameters
    ----------
    n_rows, n_features, n_outputs, n_codebooks, n_prototypes : int
        N, D, M, C, K.
    repeats : int
        Turns; medians are reported.

    Returns
    -------
    dict
        Milliseconds of the very first call, medians of all turns, and their ratio.
    """
    draw = np.random.default_rng(0)
    A = draw.standard_normal((n_rows, n_features), dtype=np.float32)
    B = draw.standard_normal((n_features, n_outputs), dtype=np.float32)
    learned = HalutMatmul(C=n_codebooks, K=n_prototypes, refine_passes=0)
    learned.learn_offline(A[:2000], B)

    first = _milliseconds(lambda: learned.matmul_online(A))
    codes = learned.encode(A)
    calls: dict[str, Callable[[], Any]] = {
        "exact_ms": lambda: A @ B,
        "online_ms": lambda: learned.matmul_online(A),
        "encode_ms": lambda: learned.encode(A),
        "decode_ms": lambda: learned.decode(codes),
    }
    turns: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            turns[name].append(_milliseconds(call))
    medians = {name: float(np.median(times)) for name, times in turns.items()}
    return {
        "conditions": conditions(),
        "n_rows": n_rows,
        "n_features": n_features,
        "n_outputs": n_outputs,
        "n_codebooks": n_codebooks,
        "n_prototypes": n_prototypes,
        "repeats": repeats,
        "first_ms": first,
        **medians,
        "ratio": medians["online_ms"] / medians["exact_ms"],
    }


INPUTS = ("float32 rows", "float32 columns", "int8 rows", "int8 columns")
"""Types and orders in memory of what is multiplied."""


def kernels(
    n_rows: int = 10000,
    n_features: int = 512,
    n_outputs: int = 100,
    n_codebooks: Sequence[int] = (16, 32, 64),
    repeats: int = 11,
) -> dict[str, Any]:
    """Measure ``matmul_online`` of each variant of `halut.native`, and of NumPy, beside ``A @ B``.

    With tables of float32, as `HalutMatmul` learns them, and of 8 bits, as `QuantisedMatmul` has
    them; from every one of `INPUTS`. Each call comes right after one of ``A @ B`` on float32 rows;
    both write a new float32 array. With one thread, times are processor time, which other
    processes disturb least; else wall clock.

    Parameters
    ----------
    n_rows, n_features, n_outputs : int
        N, D, M; K is 16.
    n_codebooks : sequence of int
        C of each product.
    repeats : int
        Pairs.

    Returns
    -------
    dict
        ``rows``: one dict per C, ``tables`` ("float32", "int8"), ``input`` and variant with the
        medians ``exact_ms`` and ``online_ms``, and ``faster``, the median over the pairs of exact /
        online time. All variants' bits are equal.
    """
    draw = np.random.default_rng(0)
    A = draw.standard_normal((n_rows, n_features), dtype=np.float32)
    B = draw.standard_normal((n_features, n_outputs), dtype=np.float32)
    bytes_ = np.clip(np.rint(30 * A), -128, 127).astype(np.int8)
    matrices: tuple[NDArray[Any], ...] = (
        A,
        np.asfortranarray(A),
        bytes_,
        np.asfortranarray(bytes_),
    )
    rows: list[dict[str, Any]] = []
    for size in n_codebooks:
        learned = {
            some.dtype: HalutMatmul(C=size, refine_passes=0).learn_offline(some[:2000], B)
            for some in (A, bytes_)
        }
        for tables in ("float32", "int8"):
            for name, matrix in zip(INPUTS, matrices, strict=True):
                floats = learned[matrix.dtype]
                multiplier = floats if tables == "float32" else floats.quantised()
                pairs = _pairs(
                    partial(np.matmul, A, B), partial(multiplier.matmul_online, matrix), repeats
                )
                rows.extend(
                    {"n_codebooks": size, "tables": tables, "input": name, **row} for row in pairs
                )
    return {
        "conditions": conditions(),
        "n_rows": n_rows,
        "n_features": n_features,
        "n_outputs": n_outputs,
        "repeats": repeats,
        "rows": rows,
    }


def _pairs(
    exact: Callable[[], Any], online: Callable[[], NDArray[Any]], repeats: int
) -> list[dict[str, Any]]:
    """Measure both calls, in turns, with NumPy and with every variant."""
    one_thread = os.environ.get(_THREAD_VARIABLES[0]) == "1"
    clock = time.process_time if one_thread else time.perf_counter
    times: dict[str, list[tuple[float, float]]] = {}
    products = set()
    for turn in range(repeats + 1):
        for variant in ("off", *native.variants()):
            os.environ[native.VARIABLE] = variant
            pair = _milliseconds(exact, clock), _milliseconds(online, clock)
            if turn:  # the first one warms up
                times.setdefault(variant, []).append(pair)
            else:
                products.add(online().tobytes())
    if len(products) != 1:
        raise HalutError("variants must give the same bits, but they differ")
    found = []
    for variant, pairs in times.items():
        exact_ms, online_ms = np.array(pairs).T
        found.append(
            {
                "variant": "numpy" if variant == "off" else variant,
                "exact_ms": float(np.median(exact_ms)),
                "online_ms": float(np.median(online_ms)),
                "faster": float(np.median(exact_ms / online_ms)),
            }
        )
    return found


def _milliseconds(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    begin = clock()
    call()
    return 1e3 * (clock() - begin)


_MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "accuracy": accuracy,
    "problems": problems,
    "tables": tables,
    "formats": formats,
    "learn": learn,
    "online": online,
    "kernels": kernels,
}

if __name__ == "__main__":
    print(json.dumps(_MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[2]))))
