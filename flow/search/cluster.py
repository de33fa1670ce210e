"""Where tasks run: in this process, or on a Dask cluster, which shares no files with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flow.run.sources import sources_hash
from halut.errors import HalutError

__all__ = ["add_cluster", "check_cluster", "connected", "execute", "in_words", "progress"]


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options of where points are measured."""
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="measure on the Dask cluster of this scheduler (default: on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N",
        help="processes on this machine; 0 for this one only",
    )  # fmt: skip


def check_cluster(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if arguments.scheduler is not None and arguments.workers:
        raise HalutError("--workers must not be given with --scheduler")
    if not 0 <= arguments.workers <= 1024:
        raise HalutError(f"--workers must be an integer in [0, 1024], not {arguments.workers}")


@contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A Dask client of a running cluster, or of one of `workers` local processes; or None.

    Parameters
    ----------
    scheduler : str or None
        Address of a scheduler.
    workers : int
        Without a scheduler: local processes of one thread each; 0 for no cluster at all.

    Raises
    ------
    HalutError
        When there is no scheduler at the address, its workers have several threads or other code.
    """
    if scheduler is None and not workers:
        yield None
        return
    try:
        import dask

        # Comings and goings of workers are no news; read when distributed is imported.
        dask.config.set({"logging": {"distributed": "error"}})
        from distributed import Client, LocalCluster
    except ImportError:
        raise HalutError(
            "Dask must be installed for --scheduler and --workers: pip install distributed "
            "(or pip install -e .[flow])"
        ) from None
    if scheduler is None:
        # Synthesis and simulation are child processes, whose memory Dask does not count. Workers
        # that were silent because the machine slept are still there.
        settings = {
            "temporary-directory": str(Path("build").resolve()),
            "distributed.scheduler.worker-ttl": None,
        }
        with (
            dask.config.set(settings),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0"
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=5)
    except (OSError, ValueError, TypeError):
        raise HalutError(
            f"--scheduler must be the address of a running Dask scheduler, not {scheduler!r}"
        ) from None
    with client:
        found = client.scheduler_info(n_workers=-1)["workers"]
        if not found:
            raise HalutError(f"the scheduler must have workers, not none ({scheduler})")
        threads = max(worker["nthreads"] for worker in found.values())
        if threads > 1:
            raise HalutError(
                f"workers must have one thread each (dask worker --nthreads 1), not {threads} "
                f"({scheduler})"
            )
        for address, theirs in client.run(sources_hash, on_error="return").items():
            if theirs != sources_hash():
                raise HalutError(f"workers must run this version's code, unlike {address}")
        yield client


def execute(
    task: Callable[..., Any], chains: Iterable[Sequence[Any]], client: Any, *shared: Any
) -> Iterator[tuple[Any, Any]]:
    """Run tasks; jobs of a chain one after the other. Yields (job, result or exception)."""
    if client is None:
        for chain in chains:
            for job in chain:
                yield job, task(job, *shared)
        return
    from distributed import as_completed

    spread = [client.scatter(item, broadcast=True) for item in shared]
    waiting = {}

    def submit(rest: Iterator[Any]) -> list[Any]:
        for job in rest:
            future = client.submit(task, job, *spread, pure=False)
            waiting[future.key] = (job, rest)
            return [future]
        return []

    done = as_completed([future for chain in chains for future in submit(iter(chain))])
    for future in done:
        job, rest = waiting.pop(future.key)
        done.update(submit(rest))
        error = future.exception()
        yield job, error if error is not None else future.result()


def progress(items: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    """A bar on a terminal; log lines are the caller's elsewhere."""
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc=what, unit=what.rstrip("s"))


def in_words(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, HalutError) else f"{type(error).__name__}: {text}"
