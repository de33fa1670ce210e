"""HalutMatmul: shapes, edge cases, and what must not change the result."""

import numpy as np
import pytest

from halut import HalutMatmul, golden
from halut.baseline import ProductQuantization, k_means
from halut.errors import HalutError
from halut.forest import subspaces
from halut.matmul import Statistics
from halut.problems import relative_error


def mixture(n_rows=3000, n_features=48, n_outputs=7, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n_rows, 8)) @ rng.standard_normal((8, n_features))
    A += 0.1 * rng.standard_normal(A.shape)
    return A.astype(np.float32), rng.standard_normal((n_features, n_outputs)).astype(np.float32)


@pytest.fixture(scope="module")
def learned():
    A, B = mixture()
    return HalutMatmul(C=8, K=16).learn_offline(A[:2500], B), A[2500:], B


def test_it_learns(learned):
    multiplier, A, B = learned
    error = relative_error(multiplier.matmul_online(A), A @ B)
    assert error < 0.15
    assert multiplier.stats_.held_out_error == pytest.approx(error, rel=0.3)


def test_shapes_and_types(learned):
    multiplier, A, _ = learned
    codes = multiplier.encode(A)
    assert codes.shape == (500, 8) and codes.dtype == np.uint8 and codes.flags.c_contiguous
    assert codes.max() < 16
    product = multiplier.decode(codes)
    assert product.shape == (500, 7) and product.dtype == np.float32
    assert multiplier.split_dims_.shape == (8, 4) and multiplier.split_dims_.dtype == np.int32
    assert multiplier.thresholds_.shape == (8, 15) and multiplier.thresholds_.dtype == np.float32
    assert multiplier.lut_.shape == (7, 8, 16) and multiplier.lut_.dtype == np.float32
    assert multiplier.offset_.shape == (7,) and multiplier.offset_.dtype == np.float32
    assert multiplier.n_features_ == 48


def test_online_is_decode_of_encode(learned):
    multiplier, A, _ = learned
    assert np.array_equal(multiplier.matmul_online(A), multiplier.decode(multiplier.encode(A)))


def test_decode_is_the_sum_of_entries(learned):
    multiplier, A, _ = learned
    codes = multiplier.encode(A)
    expected = multiplier.lut_[:, np.arange(8), codes.astype(int)].sum(axis=2).T
    np.testing.assert_allclose(
        multiplier.decode(codes), expected + multiplier.offset_, rtol=1e-4, atol=1e-4
    )


def test_encode_follows_the_trees(learned):
    multiplier, A, _ = learned
    codes = multiplier.encode(A[:50])
    for row, codebook in np.ndindex(*codes.shape):
        code = 0
        for level in range(4):
            value = A[row, multiplier.split_dims_[codebook, level]]
            code = 2 * code + int(value > multiplier.thresholds_[codebook, 2**level - 1 + code])
        assert codes[row, codebook] == code


def test_split_dims_stay_in_their_subspace(learned):
    multiplier, _, _ = learned
    for dims, group in zip(multiplier.split_dims_, subspaces(48, 8), strict=True):
        assert (group.start <= dims).all() and (dims < group.stop).all()


def test_layout_and_type_of_rows_do_not_matter(learned):
    multiplier, A, _ = learned
    expected = multiplier.matmul_online(A)
    for same in (
        A.astype(np.float64),
        np.asfortranarray(A),
        np.repeat(A, 2, axis=0)[::2],
        np.repeat(A, 2, axis=1)[:, ::2],
        A.tolist(),
    ):
        assert np.array_equal(multiplier.matmul_online(same), expected)
    assert multiplier.matmul_online(A[:0]).shape == (0, 7)
    assert multiplier.encode(A[:0]).shape == (0, 8)
    assert np.array_equal(multiplier.matmul_online(A[:1]), expected[:1])


def test_rows_around_the_chunk_size(learned):
    multiplier, A, _ = learned
    many = np.concatenate([A] * 5)[:2049]
    whole = multiplier.matmul_online(many)
    for size in (1023, 1024, 1025, 2048):
        assert np.array_equal(multiplier.matmul_online(many[:size]), whole[:size])


