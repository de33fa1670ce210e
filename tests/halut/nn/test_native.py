"""Native operators of the layers: the bits of the torch form, and values that are kept."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut import golden  # noqa: E402
from halut import native as library  # noqa: E402
from halut.formats import FLOAT_FORMATS  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig, native  # noqa: E402
from halut.nn.layers import HalutLayer  # noqa: E402
from halut.nn.quantize import (  # noqa: E402
    float_inputs,
    float_thresholds,
    input_words,
    packed_tables,
    quantize_tables,
)
from tests.halut.variants import sanitizing_compiler  # noqa: E402

pytestmark = pytest.mark.needs("gcc")

ROOT = Path(__file__).resolve().parents[3]
FORMATS = [None, *FLOAT_FORMATS, "int2", "int8", "int16"]


@pytest.fixture(autouse=True)
def with_a_library() -> None:
    if not library.variants():
        pytest.skip(f"there is no native library: {library.status()[1]}")


@pytest.fixture(params=library.VARIANTS)
def forced(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param not in library.variants():
        pytest.skip(f"{request.param} does not run here: {library.status()[1]}")
    monkeypatch.setenv(library.VARIABLE, request.param)
    return str(request.param)


@torch.no_grad()
def both(layer: HalutLayer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the native operators and what torch computes; the first are really used."""
    with pytest.MonkeyPatch.context() as patch:
        calls = []
        run = native._run
        patch.setattr(native, "_run", lambda *given: calls.append(1) or run(*given))
        ours = layer(x)
        assert calls == [1]
        patch.setenv(library.VARIABLE, "off")
        wanted = layer(x)
        assert calls == [1]
    return ours, wanted


def same(ours: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (ours.dtype, ours.shape) == (wanted.dtype, wanted.shape)
    assert wanted.numel()
    as_words = {2: torch.int16, 4: torch.int32}[wanted.element_size()]
    assert torch.equal(ours.contiguous().view(as_words), wanted.contiguous().view(as_words))
    for size, one, other in zip(ours.shape, ours.stride(), wanted.stride(), strict=True):
        assert size == 1 or one == other


def summing(**changes: Any) -> LayerConfig:
    return LayerConfig(encoder="sums", **changes)


def special(x: torch.Tensor) -> torch.Tensor:
    flat = x.flatten()
    places = torch.randperm(len(flat))[:4]
    flat[places] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    return x


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("input_format", FORMATS)
def test_every_input_format_and_depth(input_format: str | None) -> None:
    torch.manual_seed(1)
    for depth in range(1, 5):
        config = LayerConfig(input_format=input_format, n_prototypes=2**depth)
        conv = HalutConv2d(5, 7, 3, padding=1, config=config).eval()
        same(*both(conv, special(torch.randn(3, 5, 9, 11))))
        linear = HalutLinear(50, 19, config=config).eval()
        same(*both(linear, special(torch.randn(70, 50))))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("by_pixel", [False, True])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"padding": 1}, (2, 8, 32, 32)),
        ({"stride": 2, "padding": (2, 1)}, (3, 8, 13, 20)),
        ({"stride": (1, 3)}, (1, 8, 5, 40)),
        ({"dilation": (2, 1), "padding": "same"}, (2, 8, 9, 7)),
        ({"kernel_size": (5, 2), "padding": (0, 1)}, (1, 8, 70, 17)),
        ({"kernel_size": 1}, (2, 8, 6, 5)),
        ({"groups": 4, "padding": 1}, (20, 8, 4, 4)),
        ({"groups": 8, "out_channels": 16}, (3, 8, 6, 6)),
        ({"padding": 1, "padding_mode": "reflect"}, (2, 8, 5, 5)),
        ({"padding": 2, "padding_mode": "circular"}, (2, 8, 5, 5)),
        ({"padding": 1}, (8, 6, 6)),
        ({"in_channels": 1, "out_channels": 1, "padding": 1}, (2, 1, 28, 28)),
        ({"in_channels": 130, "out_channels": 33, "padding": 1}, (9, 130, 7, 7)),
        ({"padding": 1}, (1, 8, 3, 900)),
        ({"padding": 1}, (2, 8, 90, 40)),
    ],
)
def test_geometries(arguments: dict[str, Any], shape: tuple[int, ...], by_pixel: bool) -> None:
    torch.manual_seed(2)
    given = {"in_channels": 8, "out_channels": 12, "kernel_size": 3} | arguments
    layer = HalutConv2d(**given).eval()
    x = torch.randn(shape)
    if by_pixel and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    same(*both(layer, x))
    same(*both(layer, x.transpose(-1, -2)[..., :6, :]))  # contiguous in no way


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("input_format", [None, "int2", "int8"])
@pytest.mark.parametrize("terms", [2, 3, 16])
@pytest.mark.parametrize("by_pixel", [False, True])
def test_sums_of_features(by_pixel: bool, terms: int, input_format: str | None) -> None:
    torch.manual_seed(26)
    for depth in range(1, 5):
        config = summing(terms=terms, input_format=input_format, n_prototypes=2**depth)
        conv = HalutConv2d(4, 8, 3, padding=1, groups=2, config=config)
        images = special(2 * torch.randn(3, 4, 40, 31))
        if by_pixel:
            images = images.contiguous(memory_format=torch.channels_last)
        linear = HalutLinear(50, 19, config=config)
        for layer, x in [(conv, images), (linear, special(2 * torch.randn(70, 50)))]:
            assert layer.signs is not None
            layer.signs[:, ::2, :, 1] = 0
            same(*both(layer.eval(), x))


