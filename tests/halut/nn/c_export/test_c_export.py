"""A network in C gives the bits that PyTorch gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from torch import Tensor, nn  # noqa: E402

from halut.errors import CheckFailed, HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear  # noqa: E402
from halut.nn.c_export import export as exporting  # noqa: E402
from halut.nn.c_export.export import MANIFEST, export_c  # noqa: E402
from tests.halut.nn.c_export.builds import make, passed  # noqa: E402
from tests.halut.nn.c_export.networks import (  # noqa: E402
    IMAGES,
    Branches,
    Pictures,
    Signals,
    bytes_out,
    config,
    converted,
    folded,
    images,
    made,
    mixed,
)

NETWORKS = {
    "int8": lambda: made(Branches),
    "int4 inputs, 4-bit tables": lambda: made(Branches, input_format="int4", lut_bits=4),
    "16-bit tables, K = 2": lambda: made(Branches, n_prototypes=2, lut_bits=16),
    "K = 64, ReLU": lambda: made(Branches, n_prototypes=64, relu=True),
    "fp16": lambda: made(Branches, input_format="fp16"),
    "bf16": lambda: made(Branches, input_format="bf16", lut_bits=12),
    "fp8_e4m3": lambda: made(Branches, input_format="fp8_e4m3"),
    "fp8_e5m2": lambda: made(Branches, input_format="fp8_e5m2"),
    "sums of 3": lambda: made(Branches, encoder="sums", terms=3, n_prototypes=8),
    "sums of int4, 4-bit tables": lambda: made(
        Branches, encoder="sums", input_format="int4", lut_bits=4, layout="kn2col"
    ),
    "nodes": lambda: made(Branches, encoder="node", n_prototypes=8),
    "words out": bytes_out,
    "words out, ReLU": lambda: bytes_out(relu=True),
    "folded": folded,
    "folded, 4-bit tables": lambda: folded(lut_bits=4),
    "folded, nodes": lambda: folded(encoder="node", n_prototypes=8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_steps_give_the_bits_of_pytorch(name: str, tmp_path: Path) -> None:
    done = export_c(NETWORKS[name](), tmp_path, images(40), measure_code=False)
    assert done.defined and done.identical == done.inputs == 40
    assert done.looked_up == 4 and done.exact == 0


@pytest.mark.needs("cc", "make")
@pytest.mark.parametrize(
    "name", ["int8", "16-bit tables, K = 2", "words out", "folded", "folded, nodes"]
)
def test_c_gives_the_bits_of_pytorch(name: str, tmp_path: Path) -> None:
    export_c(NETWORKS[name](), tmp_path, images(40), measure_code=False)
    n_outputs = 400 if "folded" in name else 280
    printed = passed(tmp_path, "sanitise", "OPTIMISE=-O1")
    assert printed == f"passed: {n_outputs} outputs of 40 inputs equal\n"


@pytest.mark.needs("cc", "make")
@pytest.mark.parametrize("lut_bits", [4, 8])
def test_sums_of_many_codebooks_hold_the_largest_entries(lut_bits: int, tmp_path: Path) -> None:
    """More codebooks than bytes, and halves of words, of packed sums hold without a pause."""
    torch.manual_seed(9)
    n_codebooks = 530
    formats = config(lut_bits=lut_bits, codebook_width=2, n_prototypes=4)
    layer = HalutLinear(2 * n_codebooks, 28 if lut_bits == 8 else 24, config=formats)
    with torch.no_grad():
        layer.lut.copy_(torch.where(torch.rand_like(layer.lut) < 0.5, -1.0, 1.0))
        layer.lut[:, ::2, :, 1:] = 1.0  # for all codes but one the largest entry
        layer.lut[:, ::2, :, 0] = -1.0
    rows = torch.randn(20, 2 * n_codebooks)
    rows[0], rows[1] = 100.0, -100.0  # all right, all left
    most = 2 ** (lut_bits - 1)
    sums = layer.accumulators(rows[:2])[0, :, ::2]
    assert (sums == torch.tensor([[(most - 1) * n_codebooks], [-most * n_codebooks]])).all()
    export_c(nn.Sequential(layer).eval(), tmp_path, rows, measure_code=False)
    called = re.findall(r"halut_look_up_f32_(\w+)\(", (tmp_path / "network.c").read_text())
    assert called == [{4: "i4", 8: "packed"}[lut_bits]]
    passed(tmp_path, "sanitise", "OPTIMISE=-O1")


@pytest.mark.needs("cc", "make")
def test_exact_layers_add_up_in_the_order_that_is_stated(tmp_path: Path) -> None:
    done = export_c(mixed(), tmp_path, images(40), measure_code=False)
    assert not done.defined and (done.looked_up, done.exact) == (1, 3)
    assert 0 < done.largest_step_difference < 1e-6 and done.max_difference < 1e-5
    passed(tmp_path, "OPTIMISE=-O2")


def test_exact_layers_are_near_those_of_float64(tmp_path: Path) -> None:
    """PyTorch's own order differs, but not by more than roundings."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(336, 5)).eval()
    export_c(model, tmp_path, images(10), measure_code=False)
    with torch.no_grad():
        wanted = model.double()(images(10).double()).numpy()
    given = _outputs(tmp_path).reshape(10, 5)
    assert np.abs(given - wanted).max() < 1e-5


