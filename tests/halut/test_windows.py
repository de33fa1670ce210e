"""Codebooks that take their windows: programs, their file, what they compute, how they learn."""

import dataclasses
import json

import numpy as np
import pytest

from halut import HalutMatmul, golden, native
from halut.__main__ import main
from halut.cli import run
from halut.costs import EncoderArea, read_areas
from halut.encoding import float_thresholds
from halut.errors import HalutError
from halut.problems import relative_error
from halut.program import Program
from halut.quantised import QuantisedMatmul
from halut.tiles import select, tile, widen
from halut.trees import learn_node_tree, learn_tree
from halut.windows import window_columns
from tests.halut.support import mixtures

pytestmark = pytest.mark.usefixtures("judged_by_one_share_of_the_rows")


def small(**changes):
    """A window of three words; the root looks at word 2, its children at words 0 and 1."""
    fields = {
        "n_features": 4, "input_format": "int8", "split_dims": [[3, 1, -1]],
        "places": [[1, 0, 2]], "thresholds": [[5, 0, -1]], "lut": [[[1, 2, 3, 4]]],
        "lut_scale": [1.0], "lut_offset": [0.0],
    }  # fmt: skip
    return Program(**fields | changes)


def test_by_hand():
    program = small()
    assert (program.encoder, program.window, program.splits) == ("node", 3, "node")
    assert (program.tree_depth, program.n_prototypes, program.n_values) == (2, 4, 3)
    words = program.input_words([[9, 5, 9, 0], [9, 5, 9, 1], [9, 6, 9, 9]])
    assert words.tolist() == [[[0, 5, 0]], [[1, 5, 0]], [[9, 6, 0]]]
    # Word 1 is not above 5, word 0 is not above 0, or is; word 1 is above 5, and no word above -1.
    assert golden.encode(program, words).ravel().tolist() == [0, 1, 3]
    assert golden.matmul(program, words).ravel().tolist() == [1, 2, 4]
    by_level = small(places=[[1, 0]])
    assert (by_level.encoder, by_level.splits) == ("window", "level")
    assert golden.encode(by_level, words).ravel().tolist() == [0, 1, 3]


def test_no_column_is_the_word_zero_in_floats():
    halves = np.float16([[5, 0, -1]])
    program = small(input_format="fp16", thresholds=halves, split_dims=[[3, 1, -1]])
    assert program.input_words([[9, 5, 9, 7.0]])[0, 0, 2] == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"places": [[1, 0, 3]]}, "places must be in [0, 3), not reach 3"),
        ({"places": [[1]]}, "places must be 2 or 3 per codebook, one for each level or node"),
        ({"places": [[1, 0.5]]}, "places must hold integers"),
        ({"signs": [[[1, -1]]]}, "split_dims must have shape"),
        ({"split_dims": [[-2, 0, 1]]}, "split_dims must be in [-1, 4), not -2 to 1"),
        ({"thresholds": [[1, 2]]}, "thresholds must be 2**levels - 1 per codebook, not 2"),
        ({"input_scale": [[1, 1]]}, "input_scale must have shape (1, 3), not (1, 2)"),
    ],
)
def test_bad_fields(changes, message):
    with pytest.raises(HalutError) as error:
        small(**changes)
    assert message in str(error.value)


def test_file(tmp_path):
    program = small()
    path = program.save(tmp_path / "p.npz")
    assert Program.load(path) == program
    assert dataclasses.replace(program, places=[[1, 1, 2]]) != program
    with np.load(path) as archive:
        content = dict(archive)
    assert content["format_version"] == 4 and "signs" not in content
    del content["places"]
    np.savez(path, **content)
    with pytest.raises(HalutError, match="places is missing"):
        Program.load(path)


@pytest.mark.parametrize("version, terms", [(2, 1), (3, 2)])
def test_programs_without_windows_keep_their_version(tmp_path, version, terms):
    program = golden.random_program(np.random.default_rng(0), 2, 4, 3, "int8", terms=terms)
    path = program.save(tmp_path / "p.npz")
    with np.load(path) as archive:
        assert archive["format_version"] == version and "places" not in archive
    assert Program.load(path) == program