@pytest.mark.parametrize("input_format", [None, "int8"])
def test_ends_of_terms_follow_batches_alike(input_format: str | None) -> None:
    torch.manual_seed(29)
    config = summing(input_format=input_format)
    conv = HalutConv2d(4, 8, 3, padding=1, stride=(2, 1), dilation=2, groups=2, config=config)
    for layer, x in [(conv, torch.randn(3, 4, 12, 9)), (HalutLinear(20, 5, config=config),
                                                        torch.randn(30, 20))]:  # fmt: skip
        assert layer.term_ends is not None
        before = layer.term_ends.clone()
        gathered = layer._looked_at(x)  # (B, G, C, T * terms, L)
        seen = torch.stack([gathered.amin((0, 4)), gathered.amax((0, 4))]).view_as(before)
        layer.train()(x)
        assert torch.equal(layer.term_ends, before.lerp(seen, 0.1))
        after = layer.term_ends.clone()
        layer(x[:0])
        assert torch.equal(layer.term_ends, after)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 63, 64, 65, 1024, 1025, 2100])
def test_ends_of_tiles(n_rows: int) -> None:
    torch.manual_seed(3)
    for n_features, n_outputs in ((8, 1), (41, 4), (130, 17), (300, 40)):
        layer = HalutLinear(n_features, n_outputs, config=LayerConfig(input_format="int8")).eval()
        same(*both(layer, torch.randn(n_rows, n_features)))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize(
    "formats",
    [
        {"relu": True},
        {"lut_bits": 3, "lut_granularity": "table"},
        {"overflow": "wrap", "acc_bits": 9},
        {"overflow": "wrap", "acc_bits": 9, "relu": True},
        {"output_format": "fp16"},
        {"output_format": "int8", "relu": True},
    ],
)
def test_sums_and_output_stages(formats: dict[str, Any]) -> None:
    torch.manual_seed(4)
    for layer, x in (
        (HalutConv2d(12, 6, 3, groups=2, config=LayerConfig(input_format="int8", **formats)),
         torch.randn(4, 12, 7, 8)),
        (HalutLinear(90, 21, config=LayerConfig(input_format="fp16", **formats)),
         torch.randn(2, 30, 90)),
    ):  # fmt: skip
        layer.eval()
        if layer.output_range is not None:
            layer.learn_output_range(x)
        same(*both(layer, x))
        for group, program in enumerate(layer.programs()):
            words = program.input_words(layer.rows(x)[group].numpy())
            sums = golden.matmul(program, words, layer.accumulation)
            assert np.array_equal(layer.accumulators(x)[group].numpy(), sums)


@pytest.mark.usefixtures("forced")
def test_integers_between_layers() -> None:
    torch.manual_seed(5)
    layer = HalutConv2d(6, 5, 3, padding=1, config=LayerConfig(input_format="int8")).eval()
    words = torch.randint(-40, 40, tuple(layer.thresholds.shape), dtype=torch.int32)
    layer.use_integer_inputs(words, 12)
    layer.pad_value = torch.arange(-3.0, 3.0)
    layer.raw_output = True
    same(*both(layer, torch.randint(-90, 90, (3, 6, 8, 9)).float()))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(6)
    layer, x = HalutLinear(40, 9).eval(), torch.randn(33, 40)
    same(*both(layer, x.to(dtype)))
    same(*both(layer.to(dtype), x.to(dtype)))
    with torch.autocast("cpu", dtype=dtype):
        same(*both(layer.float(), x))


