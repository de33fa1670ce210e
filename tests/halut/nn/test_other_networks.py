"""Networks of other people, small and with random weights: convert, train a step, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutLayer, LayerConfig, convert_  # noqa: E402
from halut.nn.deviation import tensors_of  # noqa: E402

QUICK = LayerConfig(n_prototypes=4, refine_passes=0, ridge=1.0, max_rows=400)
SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip


def transformer(name: str, **settings: Any) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    family = name.removesuffix("Model").removesuffix("ForCausalLM").removesuffix("LMHead")
    try:
        cls = getattr(transformers, name)
        config = getattr(transformers, f"{family}Config")(**settings)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"transformers cannot import {name}: {error}")
    return cls(config)


def words(n: int, length: int = 10) -> Any:
    return torch.randint(2, 48, (n, length))


def t5() -> tuple[nn.Module, Any]:
    model = transformer(
        "T5Model", vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        use_cache=False,
    )  # fmt: skip
    return model, {"input_ids": words(8, 12), "decoder_input_ids": words(8, 6)}


def vit() -> tuple[nn.Module, Any]:
    model = transformer("ViTModel", image_size=16, patch_size=4, **SMALL)
    return model, {"pixel_values": torch.randn(20, 3, 16, 16)}


def clip() -> tuple[nn.Module, Any]:
    text = SMALL | {
        "vocab_size": 50, "max_position_embeddings": 16, "bos_token_id": 48, "eos_token_id": 49,
        "pad_token_id": 1,
    }  # fmt: skip
    vision = SMALL | {"image_size": 16, "patch_size": 4}
    model = transformer("CLIPModel", text_config=text, vision_config=vision, projection_dim=8)
    return model, {"input_ids": words(20), "pixel_values": torch.randn(20, 3, 16, 16)}


def bert() -> tuple[nn.Module, Any]:
    model = transformer("BertModel", vocab_size=50, max_position_embeddings=16, **SMALL)
    return model, {"input_ids": words(20), "attention_mask": torch.ones(20, 10, dtype=torch.long)}


def llama() -> tuple[nn.Module, Any]:
    settings = SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = transformer("LlamaForCausalLM", vocab_size=50, use_cache=False, **settings)
    return model, {"input_ids": words(8)}


def gpt2() -> tuple[nn.Module, Any]:
    model = transformer(
        "GPT2LMHeadModel", n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=16,
        use_cache=False, bos_token_id=48, eos_token_id=49,
    )  # fmt: skip
    return model, {"input_ids": words(8)}


def timm_model(name: str, **settings: Any) -> Callable[[], tuple[nn.Module, Any]]:
    def make() -> tuple[nn.Module, Any]:
        timm = pytest.importorskip("timm", reason="timm is not installed (pip install timm)")
        model = timm.create_model(name, pretrained=False, num_classes=5, **settings)
        return model, torch.randn(20, 3, 32, 32)

    return make


class UNet(nn.Module):
    """Two levels, transposed convolutions on the way up, features joined across."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.bottom = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        across = self.down(x)
        return self.out(torch.cat([across, self.up(self.bottom(self.pool(across)))], dim=1))


def u_net() -> tuple[nn.Module, Any]:
    return UNet(), torch.randn(6, 1, 12, 12)


def audio() -> tuple[nn.Module, Any]:
    """Strided and dilated convolutions over samples, as in keyword spotting."""
    model = nn.Sequential(
        nn.Conv1d(1, 8, 16, stride=4), nn.BatchNorm1d(8), nn.ReLU(),
        nn.Conv1d(8, 8, 3, padding="same", dilation=2, groups=2), nn.GroupNorm(2, 8), nn.ReLU(),
        nn.Conv1d(8, 16, 3, stride=2, padding=1), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(16, 4),
    )  # fmt: skip
    return model, torch.randn(24, 1, 200)


NETWORKS: dict[str, tuple[Callable[[], tuple[nn.Module, Any]], int]] = {
    # what makes it, and how many layers are converted: all that it has
    "t5": (t5, 16),
    "vit": (vit, 8),
    "clip": (clip, 15),
    "bert": (bert, 7),
    "llama": (llama, 8),
    "gpt2": (gpt2, 5),
    "u-net": (u_net, 4),
    "audio": (audio, 4),
    "timm resnet": (timm_model("resnet10t", zero_init_last=False), 15),
    "timm vit": (
        timm_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1, embed_dim=24,
                   num_heads=3), 6,
    ),
    "timm convnext": (
        timm_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)), 17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_convert_train_export(name: str) -> None:
    torch.manual_seed(0)
    make, n_layers = NETWORKS[name]
    model, batch = make()
    report = convert_(model.eval(), QUICK, [batch])
    assert len(report.converted) == n_layers, str(report)
    assert all(row.converted for row in report.rows), str(report)

    named = batch if isinstance(batch, dict) else None
    given = () if named else (batch,)

    def call(module: nn.Module) -> list[torch.Tensor]:
        return tensors_of(module(*given, **(named or {})))

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.stack([one.square().mean() for one in call(model)]).sum().backward()
    layers = [part for part in model.modules() if isinstance(part, HalutLayer)]
    assert len(layers) == n_layers
    assert all(layer.lut.grad is not None and layer.lut.grad.any() for layer in layers)
    optimizer.step()

    with torch.no_grad():
        program = torch.export.export(model, given, named, strict=False)
        for found, wanted in zip(call(program.module()), call(model), strict=True):
            assert torch.equal(found, wanted)


def test_too_few_rows_name_the_layer() -> None:
    model, batch = vit()
    with pytest.raises(HalutError, match=r"not 8 \(layer pooler.dense\)"):
        convert_(model.eval(), QUICK, {"pixel_values": batch["pixel_values"][:8]})