def test_windows_are_the_groups_of_columns():
    assert window_columns(7, 3).tolist() == [[0, 1, 2], [3, 4, -1], [5, 6, -1]]
    assert window_columns(2, 2).tolist() == [[0, -1], [1, -1]]  # no accelerator takes one word


def test_nodes_split_where_they_gain_most():
    """Left of column 0 column 1 decides, right of it column 2: no tree by levels can know both."""
    rng = np.random.default_rng(1)
    columns = rng.standard_normal((3, 200)).astype(np.float32)
    inner = np.where(columns[0] > 0, columns[2] > 0, columns[1] > 0)
    target = (4.0 * (columns[0] > 0) + inner)[None]
    target -= target.mean()
    dims, _, codes = learn_node_tree(columns, target, 2)
    assert dims.tolist() == [0, 1, 2]
    left = [target[0][c == codes].std() for c in range(4)]
    assert max(left) < 1e-6
    _, _, by_level = learn_tree(columns, target, 2)
    assert max(target[0][c == by_level].std() for c in range(4)) > 0.3


@pytest.mark.parametrize("input_format", ["int8", "fp16"])
@pytest.mark.parametrize("encoder", ["window", "node"])
def test_quantised_product_is_near_the_floats(encoder, input_format):
    A, B = mixtures()
    learned = HalutMatmul(C=5, encoder=encoder, effort=1).learn_offline(A[:1200], B)
    program = learned.program(input_format)
    assert program.encoder == encoder and program.window == 5  # 24 columns: one has 4
    assert program.provenance["encoder"] == encoder
    inside = program.split_dims >= 0
    assert np.array_equal(np.sort(program.split_dims[inside]), np.arange(24))
    rows, exact = A[1200:], A[1200:] @ B
    floats = relative_error(learned.matmul_online(rows), exact)
    quantised = QuantisedMatmul(program)
    assert relative_error(quantised.matmul_online(rows), exact) < 1.05 * floats
    codes = golden.encode(program, program.input_words(rows))
    assert (codes == learned.encode(rows)).mean() > 0.96
    assert np.array_equal(quantised.encode(rows), codes)


def test_nodes_are_better_than_levels():
    A, B = mixtures()
    exact = A[1200:] @ B
    errors = {}
    for encoder in ("tree", "window", "node"):
        learner = HalutMatmul(C=4, encoder=encoder, effort=0).learn_offline(A[:1200], B)
        errors[encoder] = relative_error(learner.matmul_online(A[1200:]), exact)
    assert errors["window"] == errors["tree"]  # its own group of columns, as without effort
    assert errors["node"] < 0.97 * errors["tree"]


def test_best_may_be_nodes():
    A, B = mixtures(600)
    areas = [EncoderArea(encoder=name, area=area) for name, area in (("tree", 1), ("node", 1.05))]
    best = HalutMatmul(C=4, encoder="best", most_area=1.1, areas=areas).learn_offline(A, B)
    own = HalutMatmul(C=4, encoder="node").learn_offline(A, B)
    assert best.chosen_["encoder"] == "node" and best.program().encoder == "node"
    assert np.array_equal(best.lut_, own.lut_)


def test_one_grid_for_everything_and_none_for_levels():
    A, B = mixtures(400)
    learned = HalutMatmul(C=4, encoder="window").learn_offline(A, B)
    program = learned.program(input_granularity="all")
    assert len(np.unique(program.input_scale)) == len(np.unique(program.input_offset)) == 1
    with pytest.raises(HalutError, match='must be "codebook" or "all" for windows, not "dimen'):
        learned.program(input_granularity="dimension")