def test_a_wrong_entry_is_seen() -> None:
    torch.manual_seed(7)
    layer, x = HalutLinear(64, 20).eval(), torch.randn(200, 64)
    same(*both(layer, x))
    layer._prepared().tables[0, 0] += 1  # what is kept, not the parameter
    ours, wanted = both(layer, x)
    assert not torch.equal(ours, wanted)
    assert torch.equal(ours[:, 1:], wanted[:, 1:])


def test_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(8)
    layer, x = HalutConv2d(8, 20, 3, padding=1).eval(), torch.randn(7, 8, 33, 31)
    monkeypatch.setattr(native, "_WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        same(*both(layer, x))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["int", *FLOAT_FORMATS])
def test_decisions_on_both_sides_of_every_threshold(name: str) -> None:
    torch.manual_seed(9)
    thresholds = torch.cat([torch.randn(1, 40, 15), torch.randn(1, 40, 15) * 1e-6,
                            torch.randn(1, 10, 15) * 1e6], dim=1)  # fmt: skip
    n_trees = thresholds.shape[1]
    scale, offset = torch.rand(1, n_trees, 4) + 0.01, torch.randn(1, n_trees, 4)
    nodes = thresholds.round() + 0.5 if name == "int" else float_thresholds(thresholds, name)
    found = native.decisions(nodes, scale, offset, name)
    above = torch.nextafter(found, torch.tensor(torch.inf))

    def converted(x: torch.Tensor) -> torch.Tensor:
        if name != "int":
            return float_inputs(x, name)
        levels = [level for level in range(4) for _ in range(2**level)]
        words = input_words(x[None, ..., None], scale[..., levels], offset[..., levels])
        return words[0, ..., 0]

    assert not (converted(found) > nodes).any()
    never = found == torch.inf  # not even infinity, which becomes the largest value
    assert ((converted(above) > nodes) | never).all()
    assert never.any() == (name == "fp8_e4m3")


@pytest.mark.slow
def test_under_sanitizers(tmp_path: Path) -> None:
    # The second one because torch throws C++ exceptions.
    runtimes = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], check=True, text=True, capture_output=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    environment = {
        "CC": str(sanitizing_compiler(tmp_path)),
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",  # of Python itself
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-m", "not slow",
         __file__, Path(__file__).with_name("test_fuse.py"), "-k", " or ".join(library.VARIANTS)],
        env=os.environ | environment, cwd=ROOT, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


# Training.


