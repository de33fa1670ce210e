"""What a long computation shows: progress bars on a terminal, scalars for TensorBoard, the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["epochs_shown", "scalars", "shown"]

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")


def shown(items: list[_Item], what: str, unit: str, progress: bool) -> Iterable[_Item]:
    """Return items that show their progress where it is asked for, on a terminal only."""
    if not progress or not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=what, unit=unit, leave=False)


@contextmanager
def scalars(folder: Path, step: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what writes an epoch's numbers for TensorBoard; those after `step` are replaced."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.warning("no scalars for TensorBoard: it is not installed (pip install -e .[torch])")
        yield lambda _: None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def write(entry: dict[str, Any]) -> None:
            for key in ("loss", "train_accuracy", f"{_measured(entry)}_accuracy", "lr"):
                writer.add_scalar(key, entry[key], entry["step"])

        yield write


def _measured(entry: dict[str, Any]) -> str:
    """Return the part of the data that an epoch was measured on."""
    return "validation" if "validation_accuracy" in entry else "test"


@contextmanager
def epochs_shown(done: int, total: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what shows an epoch: a progress bar on a terminal, else the log."""
    if not sys.stderr.isatty():
        yield lambda entry: _log.info(
            "%s, epoch %d: loss %.4f, %s accuracy %.2f %%",
            entry["stage"],
            entry["epoch"],
            entry["loss"],
            _measured(entry),
            100 * entry[f"{_measured(entry)}_accuracy"],
        )
        return
    from tqdm import tqdm

    with tqdm(total=total, initial=done, unit="epoch") as bar:

        def show(entry: dict[str, Any]) -> None:
            bar.set_description(entry["stage"], refresh=False)
            bar.set_postfix_str(
                f"loss {entry['loss']:.3f}, {_measured(entry)} "
                f"{100 * entry[f'{_measured(entry)}_accuracy']:.1f} %"
            )
            bar.update()

        yield show