@pytest.mark.parametrize("splits", ["level", "node"])
def test_corner_words_meet_thresholds(splits):
    rng = np.random.default_rng(3)
    program = golden.random_program(rng, 3, 16, 5, "int8", corner=True, window=6, splits=splits)
    words = golden.random_words(rng, program, 400, corner=True)
    assert np.array_equal(native.results(program, words), golden.results(program, words))
    assert len(np.unique(golden.encode(program, words))) > 8
    keys = words[:, np.arange(3), program.places[:, 0]]
    for away in (-1, 0, 1):  # of the root's threshold
        near = np.clip(program.thresholds[:, 0].astype(int) + away, -128, 127)
        assert (keys == near).any(axis=0).all()


def test_tiles_of_windows():
    rng = np.random.default_rng(1)
    program = golden.random_program(rng, 6, 8, 5, "int8", window=4, splits="node")
    A = rng.uniform(-99, 99, (20, program.n_features))
    tiling = tile(program, 4, 3)
    parts = [golden.matmul(part, part.input_words(A)) for part in tiling.tiles]
    whole = golden.matmul(program, program.input_words(A))
    assert np.array_equal(tiling.join(parts), whole)
    assert np.array_equal(select(program, np.array([4]), slice(0, 1)).places, program.places[[4]])


@pytest.mark.parametrize("given", [{}, {"window": 5}, {"window": 7, "splits": "node"}])
@pytest.mark.parametrize("splits", ["level", "node"])
def test_widening_changes_no_accumulator(given, splits):
    rng = np.random.default_rng(2)
    narrow = golden.random_program(rng, 5, 8, 3, "int6", n_features=9, corner=True, **given)
    if given.get("splits") == "node" and splits == "level":
        with pytest.raises(HalutError, match="program must split by level"):
            widen(narrow, window=8, splits=splits)
        return
    wide = widen(narrow, n_prototypes=32, lut_bits=12, input_format="int9", window=8, splits=splits)
    assert (wide.n_prototypes, wide.window, wide.splits) == (32, 8, splits)
    A = np.rint(rng.uniform(-40, 40, (1000, 9)))  # beyond the format's ends, too
    sums = [golden.matmul(part, part.input_words(A)) for part in (narrow, wide)]
    assert np.array_equal(*sums)


def test_what_does_not_fit_is_refused():
    program = small()
    with pytest.raises(HalutError, match="at most the accelerator's 2 words, not 3"):
        widen(program, window=2)
    with pytest.raises(HalutError, match="program must not have windows: the accelerator takes"):
        widen(program, window=0)
    sums = golden.random_program(np.random.default_rng(1), 2, 4, 1, "int8", terms=2)
    with pytest.raises(HalutError, match="program must not compare sums: the accelerator takes w"):
        widen(sums, window=9)
    with pytest.raises(HalutError, match="must not have windows for thresholds of single values"):
        float_thresholds(program)


def test_areas_say_which_encoder_it_is(tmp_path):
    found = []
    for more in ({}, {"window": 9}, {"window": 9, "splits": "node"}):
        path = tmp_path / f"{len(more)}.json"
        metrics = {
            "kind": "halut-metrics",
            "metrics": {"synth__design__instance__area__stdcell": 2},
            "provenance": {"configuration": more},
        }
        path.write_text(json.dumps(metrics))
        found += read_areas([path])
    assert [one.encoder for one in found] == ["tree", "window", "node"]


def test_commands(tmp_path, capsys):
    A, B = mixtures(200)
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    files = ["--a", str(tmp_path / "a.npy"), "--b", str(tmp_path / "b.npy")]
    node = ["--num-c", "4", "--encoder", "node", "-o", str(tmp_path / "p.npz")]
    assert run(main, ["learn", *files, *node]) == 0
    assert Program.load(tmp_path / "p.npz").encoder == "node"
    assert run(main, ["learn", *files, *node, "--input-granularity", "dimension"]) == 2
    assert 'input_granularity must be "codebook" or "all"' in capsys.readouterr().err
    assert run(main, ["info", str(tmp_path / "p.npz")]) == 0
    said = capsys.readouterr().out
    assert "window               6" in said and "splits               node" in said
