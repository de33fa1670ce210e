"""Native kernels without Python: on this processor, and compiled for 64-bit ARM, under qemu."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from halut import HalutMatmul, golden, native
from halut.encoding import float_thresholds
from halut.native.sources import FLAGS, FOLDER, SOURCE

DRIVER = Path(__file__).with_name("native_driver.c")
_FLOATS, _INTS, _SHORTS, _QUADS = range(4)

pytestmark = pytest.mark.needs("gcc")


def _build(command, kernels, folder):
    program = folder / "driver"
    flags = [flag for flag in FLAGS if not flag.startswith("-std")]
    command = [*command, "-std=c11", *flags, DRIVER, kernels, "-o", program]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    variant, library = native.status()
    if variant is None:
        pytest.skip(f"no native library: {library}")
    return [_build(["gcc"], library, tmp_path_factory.mktemp("here"))]


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    program = _build(
        ["aarch64-linux-gnu-gcc", "-static"], FOLDER / SOURCE, tmp_path_factory.mktemp("arm")
    )
    return ["qemu-aarch64-static", program]


_on_arm = pytest.mark.needs("aarch64-linux-gnu-gcc", "qemu-aarch64-static")


@pytest.fixture(
    params=[
        "portable",
        pytest.param("portable on ARM", marks=_on_arm),
        pytest.param("neon", marks=_on_arm),
    ]
)
def machine(request):
    """A command, and the number of a variant."""
    fixture = "here" if request.param == "portable" else "arm"
    variant = native.VARIANTS.index(request.param.split()[0])
    return request.getfixturevalue(fixture), variant


def _run(machine, rows, dims, thresholds, lut, layout, first=None, stage=None, clip=(0, 0, 0)):
    """Return status, codes, products and sums; floats where tables or the stage make them."""
    command, variant = machine
    by_columns = rows.flags.f_contiguous and not rows.flags.c_contiguous
    n_outputs, n_codebooks, _ = lut.shape
    kind = {"f": 0, "b": 1, "h": 2}[lut.dtype.char]
    nothing = np.zeros(n_outputs, dtype=np.float32)
    scale, offset = stage or (nothing, nothing)
    numbers = [
        variant, rows.dtype == np.int8, *rows.shape, by_columns, n_codebooks, dims.shape[1],
        n_outputs, layout, kind, lut.dtype.itemsize, stage is not None, *clip,
    ]  # fmt: skip
    arrays = [np.array(numbers, dtype=np.int64), rows.T if by_columns else rows, dims, thresholds,
              lut, nothing if first is None else first, scale, offset]  # fmt: skip
    given = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    done = subprocess.run(command, input=given, capture_output=True, check=True)
    size = len(rows) * n_codebooks
    words = np.frombuffer(done.stdout[4 + size :], dtype=np.int32).reshape(2, -1, n_outputs)
    status = int(np.frombuffer(done.stdout[:4], dtype=np.int32)[0])
    codes = np.frombuffer(done.stdout[4 : 4 + size], dtype=np.uint8).reshape(-1, n_codebooks)
    return status, codes, words[0], words[1]


@pytest.mark.parametrize("depth", [1, 4, 6])
@pytest.mark.parametrize("layout", [_INTS, _SHORTS])
def test_programs(machine, layout, depth):
    rng = np.random.default_rng([1, depth])
    for n_codebooks, n_outputs, n_rows in ((1, 1, 1), (7, 33, 130), (18, 20, 67)):
        program = golden.random_program(rng, n_codebooks, 2**depth, n_outputs, "fp16", 8)
        stage = rng.uniform(0.1, 1, (2, n_outputs)).astype(np.float32)
        object.__setattr__(program, "lut_scale", stage[0])
        object.__setattr__(program, "lut_offset", stage[1])
        floats = rng.standard_normal((n_rows, program.n_features)).astype(np.float32)
        bytes_ = rng.integers(-9, 9, floats.shape).astype(np.int8)
        clip = (-50, 49, 3) if layout == _INTS else (0, 0, 0)
        for rows in (floats, np.asfortranarray(floats), bytes_, np.asfortranarray(bytes_)):
            codes = golden.encode(program, program.input_words(rows))
            sums = golden.accumulate(program, codes)
            trees = program.split_dims, float_thresholds(program)
            found = _run(machine, rows, *trees, program.lut, layout, stage=tuple(stage), clip=clip)
            assert found[0] == 0
            assert np.array_equal(found[1], codes)
            product = golden.dequantize(program, sums)
            assert np.array_equal(found[2], product.view(np.int32))
            if clip[2]:
                sums = np.zeros_like(sums)
                for codebook in range(n_codebooks):
                    sums += program.lut[:, codebook, codes[:, codebook]].T
                    if codebook % 3 == 2 or codebook == n_codebooks - 1:
                        sums = sums.clip(-50, 49)
            assert np.array_equal(found[3], sums)


def test_float_tables(machine, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "off")
    rng = np.random.default_rng(2)
    A = rng.standard_normal((150, 30)).astype(np.float32)
    for n_outputs in (3, 21):
        learned = HalutMatmul(C=9, refine_passes=0).learn_offline(
            A, rng.normal(size=(30, n_outputs))
        )
        want = learned.matmul_online(A).view(np.int32)
        trees = learned.split_dims_, learned.thresholds_
        for rows in (A, np.asfortranarray(A)):
            found = _run(machine, rows, *trees, learned.lut_, _FLOATS, learned.offset_)
            assert np.array_equal(found[2], want)
            assert np.array_equal(found[3], want)
        A[3] = np.nan
        want = learned.matmul_online(A).view(np.int32)
        found = _run(machine, A, *trees, learned.lut_, _FLOATS, learned.offset_)
        assert found[0] == 2
        assert np.array_equal(found[2], want)
        A[3] = 0


def test_a_wrong_entry_is_found(machine):
    rng = np.random.default_rng(3)
    program = golden.random_program(rng, 6, 16, 5, "fp16", 8)
    rows = rng.standard_normal((20, program.n_features)).astype(np.float32)
    codes = golden.encode(program, program.input_words(rows))
    lut = program.lut.copy()
    lut[4, 5, codes[19, 5]] ^= 1
    found = _run(machine, rows, program.split_dims, float_thresholds(program), lut, _SHORTS)
    sums = golden.accumulate(program, codes)
    assert np.argwhere(found[3] != sums)[-1].tolist() == [19, 4]
