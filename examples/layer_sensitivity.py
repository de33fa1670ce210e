"""What a network loses by each of its layers alone, by the width of codebooks.

    pip install -e .[torch]; apt install dataset-fashion-mnist
    python examples/layer_sensitivity.py build/networks/fashion_mnist_resnet9_20k/base.pt

The network must have been trained on the first `n_train` images of a built-in data set. Layers are
learned from 2,048 of these, converted one at a time, and judged by the training images that follow,
which the network never saw. The table says which layers deserve narrower codebooks.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from halut.checks import one_of
from halut.cli import Parser, run
from halut.nn import LayerConfig, convert_
from halut.nn.data import load
from halut.nn.handlers import candidates
from halut.nn.network import load_data, load_network
from halut.nn.watch import call_counts, logits_of


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits of shape (n, n_classes) of images of shape (n, channels, height, width)."""
    with torch.no_grad():
        return torch.cat([logits_of(model, batch) for batch in x.split(500)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert layer by layer, and print the table."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path, help="file of the exact network")
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 1])
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME", help="these only (default: all inside)"
    )
    parser.add_argument("--images", type=int, default=10_000, help="to judge by")
    options = parser.parse_args(arguments)
    exact, header = load_network(options.network)
    seen = load_data(header)
    n_seen = len(seen.train_x)
    whole = load(header["data"]["name"], n_train=n_seen + options.images)

    def spread(values: Tensor) -> Tensor:
        return values.view(1, -1, 1, 1)

    # Normalised as the network was trained, not by the mean of more images.
    pixels = whole.train_x[n_seen:] * spread(whole.deviation) + spread(whole.mean)
    x, y = (pixels - spread(seen.mean)) / spread(seen.deviation), whole.train_y[n_seen:]
    chosen = torch.randperm(n_seen, generator=torch.Generator().manual_seed(0))[:2048]
    wanted = outputs(exact, x)
    inside = list(call_counts(exact, candidates(exact), x[:1]))[1:-1]
    layers = options.layers or inside
    for name in layers:
        one_of("layers", name, inside)
    print(f"exact: {(wanted.argmax(1) == y).double().mean():.2%} of {len(x):,} images")
    print("| layer | values per codebook | accuracy | same decisions | error at the output |")
    print("|---|---|---|---|---|")
    for name in layers:
        for width in options.widths:
            config = LayerConfig(codebook_width=width, input_format="int8", refine_passes=0)
            model = copy.deepcopy(exact)
            convert_(model, {name: config}, seen.train_x[chosen])
            found = outputs(model, x)
            right, same = (
                (found.argmax(1) == others).double().mean() for others in (y, wanted.argmax(1))
            )
            error = (found - wanted).square().mean() / wanted.var()
            print(f"| {name} | {width} | {right:.2%} | {same:.2%} | {error:.5f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
