"""bolt's own kernels beside ours and beside ``A @ B``, on this machine.

    git clone https://github.com/dblalock/bolt
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python examples/bolt_beside.py bolt

Needs g++. Compiles the MADDNESS part of that checkout ("mithral") as it is, and times, in turns:
``A @ B``, bolt's encoding and scan, and `QuantisedMatmul.matmul_online`, from the column-major
matrices that bolt reads. All look up 8-bit entries of K = 16 prototypes. bolt's results are sums of
16 bits in memory that it made before, averaged so that they stay within 8 bits; ours are float32,
dequantised, as new arrays and (the last columns) in memory that was made before. Only time is
compared: whose sums are right is not looked at.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut import HalutMatmul
from halut.bench import conditions
from halut.cli import Parser, run
from halut.errors import HalutError
from halut.native.layouts import aligned_bytes

_GLUE = """
#include "mithral.hpp"
#define PRODUCTS(name, type, scale, offset) \\
  extern "C" void *name##_new(int n, int d, int m, int c, const uint32_t *dims, \\
                              const int8_t *values, const scale *scales, \\
                              const offset *offsets) { \\
    return new mithral_amm<type>(n, d, m, c, nullptr, dims, values, scales, offsets, nullptr, 0); \\
  } \\
  extern "C" void name##_product(void *product, const type *x) { \\
    auto *p = static_cast<mithral_amm<type> *>(product); \\
    p->encode(x); \\
    p->scan(); \\
  }
