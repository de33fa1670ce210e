"""Sweeps: real ones of a tiny space without a library, and the rules with made-up results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import flow.search.learning
import flow.search.points
import flow.search.sweep
from flow.__main__ import main
from flow.figures.metrics import Metrics
from flow.search.model import Estimate, LeftOut, Model
from flow.search.points import Row
from flow.search.prune import prune
from flow.search.results import VOLATILE, read_results
from flow.search.space import Prune, Space, SpacePoint
from flow.search.sweep import Sweep
from halut.cli import run
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig

ROOT = Path(__file__).parents[3]
TINY = {
    "version": 1,
    "name": "tiny",
    "data": {"a": "a.npy", "b": "b.npy"},
    "base": {"encoder": "pipelined", "input_format": "int8", "n_prototypes": 2},
    "axes": {"n_codebooks": [1, 2, 3], "parallel_codebooks": [1, 2]},
}


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    """Three valid points, of C = 1 and 2, and three invalid ones."""
    folder = tmp_path_factory.mktemp("space")
    rng = np.random.default_rng(7)
    np.save(folder / "a.npy", rng.standard_normal((100, 2)) @ rng.standard_normal((2, 4)))
    np.save(folder / "b.npy", rng.standard_normal((4, 2)))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder / "tiny.yaml"


def _need(*names: str) -> None:
    for name in names:
        pytest.importorskip(name, reason=f"{name} is not installed (pip install -e .[flow])")


def _sweep(space: Path, build: Path, *more: str) -> list[dict]:
    assert run(main, ["sweep", str(space), "--build", str(build), *more]) == 0
    rows = read_results(build / "tiny" / "results.parquet")
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


@pytest.fixture(scope="module")
def alone(space, tmp_path_factory) -> tuple[Path, list[dict]]:
    """The sweep in this process: its folder, and its rows."""
    _need("pyosys", "pyarrow")
    build = tmp_path_factory.mktemp("alone")
    return build, _sweep(space, build)


@pytest.mark.flow
def test_a_sweep(alone):
    _, rows = alone
    assert [(row["n_codebooks"], row["parallel_codebooks"], row["status"]) for row in rows] == [
        (1, 1, "measured"), (1, 2, "skipped"), (2, 1, "measured"), (2, 2, "measured"),
        (3, 1, "skipped"), (3, 2, "skipped"),
    ]  # fmt: skip
    assert rows[1]["message"] == "parallel_codebooks must be an integer in [1, 1], not 2"
    assert "n_codebooks must divide the columns of A, 4, " in rows[4]["message"]
    for row in rows:
        if row["status"] == "measured":
            assert row["halut__area__gate_equivalents"] > 0
            assert row["n_outputs"] == 2 and row["codebook_width"] == 4 // row["n_codebooks"]
            assert 0 < row["learn__relative_error"] < 1
            assert (
                "platform without a library"
                in json.loads(row["reasons"])["synth__design__instance__area__stdcell"]
            )
    # The same tables in both orders of work: one error; more codebooks, a smaller one.
    first, second, third = (r["learn__relative_error"] for r in rows if r["status"] == "measured")
    assert second == third < first


@pytest.mark.flow
def test_pandas_and_duckdb_read_the_results(alone):
    build, rows = alone
    _need("pandas", "duckdb")
    import duckdb
    import pandas

    path = build / "tiny" / "results.parquet"
    frame = pandas.read_parquet(path)
    assert list(frame["status"]) == [row["status"] for row in rows]
    assert frame["clock_ns"].dtype == np.float64
    ((found,),) = duckdb.sql(
        f"select max(halut__area__gate_equivalents) from '{path}' where status = 'measured'"
    ).fetchall()
    gates = [r["halut__area__gate_equivalents"] for r in rows if r["status"] == "measured"]
    assert found == max(gates)


@pytest.mark.flow
def test_a_cluster_finds_the_same(space, alone, tmp_path):
    _need("distributed")
    import dask

    dask.config.set({"logging": {"distributed": "error"}})
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
        local_directory=str(tmp_path),
    ) as cluster:  # fmt: skip
        rows = _sweep(space, tmp_path / "b", "--scheduler", cluster.scheduler_address)
    assert rows == alone[1]


@pytest.mark.flow
def test_killed_and_run_again(space, alone, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "flow", "sweep", str(space), "--build", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    points = tmp_path / "points"
    limit = time.monotonic() + 120
    while not list(points.glob("[!.]*.json")) and time.monotonic() < limit:
        assert child.poll() is None
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in points.glob("[!.]*.json")}
    assert 1 <= len(finished) < 3
    assert not (tmp_path / "tiny" / "results.parquet").exists()
    assert _sweep(space, tmp_path) == alone[1]
    assert len(list(points.glob("[!.]*.json"))) == 3
    for path, written in finished.items():
        assert path.stat().st_mtime_ns == written


@pytest.mark.flow
def test_nothing_is_done_twice(space, alone, monkeypatch):
    build, rows = alone
    before = (build / "tiny" / "results.parquet").read_bytes()

    def forbidden(*_arguments):
        raise AssertionError("done already")

    monkeypatch.setattr(flow.search.sweep, "measure_job", forbidden)
    monkeypatch.setattr(flow.search.learning, "learn", forbidden)
    assert _sweep(space, build) == rows
    assert (build / "tiny" / "results.parquet").read_bytes() == before


# Without tools: measuring is made up.


def _made_up(design, platform, options, build, cache, folder=None):
    assert build.name and cache.name == "cache" and (folder is None or build in folder.parents)
    metrics = Metrics()
    metrics.set("halut__area__gate_equivalents", len(design.verilog) / options.clock_ns)
    metrics.provenance = {"date": "today", "tools": {}, "seed": options.seed}
    assert (platform.name, options.layout) == ("generic", "none")
    return metrics, build


def _space(**values) -> Space:
    base = {"input_format": "int8", "n_codebooks": 1, "n_outputs": 1, "n_prototypes": 2}
    base = {name: value for name, value in base.items() if name not in values.get("axes", ())}
    return Space(**({"name": "made", "base": base} | values))


def test_failed_points_are_rows_and_tried_again(tmp_path, monkeypatch):
    _need("pyarrow")
    broken = True

    def measure(design, *rest):
        if broken and "_q2_" in design.slug:
            raise RuntimeError("no\nluck")
        return _made_up(design, *rest)

    monkeypatch.setattr(flow.search.points, "measure", measure)
    space = _space(axes={"n_codebooks": [2], "parallel_codebooks": [1, 2]})
    sweep = Sweep(space, tmp_path)
    sweep.prepare()
    sweep.run()
    assert sweep.counts == {"failed": 1, "measured": 1}
    row = sweep.table().to_pylist()[1]
    assert (row["status"], row["message"]) == ("failed", "RuntimeError: no luck")
    assert row["halut__area__gate_equivalents"] is None
    broken = False
    again = Sweep(space, tmp_path)
    again.prepare()
    assert again.counts == {"failed": 1, "measured": 1}
    again.run()
    assert again.counts == {"measured": 2}


def test_clocks_of_one_netlist_share_a_folder_and_others_do_not(tmp_path, monkeypatch):
    folders = []

    def measure(design, platform, options, build, cache, folder):
        folder.mkdir(parents=True, exist_ok=True)
        folders.append((design.slug, options.target_ns, options.clock_ns, folder.parent.name))
        return _made_up(design, platform, options, build, cache)

    monkeypatch.setattr(flow.search.points, "measure", measure)
    axes = {"target_ns": [1, 2], "clock_ns": [3, 4]}
    sweep = Sweep(_space(axes=axes), tmp_path)
    sweep.prepare()
    sweep.run()
    assert len(folders) == 4
    by_netlist: dict = {}
    for slug, target, clock, name in folders:
        by_netlist.setdefault((slug, target), {})[clock] = name
    assert all(names[3.0] == names[4.0] for names in by_netlist.values())
    assert len({names[3.0] for names in by_netlist.values()}) == 2
    # Netlists are not kept.
    assert list((tmp_path / "work").iterdir()) == []


def test_a_product_that_cannot_be_learned_fails_its_points_only(space, tmp_path):
    values = yaml.safe_load(space.read_text())
    data = {name: str(space.parent / file) for name, file in values["data"].items()}
    found = Sweep(
        Space(
            name="wide",
            data=data,
            base=values["base"] | {"codebook_width": 1},
            axes={"n_codebooks": [4, 8]},
        ),
        tmp_path,
    )
    found.prepare()
    assert found.counts == {"failed": 1, "pending": 1}
    assert found.rows[1].message == "C must be at most the columns of A, 4, not 8"


def test_a_result_depends_on_everything_that_it_is_named_after(tmp_path):
    axes = {"n_codebooks": [2], "parallel_codebooks": [1]}
    base = _space(axes=axes).base
    spaces = [
        _space(axes=axes),
        _space(axes=axes, seed=2),
        _space(axes=axes, base=base | {"clock_ns": 5}),
        _space(axes=axes, base=base | {"clock_ns": 5, "target_ns": 6}),
        _space(axes=axes, base=base | {"lut_bits": 4}),
        _space(axes=axes, base=base | {"layout": "placed"}),
    ]
    keys = []
    for space in spaces:
        sweep = Sweep(space, tmp_path)
        sweep.prepare()
        keys.append(sweep.rows[0].key)
    assert len(set(keys)) == len(spaces)
    other = Sweep(_space(axes=axes, name="other"), tmp_path)
    other.prepare()
    assert other.rows[0].key == keys[0]


# Pruning


_MODEL = Model(
    coefficients={},
    errors={
        "area_um2": LeftOut(mean=0.1, largest=0.5, points=9),
        "energy_pj_per_cycle": LeftOut(mean=0.1, largest=0.5, points=9),
        "period_ns": LeftOut(mean=0.1, largest=0.5, points=9),
    },
    conditions={},
    points=(),
)


def _row(area: float, energy: float, rows: int = 1, period: float = 1.0, clock: float = 2.0) -> Row:
    config = AcceleratorConfig(rows=rows, encoder="pipelined")
    point = SpacePoint(index=0, values={}, config=config, platform="nangate45", corner=None,
                       clock_ns=clock, target_ns=clock)  # fmt: skip
    estimate = Estimate(area_um2=area, energy_pj_per_cycle=energy, period_ns=period,
                        area_um2_per_mac_per_cycle=area, energy_pj_per_mac=energy)  # fmt: skip
    return Row(point=point, estimate=estimate, model=_MODEL)


def _pruned(*rows: Row, **rule) -> list[bool]:
    prune(rows, Prune(**rule), with_error=False)
    return [row.status == "pruned" for row in rows]


def test_what_is_beaten_by_more_than_the_models_error_is_pruned():
    # 1.1 * 1 > 0.9 * 1.2, but not 0.9 * 1.3.
    assert _pruned(_row(1, 1), _row(1.2, 1.3)) == [False, False]
    assert _pruned(_row(1, 1), _row(1.3, 1.3)) == [False, True]
    assert _pruned(_row(1, 1), _row(1.3, 1.3), margin="largest") == [False, False]
    assert _pruned(_row(1, 1), _row(3.1, 3.1), margin="largest") == [False, True]
    assert _pruned(_row(1, 1), _row(1, 1), margin=0) == [False, False]


def test_what_is_measured_already_prunes_too_and_stays():
    first, second = _row(1, 1), _row(9, 9)
    first.status = "measured"
    assert _pruned(first, second) == [False, True]
    second.status = "measured"
    assert _pruned(first, second) == [False, False]


def test_what_is_better_somewhere_is_kept():
    assert _pruned(_row(1, 1), _row(9, 9, rows=2)) == [False, False]
    assert _pruned(_row(1, 1, rows=2), _row(9, 9)) == [False, True]
    assert _pruned(_row(1, 1), _row(9, 9, rows=2), objectives=["area"]) == [False, True]


def test_what_may_miss_its_clock_prunes_nothing():
    assert _pruned(_row(1, 1, period=1.9), _row(9, 9)) == [False, False]
    assert _pruned(_row(1, 1, period=1.8), _row(9, 9)) == [False, True]
    assert _pruned(_row(1, 1, clock=3), _row(9, 9)) == [False, False]


def test_without_an_estimate_nothing_is_pruned():
    row = _row(9, 9)
    row.estimate = row.model = None
    assert _pruned(_row(1, 1), row) == [False, False]


# Errors


def test_where_points_are_measured(space, capsys):
    _need("distributed", "pyarrow")
    for more, message in (
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler must be the address of a running"),
        (["--scheduler", "nonsense://x"], "--scheduler must be the address of a running"),
        (["--scheduler", "x", "--workers", "2"], "--workers must not be given with --scheduler"),
        (["--collect", "--workers", "2"], "--collect must not be given with"),
        (["--workers", "-1"], r"--workers must be an integer in [0, 1024], not -1"),
    ):
        assert run(main, ["sweep", str(space), *more]) == 2
        assert f"error: {message}" in capsys.readouterr().err


def test_a_corner_needs_a_library(tmp_path):
    space = _space(axes={"rows": [1]}, base={"corner": "slow"})
    with pytest.raises(HalutError, match=r"corner must be absent on generic, not 'slow'"):
        Sweep(space, tmp_path)