def test_not_a_number_goes_left(learned):
    multiplier, A, _ = learned
    lowest = np.full_like(A[:1], -np.inf)
    nothing = np.full_like(A[:1], np.nan)
    assert np.array_equal(multiplier.encode(nothing), multiplier.encode(lowest))
    assert not multiplier.encode(nothing).any()


def test_learning_is_reproducible(learned):
    multiplier, _, _ = learned
    A, B = mixture()
    again = HalutMatmul(C=8, K=16).learn_offline(A[:2500], B)
    assert again.program() == multiplier.program()
    other = HalutMatmul(C=8, K=16, random_state=1).learn_offline(A[:2500], B)
    assert other.program() != multiplier.program()


def test_learning_does_not_touch_its_input():
    A, B = mixture(n_rows=500)
    A_before, B_before = A.copy(), B.copy()
    A.setflags(write=False)
    B.setflags(write=False)
    HalutMatmul(C=4).learn_offline(A, B)
    assert np.array_equal(A, A_before) and np.array_equal(B, B_before)


def test_statistics(learned):
    multiplier, _, _ = learned
    stats = multiplier.stats_
    assert isinstance(stats, Statistics)
    assert stats.n_rows == stats.n_tree_rows == 2500
    assert stats.code_counts.shape == (8, 16)
    assert (stats.code_counts.sum(axis=1) == 2500).all()
    share = stats.code_counts / 2500
    expected = [-sum(p * np.log2(p) for p in row if p) for row in share]
    np.testing.assert_allclose(stats.code_entropy, expected, atol=1e-12)
    assert ((stats.codebook_error > 0) & (stats.codebook_error < 1)).all()
    assert stats.lut_range.shape == (7, 2)
    assert np.array_equal(stats.lut_range[:, 1], multiplier.lut_.max(axis=(1, 2)))
    assert stats.seconds > 0 and 0 <= stats.refine_passes <= 3


def test_codebook_error_is_zero_when_leaves_suffice():
    rng = np.random.default_rng(0)
    A = rng.integers(0, 4, (400, 2)).astype(float)  # four values, sixteen leaves
    multiplier = HalutMatmul(C=2).learn_offline(A, rng.standard_normal((2, 3)))
    np.testing.assert_allclose(multiplier.stats_.codebook_error, 0, atol=1e-5)


@pytest.mark.parametrize("K", [2, 4, 8, 16, 32, 64, 128, 256])
def test_every_number_of_prototypes(K):
    A, B = mixture(n_rows=3000)
    multiplier = HalutMatmul(C=6, K=K).learn_offline(A[:2000], B)
    A = A[2000:]
    error = relative_error(multiplier.matmul_online(A), A @ B)
    assert error < {2: 0.8, 4: 0.5}.get(K, 0.3)
    for input_format in ("fp16", "int8"):
        program = multiplier.program(input_format)
        assert program.n_prototypes == K
        product = golden.dequantize(program, golden.matmul(program, program.input_words(A)))
        assert relative_error(product, A @ B) < 1.02 * error


@pytest.mark.parametrize("n_features, n_codebooks", [(17, 5), (16, 16), (33, 32), (5, 1), (3, 2)])
def test_features_that_do_not_divide(n_features, n_codebooks):
    groups = subspaces(n_features, n_codebooks)
    widths = [group.stop - group.start for group in groups]
    assert sum(widths) == n_features and max(widths) - min(widths) <= 1 and min(widths) >= 1
    A, B = mixture(n_rows=600, n_features=n_features)
    multiplier = HalutMatmul(C=n_codebooks).learn_offline(A, B)
    assert relative_error(multiplier.matmul_online(A), A @ B) < 0.75
    assert np.isfinite(multiplier.lut_).all()