def _outputs(folder: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Read the expected outputs of a test vector."""
    text = (folder / "vector.c").read_text().partition("vector_outputs")[2].partition("=")[2]
    words = [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", text)]
    return np.array(words, dtype=np.uint32).view(np.float32)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        export_c(made(Branches), tmp_path / name, images(3), measure_code=False)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"Makefile", "network.c", "network.h", "halut_layers.c", "vector.c", MANIFEST} <= set(
        files
    )
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# What must be found


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export_c(folded(), tmp_path, images(4), measure_code=False)
    return tmp_path


def _change_number(folder: Path, array: str, file: str = "network.c") -> None:
    """Change the lowest bit of one number in the middle of an array."""
    path = folder / file
    head, name, rest = path.read_text().partition(f" {array}[")
    assert name
    shape, begins, rest = rest.partition("= {")
    body, end, tail = rest.partition("}")
    numbers = list(re.finditer(r"0x[0-9a-f]+|-?\d+", body))
    middle = numbers[len(numbers) // 2]
    changed = body[: middle.start()] + str(int(middle[0], 0) ^ 1) + body[middle.end() :]
    path.write_text(head + name + shape + begins + changed + end + tail)


@pytest.mark.needs("cc", "make")
@pytest.mark.parametrize("array", ["_0_table", "_6_thresholds", "_3_read_offset"])
def test_a_corrupted_table_fails_the_self_test(exported: Path, array: str) -> None:
    _change_number(exported, array)
    done = make(exported, "OPTIMISE=-O0")
    assert done.returncode != 0
    assert done.stdout == "FAILED: tables must have the check sum that they were written with\n"


@pytest.mark.needs("cc", "make")
@pytest.mark.parametrize(("encoder", "file", "begin", "old", "new"), [
    ("sums", "encode_sums.h", "JOIN(encode_", "? word_of", "? 1 + word_of"),
    ("node", "encode.h", "JOIN(encode_nodes_", "> nodes[node]", "> nodes[node ^ 1]"),
])  # fmt: skip
def test_what_sums_and_nodes_compare_matters(
    encoder: str, file: str, begin: str, old: str, new: str, tmp_path: Path
) -> None:
    """Words that are one too high, and thresholds of other nodes, are seen."""
    torch.manual_seed(3)
    layer = HalutLinear(40, 8, config=config(encoder=encoder, n_prototypes=8))
    export_c(nn.Sequential(layer).eval(), tmp_path, torch.randn(300, 40), measure_code=False)
    passed(tmp_path, "OPTIMISE=-O2")
    path = tmp_path / file
    before, _, behind = path.read_text().partition(begin)
    assert old in behind
    path.write_text(before + begin + behind.replace(old, new, 1))
    done = make(tmp_path)
    assert done.returncode and "FAILED" in done.stdout


@pytest.mark.needs("cc", "make")
def test_wrong_outputs_fail_the_self_test(exported: Path) -> None:
    """Even where the check sum of tables is right, and for one bit of one output."""
    _change_number(exported, "vector_outputs", "vector.c")
    done = make(exported, "OPTIMISE=-O0")
    assert done.returncode != 0 and done.stdout == "FAILED: 1 outputs differ\n"


@pytest.mark.needs("cc", "make")
def test_a_table_that_is_looked_up_matters_to_the_outputs(exported: Path) -> None:
    path = exported / "selftest.c"
    text = path.read_text()
    assert text.count("network_check_tables() != 0") == 1
    path.write_text(text.replace("network_check_tables() != 0", "0"))
    source = exported / "network.c"
    head, name, rest = source.read_text().partition("_10_table[")
    assert name
    body, end, tail = rest.partition("}")
    size, begins, numbers = body.partition("= {")
    changed = re.sub(r"-?\d+", lambda word: str(int(word[0]) ^ 1), numbers)
    source.write_text(head + name + size + begins + changed + end + tail)
    done = make(exported, "OPTIMISE=-O0")
    assert done.returncode != 0 and re.fullmatch(r"FAILED: \d+ outputs differ\n", done.stdout)


@pytest.mark.parametrize(("step", "name"), [(0, "first"), (3, "second"), (-1, "last")])
def test_steps_that_differ_from_pytorch_are_found(
    step: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def traced(model: nn.Module, example: Tensor) -> Any:
        network, graph = trace(model, example)
        network.steps[step].table //= 2
        return network, graph

    trace = exporting.trace
    monkeypatch.setattr(exporting, "trace", traced)
    with pytest.raises(CheckFailed, match=rf"the bits of PyTorch: {name} at \(0, .* differ\)"):
        export_c(made(Branches), tmp_path / "out", images(4), measure_code=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.needs("cc", "make")
@pytest.mark.parametrize("exact", ["float", "int8"])
@pytest.mark.parametrize(("network", "shape"), [(Signals, (64,)), (Pictures, (3, 11, 10))])
def test_signals_and_functions(
    network: Any, shape: tuple[int, ...], exact: str, tmp_path: Path
) -> None:
    inputs = torch.randn((300, *shape), generator=torch.Generator().manual_seed(4))
    model = converted(network, inputs)
    done = export_c(model, tmp_path, inputs[:40], exact=exact, measure_code=False)
    assert (done.looked_up, done.exact) == (2, 2 if network is Signals else 1)
    if exact == "float":
        assert done.same_class == 40 and done.largest_step_difference < 1e-5
    assert passed(tmp_path, "sanitise", "OPTIMISE=-O1").startswith("passed: 200 outputs of 40")


class _Ending(nn.Module):
    """A convolution of signals, and one function behind it."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.first(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.mean(1), r"mean must be of all positions of each channel in C \(mean\)"),
        (lambda x: x.mean(), r"mean must be of all positions"),
        (lambda x: x.mean(0), r"mean must be of all positions"),
        (lambda x: torch.nn.functional.dropout(x), r"dropout must be off in evaluation"),
        (lambda x: torch.nn.functional.linear(x, torch.ones(2, 6)), r"function must be one that C"),
        (lambda x: x.view(x.size(0), 2, -1), r"reshaping must make rows of features, or add axes"),
        (lambda x: x.reshape(-1, 4), r"reshaping must keep all values of each item in C"),
        (lambda x: x.select(2, 0), r"reshaping must keep all values of each item in C \(select\)"),
        (lambda x: torch.nn.functional.max_pool1d(x, 2, return_indices=True)[0],
         r"function must be one that C knows, not max_pool1d_with_indices"),
        (lambda x: torch.nn.functional.avg_pool1d(x, 2, ceil_mode=True), r"without padding and"),
        (lambda x: x * x.size(0), r"function must be one that C knows, not mul \(mul\)"),
    ],
)  # fmt: skip
def test_functions_that_c_has_not_are_refused(function: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=message) as caught:
        export_c(_Ending(function).eval(), tmp_path / "out", torch.randn(2, 3, 6))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# What users do wrong


