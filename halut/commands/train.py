"""``python -m halut train``: carry out a training recipe."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any


def add_verb(verbs: Any) -> None:
    """Add ``train`` to the command line."""
    verb = verbs.add_parser(
        "train",
        help="train a network, replace its layers and train on, by a recipe",
        description="Train a network, replace its layers by looked-up ones and train on, by a "
        "recipe (configs/networks/*.yaml). An interrupted run goes on where it was; torchrun runs "
        "it in several processes.",
    )
    add = verb.add_argument
    add("recipe", metavar="RECIPE", help="recipe (.yaml)")
    add("-o", "--output", metavar="DIR",
        help="folder for networks, checkpoint, history and scalars "
        "(default: build/networks/<name of the recipe>)")  # fmt: skip
    add("--root", metavar="DIR", help="folder of the data set (default: build/data)")
    add("--resume", action="store_true",
        help="fail when there is no run to go on with (default: begin one)")  # fmt: skip
    add("--exact", action="store_true",
        help="replace nothing, and train the exact network for as many epochs in all, to compare "
        "with (default folder: build/networks/<name>_exact)")  # fmt: skip
    add("--base", metavar="DIR",
        help="begin with the exact network of another run that trained it by the same settings "
        "(default: train it)")  # fmt: skip
    add("--seed", type=int, metavar="N", help="another seed (default: the recipe's)")
    add("--device", metavar="X",
        help="as torch names it (default: cuda when there is one, else cpu)")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="say each epoch")
    verb.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from halut.nn import need_torch

    need_torch()
    import dataclasses

    from halut.nn.recipe import Recipe
    from halut.nn.train import NETWORK, train

    if options.verbose:
        logging.getLogger("halut").setLevel(logging.INFO)
    recipe = Recipe.from_yaml(options.recipe)
    if options.seed is not None:
        recipe = dataclasses.replace(recipe, seed=options.seed)
    default = Path("build/networks") / f"{recipe.name}{'_exact' if options.exact else ''}"
    output = Path(options.output or default)
    summary = train(
        recipe, output, root=options.root, device=options.device, resume=options.resume,
        exact=options.exact, base=options.base,
    )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return 0  # the first process of torchrun speaks for all
    width = max(len(stage["name"]) for stage in summary["stages"])
    for stage in summary["stages"]:
        error = "".join(f"  layer error {one:.4f}" for one in stage["layer_errors"].values())
        print(
            f"{stage['name']:{width}}  {stage['epochs']:4} epochs"
            f"  test accuracy {100 * stage['test_accuracy']:6.2f} %{error}"
        )
    if not summary["layers"]:
        print(f"seconds           {summary['seconds']:.0f}")
        print(f"wrote {output / NETWORK}")
        return 0
    change = 100 * (summary["final_accuracy"] - summary["base_accuracy"])
    print(f"change            {change:+.2f} points on {summary['n_test']} images")
    print(f"tables            {summary['table_bytes']} bytes")
    print(f"seconds           {summary['seconds']:.0f}")
    print(f"wrote {output / NETWORK}")
    return 0
