"""Native kernels: the bits of the NumPy form, variant by variant, and what runs without them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from halut import golden, native
from halut.accumulation import Accumulation
from halut.baseline import ProductQuantization
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.matmul import HalutMatmul
from halut.native import library
from tests.halut.variants import VARIANTS, sanitizing_compiler

ROOT = Path(__file__).resolve().parents[2]
INPUT_FORMATS = [*FLOAT_FORMATS, "int2", "int8", "int16"]

pytestmark = pytest.mark.needs("gcc")


@pytest.fixture(params=VARIANTS)
def forced(request, monkeypatch):
    if request.param not in native.variants():
        pytest.skip(f"{request.param} does not run here: {native.status()[1]}")
    monkeypatch.setenv(native.VARIABLE, request.param)
    assert native.status()[0] == request.param


def _same(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    as_bits = f"u{want.itemsize}"
    assert np.array_equal(np.ascontiguousarray(got).view(as_bits), want.view(as_bits))


def _check(program, words, **how):
    codes = golden.encode(program, words)
    _same(native.encode(program, words), codes)
    _same(native.accumulate(program, codes, **how), golden.accumulate(program, codes, **how))
    _same(native.results(program, words, **how), golden.results(program, words, **how))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("corner", [False, True])
@pytest.mark.parametrize("input_format", INPUT_FORMATS)
def test_every_input_format_and_depth(input_format, corner):
    rng = np.random.default_rng([1, corner])
    for depth in range(1, 9):
        n_codebooks, n_outputs, n_rows = (int(rng.integers(1, high)) for high in (40, 70, 300))
        program = golden.random_program(
            rng, n_codebooks, 2**depth, n_outputs, input_format, corner=corner
        )
        _check(program, golden.random_words(rng, program, n_rows, corner))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize(
    "kinds",
    [
        {"terms": 2},
        {"terms": 4},
        {"window": 9},
        {"window": 9, "splits": "node"},
    ],
    ids=lambda kinds: "-".join(map(str, kinds.values())),
)
def test_every_kind_of_split(kinds):
    rng = np.random.default_rng([6, *(len(str(kind)) for kind in kinds.values())])
    for corner in (False, True):
        for input_format in ("int4", "int13") if "terms" in kinds else ("fp16", "int8"):
            for n_rows in (0, 1, 1500):
                program = golden.random_program(rng, 5, 32, 6, input_format, corner=corner, **kinds)
                _check(program, golden.random_words(rng, program, n_rows, corner))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("n_rows", [0, 1, 2, 7, 8, 9, 255, 256, 257, 513])
def test_ends_of_blocks(n_rows):
    rng = np.random.default_rng(2)
    for n_codebooks in (1, 15, 16, 17, 33):
        program = golden.random_program(rng, n_codebooks, 16, 5, "int8")
        _check(program, golden.random_words(rng, program, n_rows))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("n_outputs", [1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 36, 48, 64, 65, 100])
def test_ends_of_slices(n_outputs):
    rng = np.random.default_rng(3)
    for lut_format in ("int", "fp16"):
        lut_bits = 16 if lut_format == "fp16" else 8
        program = golden.random_program(
            rng, 19, 8, n_outputs, "fp16", lut_bits, lut_format=lut_format
        )
        _check(program, golden.random_words(rng, program, 21))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("lut_bits", range(2, 17))
def test_entries_saturation_and_wrapping(lut_bits):
    rng = np.random.default_rng(4)
    for corner in (False, True):
        n_codebooks = int(rng.integers(3, 50))
        program = golden.random_program(
            rng, n_codebooks, 4, 9, "int8", lut_bits, corner=corner, output_format="int8", relu=True
        )
        words = golden.random_words(rng, program, 50, corner)
        needed = program.accumulator_bits
        _check(program, words)
        _check(program, words, acc_bits=33)
        for acc_bits in (lut_bits, needed - 1):
            _check(program, words, acc_bits=acc_bits, overflow="wrap")
            for parallel in (1, 2, 5, 16, 17, 64):
                how = {"overflow": "saturate", "parallel_codebooks": parallel}
                _check(program, words, acc_bits=acc_bits, **how)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize(
    "order",
    [(1, 1, 0), (2, 1, 0), (5, 1, 0), (4, 2, 0), (8, 4, 0), (4, 2, 8), (32, 8, 0), (3, 1, 3)],
)
def test_half_floats_in_every_order(order):
    rng = np.random.default_rng(5)
    for corner in (False, True):
        for n_codebooks in (1, 2, 13, 32):
            program = golden.random_program(
                rng, n_codebooks, 8, 40, "fp8_e4m3", 16, corner=corner, lut_format="fp16"
            )
            words = golden.random_words(rng, program, 30, corner)
            _check(program, words, **Accumulation.of_order(order))


@pytest.mark.usefixtures("forced")
def test_a_wrong_bit_is_found():
    rng = np.random.default_rng(6)
    program = golden.random_program(rng, 8, 16, 33, "int8")
    words = golden.random_words(rng, program, 40)
    want = golden.results(program, words)
    lut = program.lut.copy()
    lut[32, 7, int(golden.encode(program, words)[39, 7])] ^= 1
    object.__setattr__(program, "lut", lut)
    got = native.results(program, words)
    assert np.argwhere(got != want)[-1].tolist() == [39, 32]


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize(
    "call",
    [
        lambda program, words: native.encode(program, words[:, 1:]),
        lambda program, words: native.encode(program, words.astype(np.float32)),
        lambda program, words: native.encode(program, words * 0 + 999),
        lambda program, _: native.accumulate(program, [[4, 0, 0]]),
        lambda program, _: native.accumulate(program, [[0, 0, 0]], acc_bits=3),
        lambda program, _: native.accumulate(program, [[0, 0]]),
    ],
)
def test_what_golden_refuses_is_refused(call):
    program = golden.random_program(np.random.default_rng(7), 3, 4, 2, "int8")
    words = golden.random_words(np.random.default_rng(8), program, 4)
    with pytest.raises(HalutError, match="must"):
        call(program, words)


@pytest.fixture(scope="module")
def learned():
    rng = np.random.default_rng(9)
    A = rng.standard_normal((900, 41))
    found = {}
    for n_codebooks, n_prototypes, n_outputs in ((1, 2, 1), (5, 16, 36), (20, 32, 7), (41, 4, 70)):
        B = rng.standard_normal((41, n_outputs))
        multiplier = HalutMatmul(n_codebooks, n_prototypes, refine_passes=0)
        found[n_codebooks] = multiplier.learn_offline(A, B)
    return A, found


def _rows(A):
    """Rows of every kind of memory, with special values."""
    rows = A.astype(np.float32)
    rows[3, ::2], rows[4], rows[5, 1::2], rows[6] = np.nan, np.inf, -np.inf, -0.0
    wide = np.zeros((2 * len(rows), 3 * rows.shape[1]), dtype=np.float32)
    wide[::2, ::3] = rows
    yield from (rows, np.asfortranarray(rows), wide[::2, ::3], rows[::-1, :], rows[:1], rows[:0])
    flipped = np.ascontiguousarray(rows[:, ::-1])[:, ::-1]
    unaligned = np.frombuffer(b"x" + rows.tobytes(), np.uint8)[1:].view(np.float32)
    yield from (flipped, unaligned.reshape(rows.shape), rows.astype(">f4"))
    yield from (rows.astype(np.float64) * 1e300, rows.astype(np.float16), (A * 9).astype(np.uint8))
    bytes_ = np.clip(A * 40, -128, 127).astype(np.int8)
    yield from (bytes_, np.asfortranarray(bytes_), bytes_[::-1], bytes_[:, ::-1], bytes_[:1])
    yield from (np.repeat(bytes_, 2, axis=1)[:, ::2], np.asfortranarray(rows)[1:130])


@pytest.mark.usefixtures("forced")
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.filterwarnings("ignore:overflow")
def test_float_products(learned, monkeypatch):
    A, multipliers = learned
    for multiplier in multipliers.values():
        for rows in _rows(A):
            got = [multiplier.encode(rows), multiplier.matmul_online(rows)]
            got.append(multiplier.decode(got[0]))
            with monkeypatch.context() as context:
                context.setenv(native.VARIABLE, "off")
                want = [multiplier.encode(rows), multiplier.matmul_online(rows)]
                want.append(multiplier.decode(want[0]))
            for one, other in zip(got, want, strict=True):
                _same(one, other)


@pytest.mark.usefixtures("forced")
def test_float_products_of_k_means(learned, monkeypatch):
    A = learned[0]
    baseline = ProductQuantization(C=3, K=8).learn_offline(A, np.eye(41)[:, :35])
    got = baseline.matmul_online(A)
    monkeypatch.setenv(native.VARIABLE, "off")
    _same(got, baseline.matmul_online(A))


@pytest.mark.usefixtures("forced")
def test_what_the_kernels_cannot_take_goes_to_numpy(learned):
    A, multipliers = learned
    multiplier = multipliers[5]
    rows = A.astype(np.float32)
    trees, tables = (multiplier.split_dims_, multiplier.thresholds_), (multiplier.lut_,)
    assert native.product(rows, *trees, *tables, multiplier.offset_) is not None
    for changed in ({"split_dims_": trees[0] + 41}, {"lut_": tables[0].astype(np.float64)},
                    {"offset_": multiplier.offset_[1:]}):  # fmt: skip
        other = {"split_dims_": trees[0], "lut_": tables[0], "offset_": multiplier.offset_}
        other |= changed
        lut, offset = other["lut_"], other["offset_"]
        assert native.product(rows, other["split_dims_"], trees[1], lut, offset) is None


@pytest.mark.usefixtures("forced")
def test_threads_give_the_same_bits(learned, monkeypatch):
    A, multipliers = learned
    rows = np.tile(A.astype(np.float32), (40, 1))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    want = multipliers[41].matmul_online(rows)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    _same(multipliers[41].matmul_online(rows), want)


def test_wrong_values_of_the_variable(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "sse")
    with pytest.raises(HalutError, match="must be off, portable, avx2, avx512, vnni, neon or"):
        native.encode(golden.random_program(np.random.default_rng(1), 2, 2, 1), [])
    monkeypatch.setenv(native.VARIABLE, "off")
    assert native.status() == (None, "HALUT_NATIVE=off")


def test_status_waits_for_another_process_that_builds(monkeypatch):
    known = native.status()
    if known[0] is None:
        pytest.skip(f"there is no native library: {known[1]}")
    find, asked = library._library, []

    def busy(*, wait):
        asked.append(wait)
        if asked == [False]:
            raise library._Missing("build/native must not be used by another run")
        return find(wait=wait)

    monkeypatch.setattr(library, "_library", busy)
    monkeypatch.setattr(library, "_chosen", {})
    assert native.status() == known
    assert asked == [False, True, False]


def _python(program, **environment):
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environment}
    done = subprocess.run([sys.executable, "-c", program], env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


_REPORT = (
    "import numpy as np; from halut import golden, native\n"
    "program = golden.random_program(np.random.default_rng(1), 4, 16, 3)\n"
    "words = golden.random_words(np.random.default_rng(2), program, 9)\n"
    "same = np.array_equal(native.results(program, words), golden.results(program, words))\n"
    "print(same, native.status())"
)


def test_without_a_compiler_numpy_computes():
    said = _python(_REPORT, CC="/nowhere/cc")
    assert said == "True (None, 'no C compiler: /nowhere/cc is not on PATH')"


def test_a_compiler_that_fails_is_asked_once(tmp_path, monkeypatch):
    compiler = tmp_path / "cc"
    calls = tmp_path / "calls"
    compiler.write_text(f"#!/bin/sh\necho call >> {calls}\necho broken >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    for _ in range(2):
        with pytest.raises(HalutError, match=r"native library must be buildable, but .*cc failed"):
            library.build(tmp_path / "native")
    assert calls.read_text().split() == ["call"]
    (said,) = (tmp_path / "native").iterdir()
    assert "broken" in said.read_text()


def test_a_compiler_that_writes_nonsense_gives_no_library(tmp_path, monkeypatch):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho no library > "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(HalutError, match="cc failed"):
        library.build(tmp_path / "native")


def test_a_compiler_that_is_killed_is_asked_again(tmp_path, monkeypatch):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nkill -TERM $$\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(HalutError, match="cc was killed"):
        library.build(tmp_path / "native")
    assert not list((tmp_path / "native").glob("*.failed"))


def test_the_same_sources_and_compiler_are_built_once(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    first = library.build(tmp_path)
    written = first.stat().st_mtime_ns
    assert library.build(tmp_path) == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@pytest.mark.slow
def test_under_sanitizers(tmp_path):
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, text=True, capture_output=True
    ).stdout.strip()
    environment = {
        "CC": str(sanitizing_compiler(tmp_path)),
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # of Python itself
        "PYTHONPATH": str(ROOT),
    }
    folder = Path(__file__).parent
    files = [folder / f"test_{name}.py" for name in ("native", "quantised", "native_learning")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "not slow", "-p", "no:cacheprovider",
         *files, "-k", "portable or avx2 or avx512 or vnni or neon"],
        env=os.environ | environment, cwd=ROOT, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