def _with_activation(activation: nn.Module, **formats: Any) -> nn.Module:
    layer = HalutConv2d(3, 4, 3, config=config(**formats))
    return nn.Sequential(layer, activation).eval()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: _with_activation(nn.GELU()), r"module must be one that C knows, not GELU \(1\)"),
        (lambda: made(Branches, lut_bits=16, lut_format="fp16"),
         r"lut_format must be int in C, not fp16 \(first\)"),
        (lambda: made(Branches, output_format="fp16"),
         r"output_format must be raw or int8 in C, not fp16 \(first\)"),
        (lambda: _with_activation(nn.ReLU(), acc_bits=8, overflow="wrap"),
         r"overflow must be None in C, not wrap \(0\)"),
        (lambda: made(Branches, input_format=None), r"input_format must be set for hardware"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")).eval(),
         r'padding_mode must be "zeros" in C, not \'reflect\' \(0\)'),
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(4)).eval(), "must divide"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(20, 2)).eval(),
         r"linear layer must read rows of features in C \(flatten\) \(2\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Flatten(0)).eval(), "must keep all values of each"),
        (lambda: nn.Sequential(nn.Flatten()).eval(), "at least one layer"),
    ],
)  # fmt: skip
def test_what_c_cannot_do_is_refused_in_one_line(model: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=message) as caught:
        export_c(model(), tmp_path / "out", images(2), measure_code=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    for model in (made(Branches), folded()):
        export_c(model, tmp_path, images(2), measure_code=False)
        names = {path.name for path in tmp_path.iterdir()}
    assert "NETWORK_OUTPUTS 10 " in (tmp_path / "network.h").read_text()
    assert len(names) > 15


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"kind": "halut-network-manifest"}')
    with pytest.raises(HalutError, match="must be a folder of an earlier export to C"):
        export_c(made(Branches), tmp_path, images(2), measure_code=False)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [MANIFEST]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(0, *IMAGES), "inputs must be a tensor of shape"),
        (torch.full((1, *IMAGES), torch.nan), "inputs must be finite"),
        (torch.zeros(1, 4, 7, 6), "input must have shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Tensor, message: str, tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=message):
        export_c(made(Branches), tmp_path / "out", inputs, measure_code=False)


@pytest.mark.slow
@pytest.mark.needs("cc", "make")
def test_batch_norm_rounds_as_pytorch_does_without_fused_operations() -> None:
    """PyTorch's portable kernels round products and sums apart."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, __file__, "-k", "test_c_gives_the_bits_of_pytorch and int8"],
        env=os.environ | {"ATEN_CPU_CAPABILITY": "default"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