@pytest.mark.parametrize("n_rows", [1, 2, 4, 5, 6, 20])
@pytest.mark.parametrize("K", [2, 16, 256])
def test_fewer_rows_than_leaves(n_rows, K):
    A, B = mixture(n_rows=n_rows)
    multiplier = HalutMatmul(C=4, K=K).learn_offline(A, B)
    assert np.isfinite(multiplier.matmul_online(A)).all()
    assert np.isnan(multiplier.stats_.held_out_error) == (n_rows < 5)
    program = multiplier.program()
    assert golden.matmul(program, program.input_words(A)).shape == (n_rows, 7)


def test_one_row_is_learned_exactly():
    A, B = mixture(n_rows=1)
    multiplier = HalutMatmul(C=4).learn_offline(A, B)
    np.testing.assert_allclose(multiplier.matmul_online(A), A @ B, rtol=1e-4, atol=1e-4)


def test_constant_columns():
    A, B = mixture(n_rows=800)
    A[:, :30] = 3.25
    multiplier = HalutMatmul(C=8).learn_offline(A, B)
    varying = (A - A.mean(axis=0)) @ B
    error = np.square(multiplier.matmul_online(A) - A @ B).sum() / np.square(varying).sum()
    assert error < 0.3
    everything = HalutMatmul(C=4).learn_offline(np.full((50, 48), 2.0), B)
    np.testing.assert_allclose(
        everything.matmul_online(np.full((3, 48), 2.0)),
        np.full((3, 48), 2.0) @ B,
        rtol=1e-4,
        atol=1e-4,
    )
    assert (everything.stats_.code_entropy == 0).all()


def test_zero_matrix():
    A, _ = mixture(n_rows=200)
    multiplier = HalutMatmul(C=4).learn_offline(A, np.zeros((48, 3)))
    assert not multiplier.matmul_online(A).any()
    program = multiplier.program()
    product = golden.dequantize(program, golden.matmul(program, program.input_words(A)))
    np.testing.assert_allclose(product, 0, atol=1e-5)


def test_duplicate_rows_and_columns():
    A, B = mixture(n_rows=100)
    repeated = np.repeat(A, 20, axis=0)
    repeated[:, 24:] = repeated[:, :24]
    multiplier = HalutMatmul(C=8).learn_offline(repeated, B)
    assert relative_error(multiplier.matmul_online(repeated), repeated @ B) < 0.15


@pytest.mark.parametrize("loss", ["product", "features"])
@pytest.mark.parametrize("refine_passes", [0, 3])
def test_a_large_offset_does_no_harm(loss, refine_passes):
    """Mean 1000, standard deviation 1 learns as well as mean 0."""
    A, B = mixture(n_rows=4000)
    A /= A.std()
    moved = A + np.float32(1000)
    energy = np.square(A.astype(float) @ B).sum()

    def learned_error(rows):
        multiplier = HalutMatmul(C=8, loss=loss, refine_passes=refine_passes)
        multiplier.learn_offline(rows[:3000], B)
        exact = rows.astype(float) @ B
        program = multiplier.program("int8")
        product = golden.dequantize(program, golden.matmul(program, program.input_words(rows)))
        return [
            np.square(result - exact)[3000:].sum() / energy
            for result in (multiplier.matmul_online(rows), product)
        ]

    still, _ = learned_error(A)
    far, far_quantised = learned_error(moved)
    assert far_quantised < 1.02 * far
    if refine_passes == 0:
        assert far == pytest.approx(still, rel=0.02)
    else:  # the last bits of float32 decide how refining goes on, for better or worse
        assert far < 1.5 * still


def test_more_outputs_than_features():
    A, _ = mixture(n_rows=1000, n_features=12)
    B = np.random.default_rng(5).standard_normal((12, 40)).astype(np.float32)
    wide = HalutMatmul(C=4, refine_passes=0).learn_offline(A, B)
    assert wide.lut_.shape == (40, 4, 16)
    narrow = HalutMatmul(C=4, refine_passes=0).learn_offline(A, B[:, :12])
    error = relative_error(wide.matmul_online(A), A @ B)
    assert error == pytest.approx(relative_error(narrow.matmul_online(A), A @ B[:, :12]), rel=0.3)


