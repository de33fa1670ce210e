"""Programs of `torch.export`: products are layers again, under their names."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import LayerConfig, convert_  # noqa: E402
from halut.nn.interchange.exported import read_pt2  # noqa: E402
from halut.nn.models import build  # noqa: E402


class Shared(nn.Module):
    """One layer twice, a product with a computed weight, "same" padding, one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(8, 8)
        self.line = nn.Conv1d(1, 3, 3, padding="same")

    def forward(self, x):
        x = self.twice(torch.relu(self.twice(x)))
        y = nn.functional.linear(x, 0.5 * self.twice.weight)
        return self.line(y[:, None]).mean(2)


NETWORKS = {
    "resnet9": (lambda: build("resnet9", width=4, in_channels=1), (1, 16, 16), 9),
    "resnet20": (lambda: build("resnet20", width=4), (3, 32, 32), 20),
    "shared": (Shared, (8,), None),
}


def save(model, path, *shape) -> None:
    example = (torch.randn(2, *shape),)
    program = torch.export.export(model, example, dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, path)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_is_a_network_again(tmp_path, name) -> None:
    make, shape, n_layers = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    save(model, tmp_path / "net.pt2", *shape)
    network, x = read_pt2(tmp_path / "net.pt2"), torch.randn(5, *shape)
    with torch.no_grad():
        assert torch.equal(network(x), model(x))
    network.train()(x).sum().backward()
    if n_layers is not None:
        names = {n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        assert {
            n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
        } == names
        report = convert_(network, LayerConfig(n_prototypes=4), torch.randn(40, *shape))
        assert len(report.converted) == n_layers
    else:  # the layer that is called twice is one
        assert sum(isinstance(m, nn.Linear) for m in network.modules()) == 1


def test_wrong_files(tmp_path) -> None:
    with pytest.raises(HalutError, match=r"network must be readable: .*none\.pt2"):
        read_pt2(tmp_path / "none.pt2")
    (tmp_path / "bad.pt2").write_bytes(b"no program")
    with pytest.raises(HalutError, match=r"must be a program of torch\.export .*bad\.pt2"):
        read_pt2(tmp_path / "bad.pt2")
