"""Products with quantised inputs and tables: the bits of the golden model, from any rows."""

import numpy as np
import pytest

from halut import HalutMatmul, golden, native
from halut.encoding import float_thresholds
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.quantised import QuantisedMatmul
from tests.halut.variants import VARIANTS


@pytest.fixture(params=["off", *VARIANTS])
def forced(request, monkeypatch):
    if request.param not in ("off", *native.variants()):
        pytest.skip(f"{request.param} does not run here: {native.status()[1]}")
    monkeypatch.setenv(native.VARIABLE, request.param)


def _golden(program, rows):
    words = program.input_words(rows, quiet=True)
    return golden.encode(program, words), golden.dequantize(program, golden.matmul(program, words))


def _check(program, rows):
    codes, product = _golden(program, rows)
    quantised = QuantisedMatmul(program)
    assert np.array_equal(quantised.encode(rows), codes)
    for found in (quantised.matmul_online(rows), quantised.decode(codes)):
        assert found.dtype == np.float32
        assert np.array_equal(found.view(np.uint32), product.view(np.uint32))
    _check_out(program, rows, product)


def _check_out(program, rows, product):
    """The product in an array of one's own, all of which is written, and nothing beside it."""
    space = np.full(product.size + 2, 7, np.float32)
    out = space[1:-1].reshape(product.shape)
    assert QuantisedMatmul(program).matmul_online(rows, out) is out
    assert np.array_equal(out.view(np.uint32), product.view(np.uint32))
    assert space[0] == space[-1] == 7


def _program(rng, input_format, n_codebooks=10, n_prototypes=16, n_outputs=21, lut_bits=8, **kinds):
    """A random program with input grids, as learning gives them."""
    program = golden.random_program(
        rng, n_codebooks, n_prototypes, n_outputs, input_format, lut_bits, **kinds
    )
    shape = program.split_dims.shape
    if input_format not in FLOAT_FORMATS:
        scale = rng.uniform(0.01, 3, shape).astype(np.float32)
        object.__setattr__(program, "input_scale", scale)
        object.__setattr__(program, "input_offset", rng.normal(size=shape).astype(np.float32))
    scale = rng.uniform(0.001, 1, n_outputs).astype(np.float32)
    object.__setattr__(program, "lut_scale", scale)
    object.__setattr__(program, "lut_offset", rng.normal(size=n_outputs).astype(np.float32))
    return program


def _matrices(rng, program, n_rows):
    floats = rng.standard_normal((n_rows, program.n_features)).astype(np.float32) * 50
    bytes_ = rng.integers(-128, 128, floats.shape).astype(np.int8)
    yield from (floats, np.asfortranarray(floats), bytes_, np.asfortranarray(bytes_))
    yield from (floats.astype(np.float64) / 3, floats.astype(np.float16), bytes_.astype(np.int32))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("input_format", [*FLOAT_FORMATS, "int2", "int5", "int8", "int16"])
def test_every_format_and_kind_of_rows(input_format):
    rng = np.random.default_rng(1)
    for n_prototypes in (2, 16, 64):
        program = _program(rng, input_format, n_prototypes=n_prototypes)
        for rows in _matrices(rng, program, 70):
            _check(program, rows)