def test_fewer_tree_rows_are_drawn():
    A, B = mixture(n_rows=3000)
    multiplier = HalutMatmul(C=8, max_tree_rows=500).learn_offline(A, B)
    assert multiplier.stats_.n_tree_rows == 500
    assert multiplier.stats_.code_counts.sum() == 8 * 3000
    assert relative_error(multiplier.matmul_online(A), A @ B) < 0.2


def test_the_papers_own_settings():
    A, B = mixture(n_rows=3000)
    paper = HalutMatmul(C=8, loss="features", refine_passes=0, ridge=1.0)
    paper.learn_offline(A[:2000], B)
    assert (paper.stats_.ridge, paper.stats_.refine_passes) == (1.0, 0)
    assert not paper.stats_.ridge_around_means
    ours = HalutMatmul(C=8).learn_offline(A[:2000], B)
    exact = A[2000:] @ B
    assert relative_error(ours.matmul_online(A[2000:]), exact) < relative_error(
        paper.matmul_online(A[2000:]), exact
    )


@pytest.mark.parametrize("n_rows", [1, 40, 2000])
def test_tables_of_means_are_those_of_the_rows_that_share_a_code(n_rows, monkeypatch):
    """No matrix of all pairs of codes is made, whatever the number of codebooks."""
    monkeypatch.setattr("halut.lookup.count_meetings", None)
    monkeypatch.setattr("halut.ridge.count_meetings", None)
    A, B = mixture(n_rows=n_rows)
    multiplier = HalutMatmul(C=8, ridge="means", refine_passes=0).learn_offline(A, B)
    codes, centre = multiplier.encode(A), A.mean(axis=0, dtype=np.float64)
    width = A.shape[1] // 8
    for codebook in range(8):
        own = slice(codebook * width, (codebook + 1) * width)
        for code in np.unique(codes[:, codebook]):
            mean = A[codes[:, codebook] == code, own].mean(axis=0, dtype=np.float64)
            entries = (mean - centre[own]) @ B[own]
            np.testing.assert_allclose(
                multiplier.lut_[:, codebook, code], entries, rtol=1e-4, atol=1e-4
            )


def test_a_column_to_a_codebook_needs_no_regression():
    A, B = np.random.default_rng(0).normal(size=(2000, 8)), np.ones((8, 3))
    errors = [
        HalutMatmul(C=8, ridge=ridge, refine_passes=0).learn_offline(A, B).stats_.held_out_error
        for ridge in ("means", "auto")
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)


def test_ridge_regression_is_worth_it():
    """The tables are the optimum: moving them in any direction fits the rows worse."""
    A, B = mixture(n_rows=2000)
    multiplier = HalutMatmul(C=8, ridge=1e-6).learn_offline(A, B)
    exact = A @ B
    base = np.square(multiplier.matmul_online(A) - exact).sum(dtype=np.float64)
    rng = np.random.default_rng(0)
    for _ in range(5):
        saved = multiplier.lut_.copy()
        multiplier.lut_ += 0.05 * rng.standard_normal(saved.shape).astype(np.float32)
        assert np.square(multiplier.matmul_online(A) - exact).sum(dtype=np.float64) > base
        multiplier.lut_ = saved


@pytest.mark.parametrize("input_format", ["fp16", "int8", "int12"])
@pytest.mark.parametrize("lut_granularity", ["column", "table"])
@pytest.mark.parametrize("input_granularity", ["codebook", "dimension", "all"])
def test_programs(learned, input_format, lut_granularity, input_granularity):
    multiplier, A, B = learned
    program = multiplier.program(input_format, 8, lut_granularity, input_granularity)
    assert program.input_format == input_format and program.n_features == 48
    product = golden.dequantize(program, golden.matmul(program, program.input_words(A)))
    error = relative_error(multiplier.matmul_online(A), A @ B)
    assert relative_error(product, A @ B) < 1.02 * error
    codes = golden.encode(program, program.input_words(A))
    assert (codes == multiplier.encode(A)).mean() > 0.98
    assert program.provenance["source"] == "halut.HalutMatmul"
    assert program.provenance["lut_granularity"] == lut_granularity


