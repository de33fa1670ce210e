"""What is learned before points are measured: programs, and their exact error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow.search.cluster import execute, in_words, progress
from flow.search.keys import Variant, learned_key
from flow.search.space import Data
from halut import golden
from halut.files import write_text
from halut.matmul import HalutMatmul
from halut.problems import relative_error
from halut.program import Program
from rtl_gen.config import AcceleratorConfig

__all__ = ["LearnJob", "Learned", "learn", "learn_all"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What learning gave for one configuration's numbers."""

    program: Program
    error: float  #: ``|AB - Y|**2 / |AB|**2`` of the bit-exact model on the test rows.
    #: Share of test rows whose largest column is the labelled one; None without labels.
    accuracy: float | None

    def save(self, path: Path) -> None:
        """Write ``<path>.npz``, then ``<path>.json``."""
        self.program.save(path.with_suffix(".npz"))
        write_text(
            path.with_suffix(".json"), json.dumps({"error": self.error, "accuracy": self.accuracy})
        )

    @classmethod
    def load(cls, path: Path) -> Learned | None:
        """What `save` wrote; None when it is not there, or not whole."""
        try:
            found = json.loads(path.with_suffix(".json").read_text())
            program = Program.load(path.with_suffix(".npz"))
            return cls(program=program, error=found["error"], accuracy=found["accuracy"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class LearnJob:
    """A product to learn with C codebooks and K prototypes, for several variants."""

    C: int
    K: int
    learning: Mapping[str, Any]
    variants: tuple[Variant, ...]


def learn(job: LearnJob, data: Data) -> dict[Variant, Learned] | str:
    """Learn once, quantise and judge per variant; or why that failed."""
    try:
        multiplier = HalutMatmul(C=job.C, K=job.K, **job.learning).learn_offline(data.train, data.B)
        exact = data.test.astype(np.float64) @ data.B
        found = {}
        for v in job.variants:
            program = multiplier.program(v.input_format, v.lut_bits, lut_format=v.lut_format)
            sums = golden.matmul(program, program.input_words(data.test), v.accumulation)
            product = golden.dequantize(program, sums)
            accuracy = None
            if data.labels is not None:
                accuracy = float(np.mean(product.argmax(axis=1) == data.labels))
            error = relative_error(product, exact)
            found[v] = Learned(program=program, error=error, accuracy=accuracy)
        return found
    except Exception as error:
        return in_words(error)


def learn_all(
    configs: Iterable[AcceleratorConfig],
    data: Data,
    learning: Mapping[str, Any],
    folder: Path,
    client: Any = None,
) -> dict[str, Learned | str]:
    """Learn what configurations need and `folder` does not hold yet.

    Parameters
    ----------
    learning : mapping
        Arguments of `HalutMatmul` besides C and K.
    folder : Path
        Every result is saved here at once.
    client : distributed.Client or None
        None: in this process.

    Returns
    -------
    dict of str to Learned or str
        By `learned_key`; a text says why learning failed.
    """
    found: dict[str, Learned | str] = {}
    wanted: dict[tuple[int, int], dict[Variant, str]] = {}
    for name, config in {learned_key(c, data, learning): c for c in configs}.items():
        kept = Learned.load(folder / name)
        if kept is not None:
            found[name] = kept
        else:
            names = wanted.setdefault((config.n_codebooks, config.n_prototypes), {})
            names[Variant.of(config)] = name
    jobs = [
        LearnJob(C, K, dict(learning), tuple(sorted(names, key=repr)))
        for (C, K), names in wanted.items()
    ]
    if jobs:
        log.info("learning %d pairs of C and K", len(jobs))
    done = execute(learn, [[job] for job in jobs], client, data)
    for job, result in progress(done, len(jobs), "products"):
        names = wanted[job.C, job.K]
        if isinstance(result, dict):
            for variant, learned in result.items():
                learned.save(folder / names[variant])
                found[names[variant]] = learned
        else:
            message = result if isinstance(result, str) else in_words(result)
            found |= dict.fromkeys(names.values(), message)
    return found