@pytest.mark.usefixtures("forced")
def test_sizes_at_the_ends_of_blocks():
    rng = np.random.default_rng(2)
    for n_rows in (0, 1, 15, 16, 63, 64, 65, 127, 128, 129, 300):
        n_codebooks, n_outputs = int(rng.integers(1, 40)), int(rng.integers(1, 70))
        program = _program(rng, "int8", n_codebooks, 16, n_outputs)
        for rows in _matrices(rng, program, n_rows):
            _check(program, rows)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    ("n_features", "n_codebooks", "n_prototypes"),
    [(512, 16, 16), (512, 64, 16), (512, 32, 4), (300, 33, 8), (1000, 20, 16), (64, 16, 2),
     (130, 5, 16), (63, 3, 8)],
)  # fmt: skip
def test_wide_rows(n_features, n_codebooks, n_prototypes, everywhere):
    rng = np.random.default_rng(8)
    program = _program(rng, "int8", n_codebooks, n_prototypes, 5)
    shape = program.split_dims.shape
    object.__setattr__(program, "n_features", n_features)
    if everywhere:
        dims = rng.integers(0, n_features, shape)
    else:  # of its own features, as learning gives them
        own = n_features // n_codebooks
        dims = rng.integers(0, own, shape) + own * np.arange(n_codebooks)[:, None]
    dims[-1, -1] = n_features - 1
    object.__setattr__(program, "split_dims", dims.astype(np.int32))
    for scale in (1.0, 1.5):  # thresholds within the range of bytes, and beyond
        object.__setattr__(program, "input_scale", np.full(shape, scale, dtype=np.float32))
        object.__setattr__(program, "input_offset", np.zeros(shape, dtype=np.float32))
        for n_rows in (1, 17, 130):
            for rows in _matrices(rng, program, n_rows):
                _check(program, rows)
                _check(program, rows[::-1][: n_rows // 2])


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("lut_bits", [2, 7, 8, 9, 12, 16])
def test_every_width_of_entries(lut_bits):
    rng = np.random.default_rng(3)
    for n_codebooks in (1, 33, 150):
        program = _program(rng, "int8", n_codebooks, 8, 17, lut_bits, corner=True)
        for rows in _matrices(rng, program, 20):
            _check(program, rows)


@pytest.mark.usefixtures("forced")
def test_tables_of_half_floats():
    rng = np.random.default_rng(4)
    program = _program(rng, "fp16", lut_bits=16, lut_format="fp16")
    for rows in _matrices(rng, program, 20):
        _check(program, rows)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("input_format", [*FLOAT_FORMATS, "int4", "int8", "int16"])
def test_values_beside_the_thresholds(input_format):
    """The nearest floats on either side of each threshold, and special values."""
    rng = np.random.default_rng(5)
    program = _program(rng, input_format, n_codebooks=3, corner=True)
    edges = float_thresholds(program).ravel()
    edges = edges[np.isfinite(edges)]
    beside = [np.nextafter(edges, np.float32(side)) for side in (-np.inf, np.inf)]
    special = np.array([0, -0.0, np.inf, -np.inf, 1e-45, 3.4e38], dtype=np.float32)
    if input_format in FLOAT_FORMATS:
        special = np.append(special, np.float32(np.nan))
    values = np.concatenate([edges, *beside, special])
    rows = np.repeat(values[:, None], program.n_features, axis=1)
    _check(program, rows)
    _check(program, np.asfortranarray(rows))


@pytest.mark.usefixtures("forced")
def test_nan_is_refused_where_a_tree_looks():
    rng = np.random.default_rng(6)
    program = _program(rng, "int8", n_codebooks=7)
    unused = sorted(set(range(program.n_features)) - set(program.split_dims.ravel().tolist()))
    for order in "CF":
        rows = rng.standard_normal((150, program.n_features)).astype(np.float32)
        rows[:, unused] = np.nan
        _check(program, np.asarray(rows, order=order))
        for row, codebook, level in ((0, 0, 0), (149, 6, 3), (130, 3, 2)):
            bad = rows.copy(order=order)
            bad[row, program.split_dims[codebook, level]] = np.nan
            for call in (QuantisedMatmul(program).encode, QuantisedMatmul(program).matmul_online):
                with pytest.raises(HalutError, match='A must not hold NaN for input_format "int8"'):
                    call(np.asarray(bad, order=order))


@pytest.mark.usefixtures("forced")
def test_a_wrong_entry_is_found():
    rng = np.random.default_rng(7)
    program = _program(rng, "int8")
    rows = rng.standard_normal((90, program.n_features)).astype(np.float32)
    codes, product = _golden(program, rows)
    lut = program.lut.copy()
    lut[20, 9, codes[89, 9]] ^= 1
    object.__setattr__(program, "lut", lut)
    found = QuantisedMatmul(program).matmul_online(rows)
    assert np.argwhere(found != product)[-1].tolist() == [89, 20]


def test_learned_products_are_close_to_the_float_tables():
    rng = np.random.default_rng(8)
    A = rng.standard_normal((900, 6)).astype(np.float32) @ rng.standard_normal((6, 48))
    B = rng.standard_normal((48, 12))
    learned = HalutMatmul(C=12).learn_offline(A, B)
    quantised = learned.quantised("int8", 8, lut_granularity="column")
    assert quantised.program == learned.program("int8", 8, lut_granularity="column")
    _check(quantised.program, A)
    floats = learned.matmul_online(A)
    assert np.square(quantised.matmul_online(A) - floats).sum() < 0.01 * np.square(floats).sum()


def test_what_is_no_product_is_refused():
    with pytest.raises(HalutError, match="program must be a Program, not int"):
        QuantisedMatmul(3)
    quantised = QuantisedMatmul(_program(np.random.default_rng(9), "int8"))
    with pytest.raises(HalutError, match="A must have shape"):
        quantised.matmul_online(np.zeros((2, 1)))
    with pytest.raises(HalutError, match="A must hold real numbers"):
        quantised.encode([["a"]])


def test_an_array_that_cannot_take_the_product_is_refused():
    rng = np.random.default_rng(0)
    program = _program(rng, "int8")
    quantised = QuantisedMatmul(program)
    rows = rng.standard_normal((40, program.n_features)).astype(np.float32)
    shape = 40, program.n_outputs
    fixed = np.empty(shape, np.float32)
    fixed.flags.writeable = False
    wide = np.empty((40, 2 * program.n_outputs), np.float32)
    for out, message in (
        (np.empty((39, program.n_outputs), np.float32), "float32 array of shape"),
        (np.empty(shape), "float32 array of shape"),
        ([[0.0] * program.n_outputs] * 40, "float32 array of shape"),
        (np.empty(shape, np.float32, order="F"), "row-major, without gaps, and writable"),
        (wide[:, ::2], "row-major, without gaps, and writable"),
        (fixed, "row-major, without gaps, and writable"),
        (rows.reshape(-1)[: 40 * program.n_outputs].reshape(shape), "apart from A"),
    ):
        with pytest.raises(HalutError, match=f"out must be .*{message}"):
            quantised.matmul_online(rows, out)