def test_calibration_pays_where_bits_are_few():
    A, B = mixture(n_rows=4000)
    multiplier = HalutMatmul(C=16).learn_offline(A[:3000], B)
    exact = A[3000:] @ B

    def error(program):
        words = program.input_words(A[3000:])
        return relative_error(golden.dequantize(program, golden.matmul(program, words)), exact)

    base = relative_error(multiplier.matmul_online(A[3000:]), exact)
    for lut_bits in (2, 3, 4):
        plain = multiplier.program("fp16", lut_bits)
        calibrated = multiplier.program("fp16", lut_bits, calibration=A[:3000])
        assert error(calibrated) - base < 0.9 * (error(plain) - base)
        assert calibrated.provenance["calibration_rows"] == "3000"
    assert error(multiplier.program("fp16", 8, calibration=A[:3000])) < 1.01 * base


def test_calibration_takes_the_mean_error_off(learned):
    multiplier, A, _ = learned
    rough = multiplier.program("int4", 3, calibration=A)
    product = golden.dequantize(rough, golden.matmul(rough, rough.input_words(A)))
    difference = (product - multiplier.matmul_online(A)).mean(axis=0)
    np.testing.assert_allclose(difference, 0, atol=1e-3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"C": 0}, "C must be at least 1, not 0"),
        ({"C": 2.0}, r"C must be an integer, not 2\.0"),
        ({"C": True}, "C must be an integer, not True"),
        ({"K": 12}, r"K must be a power of two in \[2, 256\], not 12"),
        ({"K": 1}, r"K must be a power of two in \[2, 256\], not 1"),
        ({"K": 512}, r"K must be a power of two in \[2, 256\], not 512"),
        ({"K": "16"}, "K must be an integer, not '16'"),
        ({"loss": "featurs"}, r'loss must be .*, not \'featurs\' \(did you mean "features"\?\)'),
        ({"ridge": 0}, "ridge must be greater than 0 and finite, not 0"),
        ({"ridge": float("nan")}, "ridge must be greater than 0 and finite, not nan"),
        ({"ridge": "strong"}, 'ridge must be "auto", "means" or a number, not \'strong\''),
        ({"ridge": None}, 'ridge must be "auto", "means" or a number, not None'),
        ({"ridge": "means"}, 'refine_passes must be 0 with ridge "means", not 3'),
        (
            {"ridge": "means", "refine_passes": 0, "effort": 1},
            'effort must be 0 with ridge "means", not 1',
        ),
        (
            {"ridge": "means", "refine_passes": 0, "encoder": "sums"},
            'encoder must be tree or window with ridge "means", not "sums"',
        ),
        ({"refine_passes": -1}, "refine_passes must be at least 0, not -1"),
        ({"n_candidates": 0}, "n_candidates must be at least 1, not 0"),
        ({"max_tree_rows": 0}, "max_tree_rows must be at least 1, not 0"),
        ({"random_state": -1}, "random_state must be at least 0, not -1"),
    ],
)
def test_constructor_refuses(arguments, message):
    with pytest.raises(HalutError, match=message):
        HalutMatmul(**arguments)


def with_value(value, row=3, column=2):
    A, _ = mixture(n_rows=20)
    A[row, column] = value
    return A


