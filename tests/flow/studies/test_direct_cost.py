"""Layers on direct engines: the cycle model against simulated engines, and the sums by hand."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest

from flow.figures.metrics import Metrics
from flow.studies.cycles import engine_cycles
from flow.studies.direct_cost import direct_layer, engine_of
from halut.errors import HalutError
from halut.workloads import Layer
from rtl_gen.direct import DotProductConfig, EngineConfig, StoredMatrixConfig, SystolicConfig
from sim.direct import Job, make_job, random_factors
from sim.packing import unpack
from tests.rtl_gen.support import EngineBench, packed_items

ENGINES: dict[str, EngineConfig] = {
    "dot-product": DotProductConfig(length=5, columns=3, weights="latch", recode="weights"),
    "dot-product-stages": DotProductConfig(length=3, columns=2, cuts=(6, 2), weights="ff"),
    "systolic": SystolicConfig(rows=3, columns=2),
    "systolic-cut": SystolicConfig(rows=2, columns=4, cuts=(3,)),
    "stored": StoredMatrixConfig(n_groups=3, group_features=2, n_outputs=2),
    "stored-rows": StoredMatrixConfig(n_groups=2, group_features=2, n_outputs=6, rows=2,
                                      write_word_bits=16, cuts=()),
    "stored-beats": StoredMatrixConfig(n_groups=1, group_features=4, n_outputs=3,
                                       outputs_per_cycle=1, memory="ff", write_word_bits=8),
}  # fmt: skip
# D = 11 and M = 7 are multiples of nothing that an engine holds.
LAYER = Layer(name="a", kind="linear", rows=13, n_features=11, n_outputs=7)
# The same for simulation, quicker.
SIMULATED = Layer(name="s", kind="linear", rows=5, n_features=7, n_outputs=5)
DOT = DotProductConfig(name="dot", length=4, columns=2, max_vectors=1, weights="latch")


def _tile(config: EngineConfig, inputs: np.ndarray, weights: np.ndarray) -> Job:
    """The job of one tile; a systolic array's ends when the last sum is out."""
    transposed = weights.T if isinstance(config, DotProductConfig) else weights
    job = make_job(config, inputs, transposed)
    if isinstance(config, SystolicConfig):
        n_items = len(inputs) - 1 + config.filling_transfers
        job = dataclasses.replace(job, inputs=job.inputs[:n_items], outputs=job.outputs[:n_items])
    return job


def _sums(config: EngineConfig, results: list[int], n_rows: int) -> np.ndarray:
    """Sums (row, output) of a tile from payloads of the output stream."""
    n_sums, bits = config.sums_per_transfer, config.accumulator_bits
    values = unpack(
        [value & ((1 << n_sums * bits) - 1) for value in results], n_sums, bits, signed=True
    )
    if isinstance(config, SystolicConfig):
        rows, columns = np.arange(n_rows)[:, None], np.arange(config.columns)
        return values[rows + config.latency_cycles - 1 + columns, columns]
    return values.reshape(-1, config.held_matrix[1])[:n_rows]


