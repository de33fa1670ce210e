"""The script that puts bolt's kernels beside ours, with a stand-in for bolt's checkout."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from halut.cli import run

_SCRIPT = Path(__file__).parents[2] / "examples" / "bolt_beside.py"
# What the script calls; the product is no product.
_STAND_IN = """
#pragma once
#include <stdint.h>
template <class T> struct mithral_amm {
  template <class S, class O>
  mithral_amm(int n, int, int, int c, const float *, const uint32_t *dims, const int8_t *,
              const S *, const O *, const int *, int) : dims(dims), n(n), c(c) {}
  void encode(const T *x) {
    for (int i = 0; i < 4 * c; i++) sum += x[(int64_t)n * dims[i]];
  }
  void scan() {}
  const uint32_t *dims;
  int n, c;
  double sum = 0;
};
"""


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("bolt_beside", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _checkout(folder: Path, header: str = _STAND_IN) -> Path:
    place = folder / "cpp" / "src" / "quantize"
    place.mkdir(parents=True)
    (place / "mithral.hpp").write_text(header)
    (place / "mithral.cpp").write_text('#include "mithral.hpp"\n')
    return folder


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is missing")
def test_a_row_for_each_size_and_kind_of_input(script, tmp_path, capsys):
    bolt = _checkout(tmp_path / "bolt")
    flags = ["--rows", "64", "--features", "32", "--outputs", "3", "--codebooks", "2,4",
             "--repeats", "1", "-o", str(tmp_path / "build")]  # fmt: skip
    assert script.main([str(bolt), *flags]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[4:]]
    assert np.float32(1e-40) * np.float32(1) != 0, "subnormals must stay what they are"
    assert rows == [["2", "float32"], ["2", "int8"], ["4", "float32"], ["4", "int8"]]


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is missing")
def test_what_is_no_checkout_or_does_not_compile_is_refused(script, tmp_path, capsys):
    assert run(script.main, [str(tmp_path)]) == 2
    assert "BOLT must be a checkout of dblalock/bolt" in capsys.readouterr().err
    broken = _checkout(tmp_path / "bolt", "no C++\n")
    assert run(script.main, [str(broken), "-o", str(tmp_path / "build")]) == 2
    assert "error: bolt's kernels must compile" in capsys.readouterr().err
    assert run(script.main, [str(broken), "--rows", "33"]) == 2
    assert "--rows must be a multiple of 32, not 33" in capsys.readouterr().err
    assert run(script.main, [str(broken), "--codebooks", "16,x"]) == 2
    assert "--codebooks must be whole numbers" in capsys.readouterr().err
