"""The analytic model: counts against hand counts, a fit that finds known coefficients."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flow.search.counts import FEATURES, structure
from flow.search.model import TARGETS, Model, Point, fit, training_configs
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig


def test_counts_of_a_small_configuration():
    """Hand count: C=4, K=4, M=2, P=2, Q=4, INT8, pipelined, one tree level per stage."""
    config = AcceleratorConfig(
        n_codebooks=4,
        n_prototypes=4,
        n_outputs=2,
        rows=2,
        parallel_codebooks=4,
        encoder="pipelined",
        input_format="int8",
    )
    counts = structure(config)
    assert counts["latch_bits"] == 4 * 4 * 2 * 8 + 4 * 3 * 8
    assert counts["gates"] == 4 * (4 * 1 + 1)
    assert counts["compare_bits"] == 2 * 4 * 2 * 8
    # Look-up: 2 rows, 4 lanes, 2 outputs, 4 words of 8 bits; level 1 selects 1 of 2 thresholds.
    assert counts["select_bits"] == 2 * 4 * 2 * 4 * 8 + 2 * 4 * 2 * 8
    # Per result: two 9-bit sums, then one of 10 bits.
    assert counts["adder_bits"] == 4 * (2 * 9 + 10)
    # Per walk: one value and a bit between the levels, four code lines; per result 2 x 9 bits and
    # the 10-bit sum; the program word.
    assert counts["flop_bits"] == 8 * (8 + 1 + 4) + 4 * (18 + 10) + config.program_data_bits


def test_codes_that_blocks_decode_are_stored_as_numbers_once_in_each():
    config = AcceleratorConfig(
        n_codebooks=4, n_prototypes=8, n_outputs=4, rows=2, parallel_codebooks=4,
        encoder="pipelined", input_format="int8", write_word_bits=16,
    )  # fmt: skip
    assert config.n_blocks == 2
    lines, numbers = (
        structure(replace(config, code_stages=2, decode_in_blocks=decode))["flop_bits"]
        for decode in (False, True)
    )
    # Per walk: eight lines three times, or three bits in the encoder, between, and in both blocks.
    assert lines - numbers == 8 * (3 * 8 - 4 * 3)


def _synthetic_points():
    points = []
    for config in training_configs():
        measured = {
            target: sum(
                (i + 1) * value for i, value in enumerate(FEATURES[target](config).values())
            )
            for target in TARGETS
        }
        points.append(Point(config=config, measured=measured, provenance={"platform": "none"}))
    return points


def test_fit_finds_known_coefficients(tmp_path):
    points = _synthetic_points()
    model = fit(points)
    for target in TARGETS:
        assert model.errors[target].largest < 1e-6
    assert model.conditions["platform"] == "none"
    path = tmp_path / "model.json"
    model.save(path)
    loaded = Model.load(path)
    estimate = loaded.estimate(points[0].config)
    assert estimate.area_um2 == pytest.approx(points[0].measured["area_um2"], rel=1e-6)


def test_the_stated_error_sees_a_wrong_point():
    points = _synthetic_points()
    wrong = {**points[3].measured, "area_um2": 3 * points[3].measured["area_um2"]}
    points[3] = Point(config=points[3].config, measured=wrong, provenance={"platform": "none"})
    assert fit(points).errors["area_um2"].largest > 0.3


def test_too_few_points():
    with pytest.raises(HalutError, match="measured configurations must be at least 9"):
        fit(_synthetic_points()[:4])


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"kind": "other"})])
def test_foreign_files(tmp_path, text):
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(HalutError, match=r"a model must be (JSON|a file written by)"):
        Model.load(path)


@pytest.mark.parametrize(
    "values", [{"double_buffer": True}, {"relu": True}, {"lut_format": "fp16", "lut_bits": 16}]
)
def test_what_was_not_fitted_is_refused(values):
    config = AcceleratorConfig(**values)
    with pytest.raises(HalutError, match=rf"{next(iter(values))} must be .* for an estimate"):
        Model(coefficients={}, errors={}, conditions={}, points=()).estimate(config)