@pytest.mark.parametrize("name", ENGINES)
def test_cycles_and_sums_equal_those_of_the_simulated_engine(name: str) -> None:
    """A whole layer, tile by tile: cycles of every part, and its product put together again."""
    config, n_rows = ENGINES[name], int(SIMULATED.rows)
    rng = np.random.default_rng(1)
    a = random_factors(rng, 8, (n_rows, SIMULATED.n_features))
    b = random_factors(rng, 8, (SIMULATED.n_features, SIMULATED.n_outputs))
    features, outputs = config.held_matrix
    parallel = config.rows if isinstance(config, StoredMatrixConfig) else 1
    grid = -(-SIMULATED.n_features // features), -(-SIMULATED.n_outputs // outputs)
    x = np.zeros((-(-n_rows // parallel) * parallel, grid[0] * features), int)
    w = np.zeros((grid[0] * features, grid[1] * outputs), int)
    x[:n_rows, : a.shape[1]], w[: b.shape[0], : b.shape[1]] = a, b
    places = [
        (slice(i * features, (i + 1) * features), slice(j * outputs, (j + 1) * outputs))
        for i, j in itertools.product(*map(range, grid))
    ]
    jobs = [_tile(config, x[:, f], w[f, o]) for f, o in places]
    # A systolic array gives no results at first after a reset: a tile before the layer's.
    counts = [len(jobs[0].outputs) - jobs[0].n_filling, *(len(job.outputs) for job in jobs)]
    bench = EngineBench(config)
    results = bench.run_all([jobs[0], *jobs], counts)[1:]

    product = np.zeros((len(x), w.shape[1]), int)
    for (_, place), found in zip(places, results, strict=True):
        product[:n_rows, place] += _sums(config, found, n_rows)
    np.testing.assert_array_equal(product[:n_rows, : b.shape[1]], a @ b)
    if not isinstance(config, SystolicConfig):
        assert results[-1] == packed_items(config, jobs[-1].outputs)

    expected = engine_cycles(config, n_rows)
    for cycles in bench.cycles[1:]:
        words, rows, sums = cycles["program"], cycles["i"], cycles["o"]
        assert len(words) == config.program_words == words[-1] - words[0] + 1 == expected.load
        assert rows[0] - words[-1] - 1 == expected.settle
        assert sums[-1] - rows[0] + 1 == expected.run
        assert sums[-1] - words[0] + 1 == expected.total
    figures = direct_layer(SIMULATED, config, measured(config))
    assert figures["tiles"] == len(jobs) > 1
    assert figures["cycles"]["total"] == len(jobs) * expected.total
    assert figures["program_words"] == sum(len(job.program) for job in jobs)
    assert figures["bits"]["program"] >= len(jobs) * features * outputs * config.weight_bits


def measured(config: EngineConfig, **values: float) -> Metrics:
    metrics = Metrics()
    metrics.provenance = {
        "slug": config.slug, "design": config.name, "configuration": config.to_dict(),
    }  # fmt: skip
    metrics.values |= {
        "synth__timing__clock__period": 2.0,
        "halut__energy__per_cycle": 3.0,
        "halut__energy__per_program_word": 7.0,
        "synth__power__leakage__total": 0.25,
        "synth__design__instance__area__stdcell": 100.0,
        **values,
    }
    return metrics


def test_figures_by_hand() -> None:
    """D = 11 and M = 7 on 4 by 2: 3 x 4 tiles of 13 rows, a row per cycle."""
    row = direct_layer(LAYER, DOT, measured(DOT), batch=2)
    assert (row["tiles"], row["grid"], row["macs"]) == (12, [3, 4], 26 * 11 * 7)
    assert row["cycles"] == {
        "load": 12 * 2, "settle": 12, "stream": 12 * 26, "drain": 12 * 3, "total": 12 * (2 + 1 + 29)
    }  # fmt: skip
    assert row["utilisation"] == pytest.approx(26 * 77 / (12 * 32 * 8))
    assert row["share_of_made"] == pytest.approx(26 * 77 / (12 * 26 * 8))
    assert (row["program_words"], row["partial_sums"]) == (24, 2 * 26 * 7)
    bits = {"input": 12 * 26 * 32, "output": 12 * 26 * 2 * 18, "program": 24 * 32}
    assert row["bits"] == bits and DOT.accumulator_bits == 18
    energy = row["energy_pj"]
    assert energy["stream"] == 12 * 26 * 3.0
    assert energy["load"] == 24 * 7.0
    assert energy["other_cycles"] == pytest.approx((12 + 36) * 0.5)
    assert energy["total"] == pytest.approx(936 + 168 + 24)


def test_units_share_tiles_and_groups_are_tiles_of_their_own() -> None:
    metrics = measured(DOT)
    one, four = (direct_layer(LAYER, DOT, metrics, units=units) for units in (1, 4))
    assert four["cycles"]["total"] * 4 == one["cycles"]["total"]
    assert four["energy_pj"]["total"] == pytest.approx(one["energy_pj"]["total"])
    depthwise = Layer(name="d", kind="conv2d", rows=5, n_features=9, n_outputs=1, groups=6)
    assert direct_layer(depthwise, DOT, metrics)["tiles"] == 6 * 3
    # Both factors of a product are new in every inference: nothing is shared.
    product = dataclasses.replace(LAYER, kind="product")
    one, three = (direct_layer(product, DOT, metrics, batch=batch) for batch in (1, 3))
    assert three["program_words"] == 3 * one["program_words"]
    assert three["cycles"]["total"] == 3 * one["cycles"]["total"]
    assert three["macs"] == 3 * one["macs"]


def test_weights_held_outside_take_no_loading() -> None:
    assert engine_cycles(DotProductConfig(), 10).load == 0


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({"configuration": None, "design": "old"}, "must name the engine's configuration, not"),
        ({"configuration": {"engine": "systolic", "rows": 0}}, "rows must be an integer"),
        ({"slug": "systolic_r1"}, "must be of one engine, not dot_product_n4"),
        ({"configuration": DotProductConfig().to_dict(), "slug": DotProductConfig().slug},
         "must be of an engine that holds its weights, as dot_product_latch does, not"),
    ],
)  # fmt: skip
def test_metrics_must_be_of_an_engine_that_is_loaded(provenance: dict, message: str) -> None:
    metrics = measured(DOT)
    assert engine_of(metrics) == DOT
    metrics.provenance |= provenance
    with pytest.raises(HalutError, match=re.escape(message)):
        engine_of(metrics)


def test_sizes_must_be_known() -> None:
    with pytest.raises(HalutError, match=r"sizes must be known.*\(layer a\)"):
        direct_layer(dataclasses.replace(LAYER, rows=0), DOT, measured(DOT))