def gradients(layer: HalutLayer, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the output, and the gradients of an input and of all parameters."""
    given = x.clone().requires_grad_()
    layer.zero_grad()
    out = layer(given)
    torch.manual_seed(0)
    out.backward(torch.randn(out.shape, dtype=torch.float32).to(out.dtype))
    assert given.grad is not None
    assert given.grad.stride() == x.stride()
    return [out.detach(), given.grad, *(one.grad for one in layer.parameters())]


def check_gradients(layer: HalutLayer, x: torch.Tensor) -> None:
    layer.temperature.requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        calls = []
        run = native._train_backward
        patch.setattr(native, "_train_backward", lambda *given: calls.append(1) or run(*given))
        ours = gradients(layer, x)
        assert calls == [1]
        patch.setenv(library.VARIABLE, "off")
        wanted = gradients(layer, x)
    same(ours[0], wanted[0])
    for one, other in zip(ours[1:], wanted[1:], strict=True):
        largest = float(other.abs().max())
        assert largest > 0
        # Most of the temperature's gradient cancels.
        part = 3e-4 if one.ndim == 0 else 2e-5
        torch.testing.assert_close(one, other, rtol=0, atol=part * largest)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("input_format", FORMATS)
def test_gradients_in_every_input_format_and_depth(input_format: str | None) -> None:
    torch.manual_seed(16)
    for depth in range(1, 5):
        config = LayerConfig(input_format=input_format, n_prototypes=2**depth, temperature=0.7)
        check_gradients(HalutConv2d(5, 7, 3, padding=1, config=config), torch.randn(3, 5, 9, 11))
        check_gradients(HalutLinear(50, 19, config=config), torch.randn(7, 10, 50))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("input_format", [None, "int2", "int8"])
@pytest.mark.parametrize("terms", [2, 3])
def test_gradients_of_sums(terms: int, input_format: str | None) -> None:
    torch.manual_seed(28)
    for depth, temperature in [(1, 1.0), (3, 2.0), (4, 4.0)]:
        config = summing(
            terms=terms, input_format=input_format, n_prototypes=2**depth, temperature=temperature
        )
        conv = HalutConv2d(4, 8, 3, padding=1, stride=2, groups=2, config=config)
        linear = HalutLinear(50, 19, config=config)
        for layer, x in [(conv, torch.randn(5, 4, 9, 7)), (linear, torch.randn(90, 50))]:
            assert layer.signs is not None
            layer.signs[:, ::2, :, 1] = 0
            layer.eval()  # ends of terms stay: what lies beyond saturates
            check_gradients(layer, 2 * x)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("temperature", [0.002, 0.05, 0.2, 2.0, 50.0])
@pytest.mark.parametrize("input_format", [None, "int8"])
def test_gradients_at_every_temperature(temperature: float, input_format: str | None) -> None:
    # When it is low, nodes lie so many of its units apart that they share no exponential.
    torch.manual_seed(27)
    config = LayerConfig(input_format=input_format, temperature=temperature, codebook_width=4)
    check_gradients(HalutLinear(64, 19, config=config), torch.randn(300, 64))


@pytest.mark.usefixtures("forced")
def test_gradients_of_tables_that_are_not_kept_as_floats() -> None:
    torch.manual_seed(24)
    # More than 4 MB of them; the last quad has two codebooks, two tiles of positions.
    config = LayerConfig(codebook_width=1, temperature=0.7)
    check_gradients(HalutLinear(66, 1031, config=config), torch.randn(70, 66))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("by_pixel", [False, True])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"padding": 1}, (2, 8, 32, 32)),
        ({"stride": 2, "padding": (2, 1), "groups": 2}, (3, 8, 13, 20)),
        ({"kernel_size": (3, 1), "padding": (1, 0)}, (3, 8, 13, 1)),
        ({"kernel_size": 1, "stride": (1, 2)}, (3, 8, 13, 1)),
        ({"kernel_size": 1}, (2, 8, 6, 5)),
        ({"groups": 8, "padding": 1, "dilation": 2}, (2, 8, 9, 9)),
        ({"padding": 1, "padding_mode": "reflect"}, (2, 8, 5, 5)),
        ({"padding": 1}, (2, 8, 5, 300)),
        ({"padding": 1}, (19, 8, 3, 3)),  # several images are worked on together
        ({"padding": 1, "groups": 2}, (5, 8, 7, 7)),
    ],
)
def test_gradients_of_geometries(
    arguments: dict[str, Any], shape: tuple[int, ...], by_pixel: bool
) -> None:
    torch.manual_seed(17)
    given = {"in_channels": 8, "out_channels": 16, "kernel_size": 3} | arguments
    x = torch.randn(shape)
    if by_pixel:
        x = x.contiguous(memory_format=torch.channels_last)
    check_gradients(HalutConv2d(**given), x)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize(
    "formats",
    [
        {"relu": True},
        {"overflow": "wrap", "acc_bits": 9},
        {"output_format": "fp16", "relu": True},
        {"output_format": "int8"},
    ],
)
def test_gradients_of_output_stages(formats: dict[str, Any]) -> None:
    torch.manual_seed(18)
    layer = HalutConv2d(12, 6, 3, config=LayerConfig(input_format="int8", **formats))
    x = torch.randn(4, 12, 7, 8)
    if layer.output_range is not None:
        layer.learn_output_range(x)
        layer.eval()  # training moves the range
    check_gradients(layer, x)


def test_training_moves_the_output_range_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(19)
    layer = HalutLinear(40, 6, config=LayerConfig(input_format="int8", output_format="int8"))
    other, x = copy.deepcopy(layer), torch.randn(50, 40)
    for _ in range(3):
        layer(x)
    monkeypatch.setenv(library.VARIABLE, "off")
    for _ in range(3):
        other(x)
    assert layer.output_range is not None
    assert layer.output_range.isfinite().all()
    assert torch.equal(layer.output_range, other.output_range)


def test_gradients_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(20)
    monkeypatch.setattr(native, "_WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        check_gradients(HalutConv2d(8, 20, 3, padding=1), torch.randn(7, 8, 13, 31))
        check_gradients(HalutLinear(40, 6), torch.randn(900, 40))
    finally:
        torch.set_num_threads(before)


def test_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(21)
    run = native._train_backward

    def wrong(*given: Any) -> tuple[torch.Tensor, ...]:
        grad_x, *others = run(*given)
        grad_x[0, 7] += 1e-3 * grad_x.abs().max()
        return grad_x, *others

    monkeypatch.setattr(native, "_train_backward", wrong)
    with pytest.raises(AssertionError, match="not close"):
        check_gradients(HalutLinear(40, 6), torch.randn(90, 40))


def test_only_what_is_asked_for_has_a_gradient() -> None:
    layer, x = HalutLinear(40, 6), torch.randn(9, 40)
    layer.thresholds.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.thresholds.grad is None
    assert layer.lut.grad is not None and layer.lut.grad.any()
    for one in layer.parameters():
        one.requires_grad_(False)
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.any()


# What is kept.


def changed_by(change: Any, layer: HalutLayer, x: torch.Tensor) -> bool:
    """Say whether a change reaches the output, which must be that of a layer that kept nothing."""
    with torch.no_grad():
        before = layer(x)
        change()
        after, anew = layer(x), copy.deepcopy(layer)(x)
    assert torch.equal(after, anew)
    return not torch.equal(before, after)


def test_kept_tables_follow_the_parameters() -> None:
    torch.manual_seed(10)
    layer, x = HalutLinear(32, 6).eval(), torch.randn(50, 32)
    other = HalutLinear(32, 6)
    optimiser = torch.optim.SGD(layer.parameters(), lr=10.0)

    def step() -> None:
        with torch.enable_grad():
            layer(x).square().sum().backward()
        optimiser.step()

    assert changed_by(step, layer, x)
    assert changed_by(lambda: layer.load_state_dict(other.state_dict()), layer, x)
    for name in ("lut", "bias", "thresholds"):
        one = getattr(layer, name)
        assert changed_by(lambda one=one: one.add_(torch.randn_like(one)), layer, x)
        assert changed_by(lambda one=one: one.detach().add_(0.5), layer, x)
        assert changed_by(lambda one=one: setattr(one, "data", torch.randn_like(one)), layer, x)
        new = nn.Parameter(torch.randn_like(one))
        assert changed_by(lambda name=name, new=new: setattr(layer, name, new), layer, x)
    assert changed_by(lambda: layer.split_dims.copy_(layer.split_dims.flip(2)), layer, x)
    assert changed_by(lambda: layer.to(torch.bfloat16).float(), layer, x)
    assert changed_by(lambda: layer.set_formats(lut_bits=3), layer, x)
    assert not changed_by(lambda: None, layer, x)

    def write_unseen() -> None:
        layer.lut.data.add_(torch.randn_like(layer.lut))
        layer.forget()

    assert changed_by(write_unseen, layer, x)


def test_memory_that_is_used_again_is_not_taken_for_the_old() -> None:
    torch.manual_seed(11)
    layer, x = HalutLinear(32, 6).eval(), torch.randn(50, 32)
    seen = set()
    for turn in range(20):
        layer.lut.data = torch.full_like(layer.lut, float(turn))
        with torch.no_grad():
            out = layer(x)
        torch.testing.assert_close(out, torch.full_like(out, turn * layer.n_codebooks))
        seen.add(layer.lut.data_ptr())
    assert len(seen) < 20  # memory is used again here


def test_tables_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(12)
    layer, x = HalutLinear(32, 6).eval(), torch.randn(50, 32)
    made = []
    prepare = HalutLinear._prepare
    monkeypatch.setattr(HalutLinear, "_prepare", lambda self: made.append(1) or prepare(self))
    with torch.no_grad():
        for _ in range(3):
            layer(x)
        assert len(made) == 1
        with torch.inference_mode():
            layer(x)
        assert len(made) == 1
        layer.lut.mul_(2)
        layer(x)
    assert len(made) == 2


def test_copies_and_pickles_keep_nothing() -> None:
    torch.manual_seed(13)
    layer, x = HalutLinear(32, 6).eval(), torch.randn(50, 32)
    before = len(pickle.dumps(layer))
    with torch.no_grad():
        wanted = layer(x)
        assert len(pickle.dumps(layer)) - before < 200
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        for other in (
            copy.deepcopy(layer),
            copy.copy(layer),
            pickle.loads(pickle.dumps(layer)),
            torch.load(file, weights_only=False),
        ):
            assert torch.equal(other(x), wanted)
        other = copy.deepcopy(layer)
        other.lut.zero_()
        assert other(x).abs().max() < 1e-30
        assert torch.equal(layer(x), wanted)


# torch's rules.


@pytest.mark.parametrize("config", [LayerConfig(), summing(input_format="int8")])
def test_operators_keep_torchs_rules(config: LayerConfig) -> None:
    layer, x = HalutConv2d(3, 5, 3, config=config).eval(), torch.randn(2, 3, 6, 7)
    prepared = layer._prepared()
    given: list[Any] = []
    trained: list[Any] = []
    run = native.convolve
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(native, "convolve", lambda *inputs: given.append(inputs) or run(*inputs))
        layer(x)
        layer(x.contiguous(memory_format=torch.channels_last))
    with pytest.MonkeyPatch.context() as patch:
        train = native.train
        patch.setattr(native, "train", lambda *inputs: trained.append(inputs) or train(*inputs))
        layer(x.clone().requires_grad_())
        layer(x.contiguous(memory_format=torch.channels_last).requires_grad_())
    for inputs in trained:
        parts = [one.detach() if isinstance(one, torch.Tensor) else one for one in inputs]
        for place in (0, 3, 4, 8, 9):  # what it is differentiable in
            parts[place].requires_grad_()
        torch.library.opcheck(train, tuple(parts))
    for inputs in given:
        torch.library.opcheck(run, inputs)
    torch.library.opcheck(native.pack_tables, (torch.ones(1, 5, 3, 16),))
    torch.library.opcheck(packed_tables, (torch.randn(1, 5, 3, 16), 8, "column"))
    steps = torch.ones(prepared.dims.shape[:3])
    torch.library.opcheck(native.decisions, (prepared.thresholds, steps, steps, "int"))


@pytest.mark.filterwarnings("ignore")
def test_compiled_layers_give_the_same_bits() -> None:
    torch.manual_seed(14)
    torch.compiler.reset()  # graphs of one `forward` are counted, over all tests of a process
    for layer, x in (
        (HalutConv2d(3, 5, 3, padding=1), torch.randn(2, 3, 6, 7)),
        (HalutLinear(24, 5), torch.randn(9, 24)),
        (HalutConv2d(3, 5, 3, config=summing(input_format="int8")), torch.randn(2, 3, 6, 7)),
    ):
        layer.eval()
        with torch.no_grad():
            wanted = layer(x)
            compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
            same(compiled(x), wanted)
            layer.lut.mul_(1.7)
            same(compiled(x), layer(x))
            assert not torch.equal(layer(x), wanted)
        found, expected = gradients(compiled, x), gradients(layer, x)
        assert len(found) == 6
        for one, other in zip(found, expected, strict=True):
            if other is not None:  # the temperature's
                torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore")
def test_exported_layers_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(15)
    layer, x = HalutConv2d(3, 5, 3, padding=1).eval(), torch.randn(2, 3, 6, 7)
    with torch.no_grad():
        wanted = layer(x)
        program = torch.export.export(layer, (x,))
    monkeypatch.setenv(library.VARIABLE, "off")
    same(program.module()(x), wanted)


# Tables of a training step.


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("granularity", ["column", "table"])
@pytest.mark.parametrize(("lut_bits", "n_prototypes"), [(2, 2), (8, 16), (7, 4), (5, 64), (16, 16)])
def test_quantised_tables_are_those_of_torch(
    lut_bits: int, n_prototypes: int, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(22)
    lut = torch.randn(2, 37, 5, n_prototypes) * torch.logspace(-30, 20, 37)[:, None, None]
    lut[0, 3] = 1.5  # a constant column
    lut[1, 4, :, ::2] = -0.0
    for given in (lut, lut.transpose(1, 2), lut[:, :1]):
        found = quantize_tables(given, lut_bits, granularity)
        with monkeypatch.context() as context:
            context.setattr(native, "kernels", lambda: None)
            want = quantize_tables(given, lut_bits, granularity)
        for one, other in zip(found, want, strict=True):
            same(one.contiguous(), other.contiguous())
        if lut_bits <= 8 and n_prototypes <= 16:
            packed = packed_tables(given, lut_bits, granularity)
            assert torch.equal(packed[0], native.pack_tables(found[0]))
            same(packed[1], found[1])
            same(packed[2], found[2])
    assert native.quantised(lut, lut_bits, lambda span: span + 1) is not None
    lut[1, 36, 4, -1] = torch.nan
    assert native.quantised(lut, lut_bits, lambda span: span + 1) is None