@pytest.mark.parametrize("kind", [HalutMatmul, ProductQuantization])
@pytest.mark.parametrize(
    "A, B, message",
    [
        (with_value(np.nan), None, r"A must be finite in float32, not nan \(row 3, column 2\)"),
        (with_value(-np.inf), None, r"A must be finite in float32, not -inf \(row 3, column 2\)"),
        (with_value(0).astype(float) + 1e39, None, r"A must be finite in float32, not 1e\+39"),
        (None, np.full((48, 2), np.inf), r"B must be finite in float32, not inf \(row 0, column 0"),
        (None, np.zeros((47, 2)), "B must have as many rows as A has columns, 48, not 47"),
        (None, np.zeros(48), r"B must be a matrix with columns, not of shape \(48,\)"),
        (None, np.zeros((48, 0)), r"B must be a matrix with columns, not of shape \(48, 0\)"),
        (np.zeros((0, 48)), None, "A must have at least one row, not 0"),
        (np.zeros((5, 3)), np.zeros((3, 2)), "C must be at most the columns of A, 3, not 16"),
        (np.zeros((5, 48), complex), None, "A must hold real numbers, not complex128"),
        ([["a"] * 48], None, "A must hold real numbers, not <U1"),
        ([[1.0], [1.0, 2.0]], None, "A must be a matrix, not a ragged sequence"),
    ],
)
def test_learning_refuses(kind, A, B, message):
    good_A, good_B = mixture(n_rows=20)
    learner = kind()
    with pytest.raises(HalutError, match=message):
        learner.learn_offline(good_A if A is None else A, good_B if B is None else B)
    with pytest.raises(HalutError, match="learn_offline must be called before"):
        learner.matmul_online(good_A)


def test_online_refuses(learned):
    multiplier, A, _ = learned
    for call in (multiplier.encode, multiplier.matmul_online):
        with pytest.raises(HalutError, match=r"A must have shape \(any, 48\), not \(500, 47\)"):
            call(A[:, 1:])
        with pytest.raises(HalutError, match=r"A must be a matrix with columns"):
            call(A[0])
    with pytest.raises(HalutError, match=r"codes must have shape \(any, 8\), not \(2, 7\)"):
        multiplier.decode(np.zeros((2, 7), int))
    with pytest.raises(HalutError, match=r"codes must be in \[0, 16\), not 0 to 16"):
        multiplier.decode(np.array([[0] * 7 + [16]]))
    with pytest.raises(HalutError, match="codes must be integers, not float64"):
        multiplier.decode(np.zeros((2, 8)))
    with pytest.raises(HalutError, match="calibration must be finite"):
        multiplier.program(calibration=np.full((3, 48), np.nan))
    with pytest.raises(HalutError, match='input_format must be "fp16"'):
        multiplier.program("int")


@pytest.mark.parametrize("method", ["encode", "decode", "matmul_online", "program"])
def test_before_learning(method):
    argument = () if method == "program" else (np.zeros((2, 16)),)
    with pytest.raises(HalutError, match=f"learn_offline must be called before {method}"):
        getattr(HalutMatmul(), method)(*argument)


def test_failed_learning_keeps_what_was_learned():
    A, B = mixture(n_rows=300)
    multiplier = HalutMatmul(C=4).learn_offline(A, B)
    before = multiplier.program()
    with pytest.raises(HalutError, match="A must be finite"):
        multiplier.learn_offline(np.full_like(A, np.nan), B)
    assert multiplier.program() == before


def test_k_means_finds_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], dtype=np.float32)
    rows = (centres[rng.integers(0, 4, 400)] + rng.normal(0, 0.3, (400, 2))).astype(np.float32)
    found = k_means(rows, 4, 25, rng)
    assert np.abs(found[:, None] - centres).sum(axis=2).min(axis=0).max() < 0.5
    assert np.isfinite(k_means(rows[:3], 16, 5, rng)).all()  # fewer rows than centroids
    assert (k_means(np.ones((10, 2), np.float32), 4, 5, rng) == 1).all()


def test_nearest_centroid_codes():
    A, B = mixture(n_rows=800)
    baseline = ProductQuantization(C=8).learn_offline(A, B)
    codes = baseline.encode(A)
    assert codes.shape == (800, 8) and codes.dtype == np.uint8
    centred = A - baseline.centre_
    for codebook, group in enumerate(subspaces(48, 8)):
        distance = np.square(
            centred[:, None, group].astype(float) - baseline.centroids_[codebook]
        ).sum(axis=2)
        chosen = distance[np.arange(800), codes[:, codebook]]
        np.testing.assert_allclose(chosen, distance.min(axis=1), rtol=1e-3, atol=1e-3)
    assert relative_error(baseline.matmul_online(A), A @ B) < 0.2
    again = ProductQuantization(C=8).learn_offline(A, B)
    assert np.array_equal(again.lut_, baseline.lut_)
