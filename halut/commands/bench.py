"""``python -m halut bench``: accuracy and speed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from halut import bench
from halut.checks import in_range, known
from halut.files import atomic_write


def add_verb(verbs: Any) -> None:
    """Add ``bench`` to the command line."""
    verb = verbs.add_parser(
        "bench",
        help="measure accuracy and speed",
        description="Measure accuracy on fixed problems, learning, the online product and each "
        "variant of the native kernels beside A @ B, and PyTorch layers beside the exact ones, "
        "each in the same run.",
    )
    add = verb.add_argument
    add(
        "what",
        nargs="*",
        metavar="WHAT",
        default=[],
        help="accuracy, learn, online, kernels (default: these), problems, tables, "
        "formats; with torch "
        "layers, forward, networks",
    )
    add("--threads", type=int, default=1, metavar="N",
        help="threads of NumPy's BLAS (default: %(default)s)")  # fmt: skip
    add("-o", "--output", metavar="FILE", help="also write what was measured (.json)")
    verb.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    known("WHAT", options.what, _REPORTS, "be {}")
    in_range("--threads", options.threads, 1, 1024)
    measured = {}
    for name in options.what or ("accuracy", "learn", "online", "kernels"):
        result = measured[name] = bench.measured_alone(name, options.threads, {})
        print("\n".join(_REPORTS[name](result)), flush=True)
    if options.output:
        with atomic_write(options.output) as temporary:
            temporary.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {options.output}")
    return 0


def _said(conditions: dict[str, Any]) -> str:
    return (
        f"  {conditions['machine']}, {conditions['threads']} thread(s), "
        f"Python {conditions['python']}, NumPy {conditions['numpy']}, {conditions['blas']}, "
        f"kernels {conditions['kernels']}, processor has {' '.join(conditions['vectors']) or '?'}"
    )


def _accuracy_report(result: dict[str, Any]) -> list[str]:
    columns = ("problem", "C", "float", "fp16/8", "int8/8", "int8/4", "k-means", "reference",
               "bolt", "ratio")  # fmt: skip
    lines = [
        "accuracy: |AB - Y|^2 / |AB|^2 on unseen rows, K = 16; inputs/LUT bits as the accelerator",
        "  computes them; reference and bolt as published; ratio = float / reference",
        _said(result["conditions"]),
        "  {:9} {:>3}".format(*columns[:2]) + "".join(f"{name:>10}" for name in columns[2:]),
    ]
    for row in result["rows"]:
        names = ("float", "fp16_lut8", "int8_lut8", "int8_lut4", "k_means", "stella_nera", "bolt")
        values = "".join(f"{row[name]:10.5f}" for name in names)
        lines.append(f"  {row['problem']:9} {row['n_codebooks']:3}{values}{row['ratio']:10.3f}")
    return lines


def _problems_report(result: dict[str, Any]) -> list[str]:
    rows = result["rows"]
    methods = list(rows[0]["errors"])
    lines = [
        "problems: |AB - Y|^2 / |AB|^2 on unseen rows, K = 16, float tables; in brackets seconds "
        "of learning;",
        "  others: the better of the reference and bolt as published (*), else the method of "
        "MADDNESS' paper;",
        "  bound: no code of C * 4 bits can do better on Gaussian outputs of the same covariance",
        _said(result["conditions"]),
        *_table(["problem", "C", *methods, "paper", "others", "k-means", "bound"]),
    ]
    for row in rows:
        errors = [f"{row['errors'][name]:.5f} ({row['seconds'][name]:.1f})" for name in methods]
        others = f"{row['others']:.5f}{'*' if row['published'] else ''}"
        rest = [f"{row['plain']:.5f}", others, f"{row['k_means']:.5f}", f"{row['bound']:.5f}"]
        lines.append(_row([row["problem"], str(row["n_codebooks"]), *errors, *rest]))
    means = ", ".join(f"{name} {mean:.3f}" for name, mean in result["means"].items())
    lines.append(f"  geometric mean of error / others, {len(rows)} rows: {means}")
    for name in methods:
        worse = [row for row in rows if row["errors"][name] > row["others"]]
        where = ", ".join(f"{row['problem']} {row['n_codebooks']}" for row in worse)
        lines.append(f"  rows worse than others, {name}: {where or 'none'}")
    return lines


def _tables_report(result: dict[str, Any]) -> list[str]:
    rows, bits = result["rows"], ("2", "3", "4")
    ways = {"uniform": "alike", "mixed": "mixed widths", "exponents": "exponents"}
    titles = [f"{name}, {width} bits" for width in bits for name in ways.values()]
    lines = [
        "tables: |AB - Y|^2 / |AB|^2 on unseen rows, K = 16; entries alike, of a width per "
        "codebook, or with an exponent",
        "  per output and codebook, at the same mean width; trees that end at level 4, or at "
        "levels 3, 4 and 5 with as many entries",
        _said(result["conditions"]),
        *_table(["problem", "C", "bits of 8", "float", *titles, "level 4", "mixed levels"]),
    ]
    for row in rows:
        errors = [f"{row[way][width]:.5f}" for width in bits for way in ways]
        levels = "/".join(str(number) for number in row["levels"].values())
        lines.append(
            _row(
                [
                    row["problem"],
                    str(row["n_codebooks"]),
                    f"{row['bits_of_8']:.2f}",
                    f"{row['float']:.5f}",
                    *errors,
                    f"{row['k16']:.5f}",
                    f"{row['mixed_k']:.5f} ({levels})",
                ]
            )
        )
    return lines


def _formats_report(result: dict[str, Any]) -> list[str]:
    lines = [
        f"formats: scikit-learn's digits, 64 x 10, C = {result['n_codebooks']}, K = 16, "
        f"{result['n_test_rows']} unseen rows; |AB - Y|^2 / |AB|^2, and digits told rightly",
        _said(result["conditions"]),
        f"  {'inputs':10}{'LUT':8}{'output':8}{'error':>9}{'right':>9}",
        f"  {'exact product':26}{0:9.5f}{result['exact_right']:9.1%}",
    ]
    for row in result["rows"]:
        names = f"{row['input_format'] or 'float':10}{row['lut'] or 'float':8}{row['output']:8}"
        lines.append(f"  {names}{row['error']:9.5f}{row['right']:9.1%}")
    return lines


def _learn_report(result: dict[str, Any]) -> list[str]:
    return [
        "learn: N={n_rows} D={n_features} M={n_outputs} C={n_codebooks} K={n_prototypes}".format(
            **result
        ),
        _said(result["conditions"]),
        f"  {result['ratio']:.1f} x the processor time of A.T @ A, {result['exact_cpu_s']:.3f} s",
        f"  processor time {result['cpu_s']:.2f} s, wall clock {result['wall_s']:.2f} s, peak "
        f"memory {result['peak_gb']:.2f} GB (before learning {result['peak_before_gb']:.2f} GB)",
        f"  error on unseen rows (float tables) {result['error']:.4f} after "
        f"{result['refine_passes']} passes",
    ]


def _online_report(result: dict[str, Any]) -> list[str]:
    return [
        "online: N={n_rows} D={n_features} M={n_outputs} C={n_codebooks} K={n_prototypes}, "
        "float32, medians of {repeats} turns".format(**result),
        _said(result["conditions"]),
        f"  A @ B {result['exact_ms']:.2f} ms, matmul_online {result['online_ms']:.2f} ms "
        f"(first call {result['first_ms']:.2f} ms), ratio {result['ratio']:.2f}",
        f"  encode {result['encode_ms']:.2f} ms, decode {result['decode_ms']:.2f} ms",
    ]


def _kernels_report(result: dict[str, Any]) -> list[str]:
    rows = result["rows"]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines = [
        "kernels: how many times faster matmul_online is than A @ B on float32 rows, "
        "N={n_rows} D={n_features} M={n_outputs} K=16;".format(**result),
        f"  medians of {result['repeats']} pairs, processor time (with threads: wall clock); both "
        "write new float32 arrays",
        _said(result["conditions"]),
        *_table(["C", "tables", "input", *variants, f"{variants[-1]}, ms", "A @ B, ms"]),
    ]
    for begin in range(0, len(rows), len(variants)):
        group = rows[begin : begin + len(variants)]
        last = group[-1]
        lines.append(
            _row(
                [
                    str(last["n_codebooks"]),
                    last["tables"],
                    last["input"],
                    *(f"{row['faster']:.2f} ×" for row in group),
                    f"{last['online_ms']:.2f}",
                    f"{last['exact_ms']:.2f}",
                ]
            )
        )
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(titles: Sequence[str]) -> list[str]:
    """Return the first lines of a table in Markdown."""
    return [_row(titles), "|" + "---|" * len(titles)]


def _layers_report(result: dict[str, Any]) -> list[str]:
    conditions = result["conditions"]
    lines = [
        f"layers: forward + backward, medians of {result['repeats']} turns; memory: peak above "
        "what was there before",
        f"{_said(conditions)}, torch {conditions['torch']}",
    ]
    for row in result["rows"]:
        if row["format"] == "exact":
            lines.append(f"  {row['title']}")
        lines.append(
            f"    {row['format']:12} {row['ms']:8.1f} ms ({row['time_ratio']:5.2f} x) "
            f"{row['mb']:8.0f} MB ({row['memory_ratio']:5.2f} x)"
        )
    return lines


def _forward_report(result: dict[str, Any]) -> list[str]:
    conditions = result["conditions"]
    clock = "processor time" if conditions["torch_threads"] == 1 else "time"
    lines = [
        f"forward: {clock}, medians of {result['repeats']} turns; ratios to the first line of each "
        "case, in the same turn",
        f"{_said(conditions)}, torch {conditions['torch']} ({conditions['torch_instructions']}), "
        f"processor has {', '.join(conditions['instructions']) or 'none of the instructions'}",
        "  input and output float32 unless INT8 is said; PyTorch's engines of INT8 by name",
    ]
    case = None
    for row in result["rows"]:
        if row["case"] != case:
            case = row["case"]
            lines.append(f"  {case}")
        lines.append(f"    {row['side']:34} {row['ms']:9.2f} ms ({row['ratio']:6.3f} x)")
    lines += ["  the fastest of each kind:", *_table(["case", *_KINDS])]
    for title in dict.fromkeys(row["case"] for row in result["rows"]):
        lines.append(_row([title, *_fastest([r for r in result["rows"] if r["case"] == title])]))
    return lines


_KINDS = ("float32", "looked up", "INT8", "INT8 in and out")


def _fastest(rows: list[dict[str, Any]]) -> list[str]:
    """Return the fastest of each kind: milliseconds in float32, ratios to it of the others."""
    fastest: dict[str, dict[str, Any]] = {}
    for row in rows:
        inside = row["side"].endswith(_KINDS[-1])
        kind = next(kind for kind in _KINDS if row["side"].startswith(kind))
        kind = _KINDS[-1] if inside else kind
        if kind not in fastest or row["ratio"] < fastest[kind]["ratio"]:
            fastest[kind] = row
    exact = fastest[_KINDS[0]]
    return [f"{exact['ms']:.1f} ms"] + [
        f"{fastest[kind]['ratio'] / exact['ratio']:.2f} ×" if kind in fastest else ""
        for kind in _KINDS[1:]
    ]


_REPORTS = {
    "accuracy": _accuracy_report,
    "problems": _problems_report,
    "tables": _tables_report,
    "formats": _formats_report,
    "learn": _learn_report,
    "online": _online_report,
    "kernels": _kernels_report,
    "layers": _layers_report,
    "forward": _forward_report,
    "networks": _forward_report,
}
