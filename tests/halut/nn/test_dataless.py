"""Learning without data: what batch norms give, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.__main__ import main  # noqa: E402
from halut.cli import run  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import LayerConfig  # noqa: E402
from halut.nn.dataless import drawn, study  # noqa: E402


def network() -> nn.Sequential:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.ReLU(), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    with torch.no_grad():
        for norm in (model[1], model[4]):
            norm.weight.uniform_(-2, 2)
            norm.bias.uniform_(-1, 1)
    model(3 + 2 * torch.randn(200, 1, 8, 8))  # running mean and variance
    return model.eval()


@pytest.mark.parametrize("source", ["noise", "independent"])
def test_what_batch_norms_guarantee(source: str) -> None:
    model = network()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(500, 1, 8, 8)
    with torch.no_grad(), drawn(model, source, 3):
        output = model[:2](x)
        assert torch.equal(model[:2](x), output) == (source == "noise")
    torch.testing.assert_close(output.mean((0, 2, 3)), model[1].bias, rtol=0, atol=0.05)
    torch.testing.assert_close(output.std((0, 2, 3)), model[1].weight.abs(), rtol=0.03, atol=0)
    neighbours = output - output.mean((0, 2, 3), keepdim=True)
    correlated = (neighbours[..., 1:] * neighbours[..., :-1]).mean((0, 2, 3)).abs()
    if source == "independent":
        assert (correlated < 0.05 * model[1].weight.square() + 1e-3).all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    assert not model[1]._forward_hooks


def test_study() -> None:
    model = network()
    x = 3 + 2 * torch.randn(80, 1, 8, 8)
    labels = model(x).argmax(dim=1)
    config = LayerConfig(n_prototypes=4, input_format="int8", refine_passes=0)
    found = study(model, x[:40], x[40:], labels[40:], config)
    assert [row.name for row in found.rows] == ["0", "3", "7"]
    assert [row.normed for row in found.rows] == [False, True, True]
    assert found.accuracy["exact"] == 1 and set(found.accuracy) > {"data", "noise"}
    for row in found.rows[1:]:
        assert 0 < row.errors["data"] < row.errors["independent"]
        for source, error in row.tables_refitted.items():
            assert error <= row.errors[source] + 1e-6
    assert "no batch norm" in str(found).splitlines()[1]
    assert isinstance(model[3], nn.Conv2d)


def test_what_cannot_be_studied() -> None:
    x, labels = torch.randn(40, 6), torch.zeros(40)
    with pytest.raises(HalutError, match="model must have a batch norm to learn without data"):
        study(nn.Sequential(nn.Linear(6, 2)), x, x, labels, LayerConfig())
    with pytest.raises(HalutError, match="at least one layer to replace, not none"):
        study(nn.Sequential(nn.BatchNorm1d(6)), x, x, labels, LayerConfig())


def test_command_line_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main, ["dataless", str(tmp_path / "n.pt"), "--calibration", "1"]) == 2
    assert "--calibration must be an integer of at least 2, not 1" in capsys.readouterr().err
