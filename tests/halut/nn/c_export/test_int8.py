"""Networks in 8-bit words: C gives the bits of the steps, and they are near the floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from torch import Tensor, nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear  # noqa: E402
from halut.nn.c_export.beside import channels_last  # noqa: E402
from halut.nn.c_export.export import export_c  # noqa: E402
from halut.nn.c_export.int8 import in_words  # noqa: E402
from halut.nn.c_export.reference import compute  # noqa: E402
from halut.nn.c_export.steps import Add, LookUp, Product  # noqa: E402
from halut.nn.c_export.trace import trace  # noqa: E402
from halut.nn.c_export.words import words_of  # noqa: E402
from tests.halut.nn.c_export.builds import passed  # noqa: E402
from tests.halut.nn.c_export.networks import (  # noqa: E402
    Branches,
    bytes_out,
    config,
    folded,
    images,
    made,
    norm,
)


class Residual(nn.Module):
    """Exact and looked-up layers, an addition, both poolings, groups, and a row of features."""

    def __init__(self, looked_up: bool, **changes: Any) -> None:
        super().__init__()
        convolution: Any = HalutConv2d if looked_up else nn.Conv2d
        formats = {"config": config(**changes)} if looked_up else {}
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.first_norm = norm(6)
        self.second = convolution(6, 6, 3, padding=1, groups=2, **formats)
        self.second_norm = norm(6)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.mean = nn.AvgPool2d((2, 1))
        self.third = convolution(6, 8, 2, dilation=2, padding=1, **formats)
        linear: Any = HalutLinear if looked_up else nn.Linear
        self.last = linear(8 * 2 * 3, 5, **formats)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first_norm(self.first(x)))
        x = torch.relu(x + self.second_norm(self.second(x)))
        return self.last(torch.flatten(self.third(self.mean(torch.relu(self.pool(x)))), 1))


@pytest.mark.needs("cc", "make")
@pytest.mark.parametrize("encoder", [None, "tree", "sums", "window", "node"])
def test_c_gives_the_bits_of_the_words(encoder: str | None, tmp_path: Path) -> None:
    changes = {} if encoder is None else {"encoder": encoder, "n_prototypes": 8}
    model = made(Residual, looked_up=encoder is not None, **changes)
    done = export_c(
        model, tmp_path, images(40), exact="int8", calibration=images(100, 5), measure_code=False
    )
    assert (done.looked_up, done.exact) == ((3, 1) if encoder else (0, 4))
    assert not done.defined and done.same_class > 36
    passed(tmp_path, "sanitise", "OPTIMISE=-O1")


def test_words_are_near_the_floats() -> None:
    model = made(Residual, looked_up=False)
    network = trace(model, images(1))[0]
    words = in_words(network, channels_last(images(100, 5)))
    assert {step.output.kind for step in words.steps[:-1]} == {"i8"}
    exact = compute(network, channels_last(images(60)))
    given = compute(words, channels_last(images(60)))
    assert 0 < np.abs(given - exact).max() < 0.05 * np.ptp(exact)
    assert (given.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.9


def test_steps_between_are_integers_and_no_norm_or_activation_is_left() -> None:
    words = in_words(
        trace(made(Residual, looked_up=True), images(1))[0], channels_last(images(100))
    )
    kinds = [type(step).__name__ for step in words.steps]
    assert kinds == ["Quantise", "Product", "LookUp", "Add", "Maximum", "Mean", "LookUp", "LookUp"]
    for step in words.steps:
        if isinstance(step, Product):
            assert np.abs(step.weights).max() == 127
        if isinstance(step, LookUp):
            assert step.inputs[0].kind == "i8"
            assert step.thresholds.min() >= -129 and step.thresholds.max() <= 127
        if isinstance(step, Add):
            assert all(abs(one) <= 2**16 for one in step.multipliers)


@pytest.mark.parametrize("encoder", ["tree", "sums", "window", "node"])
def test_words_decide_as_their_floats_do(encoder: str) -> None:
    """A looked-up layer's codes for words are those for what the words stand for."""
    torch.manual_seed(4)
    formats = config(encoder=encoder, n_prototypes=8)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), HalutConv2d(4, 6, 3, padding=1, config=formats), nn.Flatten(),
        HalutLinear(252, 3, config=config()),
    ).eval()  # fmt: skip
    words = in_words(trace(model, images(1))[0], channels_last(images(50)))
    values: dict[str, Any] = {}
    compute(
        words, channels_last(images(8)), lambda value, array: values.update({value.name: array})
    )
    grid = words.steps[1].output.grid
    assert grid is not None
    floats = ((values["_0"] - grid.zero) * grid.scale).astype(np.float32)
    layer: Any = model[1]
    sums = layer.accumulators(torch.from_numpy(floats.transpose(0, 3, 1, 2).copy()))[0].numpy()
    looked_up = words.steps[2]
    assert isinstance(looked_up, LookUp)
    stage: Any = looked_up.stage
    expected = np.clip((sums * stage.multiplier + stage.addend) >> stage.shift, -128, 127)
    assert np.array_equal(values["_1"].reshape(expected.shape), expected)


def test_words_are_those_of_the_export(tmp_path: Path) -> None:
    model, seen, inputs = made(Residual, looked_up=False), images(40), images(60)[40:]
    done = export_c(model, tmp_path, inputs, exact="int8", calibration=seen, measure_code=False)
    words = words_of(model, seen)(inputs)
    with torch.no_grad():
        floats = model(inputs)
    assert words.shape == floats.shape and words.dtype == torch.float32
    assert done.max_difference == float((words - floats).abs().max()) > 0
    assert done.same_class == int((words.argmax(1) == floats.argmax(1)).sum())
    assert not torch.equal(words_of(model, seen[:2] / 4)(inputs), words)  # other ranges


def test_a_folded_network_keeps_its_bits(tmp_path: Path) -> None:
    done = export_c(folded(), tmp_path, images(20), exact="int8", measure_code=False)
    assert done.identical == done.inputs == 20


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: made(Branches), r"batch norm must come before flattening for INT8 \(row_norm\)"),
        (bytes_out, "batch norm must follow a layer without an output stage for INT8"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(),
         r"network must not end with an activation for INT8 \(_1\)"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)).eval(),
         r"network must end with a layer for INT8 \(_1\)"),
        (lambda: nn.Sequential(norm(3), nn.Conv2d(3, 4, 3)).eval(),
         r"batch norm and activation must alone follow a layer for INT8 \(_0\)"),
    ],
)  # fmt: skip
def test_what_words_cannot_do_is_refused_in_one_line(
    model: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(HalutError, match=message) as caught:
        export_c(model(), tmp_path / "out", images(4), exact="int8", measure_code=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=r'exact must be "float" or "int8", not \'int4\''):
        export_c(folded(), tmp_path, images(4), exact="int4")
