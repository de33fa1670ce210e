"""Looked-up layers under vmap, checkpoints and torch.fx: bits and gradients as without."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import fx, nn  # noqa: E402
from torch.func import functional_call, grad, vmap  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import LayerConfig, convert_  # noqa: E402

FORMATS = {
    "8-bit tables": {},
    "float tables": {"lut_bits": None},
    "INT8 inputs": {"input_format": "int8"},
    "half floats": {"input_format": "fp16", "lut_bits": 16, "lut_format": "fp16"},
    "saturating": {"input_format": "int8", "acc_bits": 8, "overflow": "saturate"},
    "byte outputs": {"input_format": "int8", "output_format": "int8"},
    "half outputs": {"input_format": "bf16", "output_format": "fp16", "relu": True},
}


def network(fields) -> nn.Module:
    """Return a converted network of several layers, in evaluation mode."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    convert_(model, LayerConfig(n_prototypes=4, **fields), torch.randn(64, 2, 4, 4))
    return model.eval()


@pytest.mark.parametrize("fields", FORMATS.values(), ids=FORMATS)
def test_vmap(fields):
    torch.manual_seed(0)
    model = network(fields)
    x = torch.randn(64, 2, 4, 4)
    items = x[:3]
    alone = torch.cat([model(one[None]) for one in items])
    assert torch.equal(vmap(model)(items[:, None])[:, 0], alone)

    parameters = {name: one.detach() for name, one in model.named_parameters()}

    def loss(values, one):
        return functional_call(model, values, (one[None],)).square().sum()

    per_item = vmap(grad(loss), in_dims=(None, 0))(parameters, items)
    for index, one in enumerate(items):
        for name, wanted in grad(loss)(parameters, one).items():
            assert torch.allclose(per_item[name][index], wanted, rtol=1e-5, atol=1e-6), name
    assert per_item["0.lut"][0].any() and not torch.equal(*per_item["0.lut"][:2])

    # Parameters of several networks at once.
    several = {name: torch.stack([one, 1.5 * one]) for name, one in parameters.items()}
    found = vmap(lambda values: functional_call(model, values, (items,)))(several)
    for index in range(2):
        values = {name: one[index] for name, one in several.items()}
        assert torch.equal(found[index], functional_call(model, values, (items,)))
    assert not torch.equal(found[0], found[1])


OTHER_ENCODERS = {
    "sums": {"encoder": "sums", "input_format": "int8"},
    "nodes": {"encoder": "node", "input_format": "int8"},
    "centroids": {"encoder": "centroid"},
}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    "fields", (FORMATS | OTHER_ENCODERS).values(), ids=FORMATS | OTHER_ENCODERS
)
def test_checkpoint(fields, reentrant):
    torch.manual_seed(0)
    model = network(fields)  # in training, ranges would follow both passes, as batch norm's do
    found = []
    for checkpointed in (False, True):
        x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        model.zero_grad()
        y = checkpoint(model, x, use_reentrant=reentrant) if checkpointed else model(x)
        y.square().sum().backward()
        found.append([x.grad, *(one.grad for one in model.parameters() if one.grad is not None)])
    assert len(found[0]) == len(found[1]) > 1
    assert found[0][0].any()
    for without, with_checkpoint in zip(*found, strict=True):
        assert torch.equal(without, with_checkpoint)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        items = self.convolution(x).flatten(2).transpose(1, 2)
        attended, _ = self.attention(items, items, value=items)
        return self.last(attended)


def test_symbolic_trace():
    # What others trace keeps looked-up layers whole, as it keeps torch's own.
    torch.manual_seed(0)
    x = torch.randn(64, 2, 4, 4)
    model = Attending()
    convert_(model, LayerConfig(n_prototypes=4), x)
    for mode in (True, False):
        model.train(mode)
        traced = fx.symbolic_trace(model)
        calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
        assert calls == ["convolution", "attention", "last"]
        assert torch.equal(traced(x), model(x))
    with pytest.raises(HalutError, match=r"not a bare HalutConv2d$"):
        fx.symbolic_trace(model.convolution)