PRODUCTS(float32, float, float, float)
PRODUCTS(int8, int8_t, uint8_t, uint8_t)
"""
_BLOCK = 32  # rows that bolt's scan takes at once


def build(bolt: Path, folder: Path) -> ctypes.CDLL:
    """Compile a checkout's kernels into a library, once for each of their versions.

    Raises
    ------
    HalutError
        When it is no checkout of bolt, or does not compile.
    """
    source = bolt / "cpp" / "src"
    kernels = source / "quantize" / "mithral.cpp"
    if not kernels.is_file():
        raise HalutError(f"BOLT must be a checkout of dblalock/bolt with {kernels}, not {bolt}")
    texts = [_GLUE, *(path.read_text() for path in sorted(kernels.parent.glob("mithral.*")))]
    key = hashlib.sha256("".join(texts).encode()).hexdigest()[:12]
    library = folder / f"mithral-{key}.so"
    if not library.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        glue = folder / "glue.cpp"
        glue.write_text(_GLUE)
        places = [source / "quantize", source / "utils", source / "external" / "eigen",
                  source / "external" / "eigen" / "Eigen"]  # fmt: skip
        flags = ["-std=c++14", "-O3", "-march=native", "-ffast-math", "-w", "-fPIC"]
        flags += [f"-I{place.resolve()}" for place in places]
        # Linked without -ffast-math, which would let this whole process take subnormals for zero.
        _run(["g++", *flags, "-c", str(kernels.resolve()), "glue.cpp"], folder)
        _run(["g++", "-shared", "mithral.o", "glue.o", "-o", library.name], folder)
    return ctypes.CDLL(str(library.resolve()))


def _aligned(columns: NDArray[Any]) -> NDArray[Any]:
    """A column-major copy that begins at a multiple of 64 bytes."""
    copy = aligned_bytes(columns.nbytes).view(columns.dtype).reshape(columns.shape, order="F")
    copy[...] = columns
    return copy


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise HalutError("g++ must be installed to compile bolt's kernels") from None
    if done.returncode:
        raise HalutError(f"bolt's kernels must compile: {done.stderr.strip()[-800:]}")


class BoltProduct:
    """bolt's product of one shape; its tables are random, which changes no time.

    Parameters
    ----------
    columns : ndarray of shape (n_rows, n_features), float32 or int8
        Column-major.
    split_dims : ndarray of shape (n_codebooks, 4)
        Columns that the trees compare.
    """

    def __init__(
        self, library: ctypes.CDLL, columns: NDArray[Any], split_dims: NDArray[Any], n_outputs: int
    ) -> None:
        rng = np.random.default_rng(0)
        n_rows, n_features = columns.shape
        name = columns.dtype.name
        n_codebooks = len(split_dims)
        kind = np.float32 if name == "float32" else np.uint8
        # The library keeps their addresses. Its loads are aligned.
        self._kept = (
            np.ascontiguousarray(split_dims, np.uint32),
            rng.integers(-128, 128, (n_codebooks * 4, 16)).astype(np.int8),
            np.ones(n_codebooks * 4, kind),
            np.zeros(n_codebooks * 4, kind),
            _aligned(columns),
        )
        make = getattr(library, f"{name}_new")
        make.restype = ctypes.c_void_p
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in self._kept]
        self._product = ctypes.c_void_p(
            make(n_rows, n_features, n_outputs, n_codebooks, *pointers[:4])
        )
        self._call, self._columns = getattr(library, f"{name}_product"), pointers[4]

    def __call__(self) -> None:
        """Encode and look up."""
        self._call(self._product, self._columns)


def measure(
    library: ctypes.CDLL, n_rows: int, n_features: int, n_outputs: int, n_codebooks: int,
    dtype: str, repeats: int,
) -> dict[str, float]:  # fmt: skip
    """Median milliseconds of ``exact``, ``bolt``, ``ours`` and ``into`` an array, in turns."""
    rng = np.random.default_rng(0)
    exact_rows = rng.standard_normal((n_rows, n_features), dtype=np.float32)
    B = rng.standard_normal((n_features, n_outputs), dtype=np.float32)
    rows: NDArray[Any] = exact_rows
    if dtype == "int8":
        rows = np.clip(np.rint(30 * rows), -128, 127).astype(np.int8)
    learned = HalutMatmul(C=n_codebooks, refine_passes=0).learn_offline(rows[:2000], B)
    ours = learned.quantised()
    columns = np.asfortranarray(rows)
    product = np.empty((n_rows, n_outputs), np.float32)
    bolt = BoltProduct(library, columns, learned.split_dims_, n_outputs)
    calls: dict[str, Callable[[], Any]] = {
        "exact": lambda: exact_rows @ B,
        "bolt": bolt,
        "ours": lambda: ours.matmul_online(columns),
        "into": lambda: ours.matmul_online(columns, product),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn:  # the first one warms up
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: float(np.median(each)) for name, each in times.items()}


def _sizes(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise HalutError(f"--codebooks must be whole numbers with commas between, not {text}")
    return [int(part) for part in parts]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bolt", metavar="BOLT", help="checkout of dblalock/bolt")
    parser.add_argument("--rows", type=int, default=10_016, help="a multiple of 32")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--outputs", type=int, default=100)
    parser.add_argument("--codebooks", default="16,32,64", help="powers of two, comma-separated")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("-o", "--output", default="build/bolt", help="folder for the library")
    arguments = parser.parse_args(argv)
    if arguments.rows % _BLOCK or arguments.rows < _BLOCK:
        raise HalutError(f"--rows must be a multiple of {_BLOCK}, not {arguments.rows}")
    sizes = _sizes(arguments.codebooks)
    library = build(Path(arguments.bolt), Path(arguments.output))
    where = conditions()
    print("{machine}; {blas}; threads {threads}; kernels {kernels}".format(**where))
    print(f"{arguments.rows} x {arguments.features} x {arguments.outputs}, column-major inputs")
    print("                 milliseconds                    A @ B takes          bolt takes")
    print("  C  input     A @ B    bolt    ours    into     bolt     ours     ours     into")
    for n_codebooks in sizes:
        for dtype in ("float32", "int8"):
            found = measure(
                library, arguments.rows, arguments.features, arguments.outputs, n_codebooks,
                dtype, arguments.repeats,
            )  # fmt: skip
            exact, bolt, ours, into = (found[k] for k in ("exact", "bolt", "ours", "into"))
            milliseconds = "".join(f"{each:8.2f}" for each in (exact, bolt, ours, into))
            ratios = exact / bolt, exact / ours, bolt / ours, bolt / into
            print(f"{n_codebooks:3d}  {dtype:7s}{milliseconds}"
                  + "".join(f"{ratio:7.2f} x" for ratio in ratios))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
