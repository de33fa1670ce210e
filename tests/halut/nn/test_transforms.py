"""Looked-up layers under `torch.func.vmap`: bits of one item after the other, and its gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402
from torch.func import functional_call, grad, vmap  # noqa: E402

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


@pytest.mark.parametrize("fields", FORMATS.values(), ids=FORMATS)
def test_vmap(fields):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x = torch.randn(64, 2, 4, 4)
    convert_(model, LayerConfig(n_prototypes=4, **fields), x)
    model.eval()
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
