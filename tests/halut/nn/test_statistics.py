"""Statistics are counts of what layers do; each number is checked against a literal count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from torch import nn  # noqa: E402

from halut.__main__ import main  # noqa: E402
from halut.cli import run  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig  # noqa: E402
from halut.nn.models import build  # noqa: E402
from halut.nn.statistics import collect, plot, table  # noqa: E402

CONFIG = LayerConfig(n_prototypes=4, input_format="int8", codebook_width=4)


def test_by_hand() -> None:
    layer = HalutLinear(3, 2, config=LayerConfig(n_prototypes=2, codebook_width=3, lut_bits=4,
                                                 input_format="int8"))  # fmt: skip
    with torch.no_grad():
        layer.split_dims[:] = 1
        layer.thresholds[:] = 0.5
        layer.lut[0, :, 0] = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    x = torch.zeros(8, 3)
    x[:, 1] = torch.tensor([0.0, 0, 0, 1, 1, 0, 0, 0])
    one = collect(nn.Sequential(layer), [x[:5], x[5:]], window=2)["0"]
    assert one.codes.tolist() == [[[6, 2]]] and one.n_rows == 8
    assert one.entropy[0, 0] == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))
    # Within the batches: 00011 and 000 have 3 + 2 repeats in 4 + 2 pairs; windows 00 01 | 00.
    assert one.repeats == pytest.approx(5 / 6)
    assert one.distinct == pytest.approx(4 / 3)
    assert (one.n_features, one.features_read, one.reads.tolist()) == (3, 1, [0, 1, 0])
    assert (one.accumulator_low, one.accumulator_high) == (-8, 7)
    assert (one.accumulator_bits, one.accumulator_bits_used) == (4, 4)


def test_counts_are_those_of_the_layers() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        HalutConv2d(4, 8, 3, groups=2, config=CONFIG),
        nn.ReLU(),
        nn.Flatten(),
        HalutLinear(128, 5, config=LayerConfig(n_prototypes=8, lut_bits=None)),
    )
    x = torch.randn(10, 4, 6, 6)
    model.train()
    found = collect(model, x.split(4), window=3)
    assert model.training and list(found) == ["0", "3"]
    one = found["0"]
    codes = model[0].codes(x).numpy()  # (G, N, C)
    assert one.n_rows == 160 and one.codes.shape == (2, codes.shape[2], 4)
    for group in range(2):
        for codebook in range(codes.shape[2]):
            wanted = np.bincount(codes[group, :, codebook], minlength=4)
            assert np.array_equal(one.codes[group, codebook], wanted)
    same, pairs, distinct = 0, 0, []
    for part in (codes[:, :64], codes[:, 64:128], codes[:, 128:]):
        same += (part[:, 1:] == part[:, :-1]).sum()
        pairs += part[:, 1:].size
        for begin in range(0, part.shape[1] - 2, 3):
            for column in part[:, begin : begin + 3].transpose(0, 2, 1).reshape(-1, 3):
                distinct.append(len(set(column.tolist())))
    assert one.repeats == pytest.approx(same / pairs)
    assert one.distinct == pytest.approx(np.mean(distinct))
    assert one.features_read == len(set(model[0].split_dims[0].flatten().tolist())) + len(
        set(model[0].split_dims[1].flatten().tolist())
    )
    assert one.accumulator_high == int(model[0].accumulators(x).max())
    assert found["3"].accumulator_low is None
    json.dumps([one.to_dict() for one in found.values()])
    assert "1x16" in table(found) and "2x4" in table(found)


def test_what_cannot_be_counted() -> None:
    model = nn.Sequential(HalutLinear(8, 8))
    with pytest.raises(HalutError, match="window must be an integer of at least 2, not 1"):
        collect(model, torch.zeros(4, 8), window=1)
    with pytest.raises(HalutError, match="at least one Halut layer"):
        collect(nn.Linear(8, 8), torch.zeros(4, 8))
    with pytest.raises(HalutError, match="at least one row"):
        collect(model, torch.zeros(0, 8))
    with pytest.raises(HalutError, match="at least one batch, not 0"):
        collect(model, [])
    with pytest.raises(HalutError, match="a tensor or batches, not NoneType"):
        collect(model, None)
    for use in (table, lambda none: plot(none, "codes.png")):
        with pytest.raises(HalutError, match="at least one layer, not none"):
            use({})


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    from halut.nn.network import save_network

    torch.manual_seed(2)
    kwargs = {"in_channels": 1, "width": 2, "image_size": 8}
    model = build("resnet9", **kwargs)
    model.layer2[0] = HalutConv2d(4, 8, 3, padding=1, bias=False, config=CONFIG)
    file = tmp_path / "network.pt"
    save_network(file, model, {"name": "resnet9", "kwargs": kwargs}, {"name": "digits", "seed": 0})
    out, picture = tmp_path / "stats.json", tmp_path / "codes.png"
    arguments = ["stats", str(file), "-o", str(out), "--images", "20"]
    if pytest.importorskip("matplotlib", reason="matplotlib is not installed"):
        arguments += ["--plot", str(picture)]
    assert run(main, arguments) == 0
    printed = capsys.readouterr().out
    assert "layer2.0" in printed and printed.splitlines()[-1] == f"wrote {out}, {picture}"
    facts = json.loads(out.read_text())
    assert facts["n_images"] == 20 and facts["layers"][0]["n_rows"] == 20 * 16
    assert sum(facts["layers"][0]["codes"][0][0]) == 320
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(main, ["stats", str(file), "--images", "0"]) == 2
    assert "--images must be at least 1" in capsys.readouterr().err
    with pytest.raises(HalutError, match="plot must be one of"):
        plot(collect(model, torch.randn(2, 1, 8, 8)), tmp_path / "codes.xyz")
