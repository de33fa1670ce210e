"""What README and docs say is so."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from pathlib import Path

import pytest
import yaml

from rtl_gen.config import AcceleratorConfig
from rtl_gen.settings import settings_of
from rtl_gen.tiled_config import config_from_dict, load_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.sim
def test_readme_example() -> None:
    """The ten lines run and print what stands below them."""
    text = (ROOT / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```\s*```text\n(.*?)```", text, re.S)
    assert found
    code, expected = found.groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected


def test_readme_result() -> None:
    """The accuracies in README are those of the model that the demo's Verilog equals."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    from halut import HalutMatmul, golden
    from sim.demo.problems import digits

    problem = digits()
    config = AcceleratorConfig.from_yaml(ROOT / "configs" / "digits.yaml")
    multiplier = HalutMatmul(C=config.n_codebooks, K=config.n_prototypes)
    multiplier.learn_offline(problem.train, problem.weights)
    program = multiplier.program(
        input_format=config.input_format, lut_bits=config.lut_bits, calibration=problem.train
    )
    words = program.input_words(problem.test)
    product = golden.dequantize(program, golden.matmul(program, words))
    text = " ".join((ROOT / "README.md").read_text().split())
    exact, approximate = (float(share) for share in re.findall(r"is right on (\d+) %", text))
    # Learning may round otherwise with another BLAS: two of the 500 images either way.
    assert abs(exact - 100 * problem.quality(problem.test @ problem.weights)) < 0.9
    assert abs(approximate - 100 * problem.quality(product)) < 0.9
    assert f"in {config.interval_cycles} cycles per image" in text
    assert f"8-bit tables ({config.lut_total_bits // 8} bytes)" in text
    assert f"on all {product.size} outputs" in text


def test_configuration_table() -> None:
    """The table in docs/interfaces.md lists every field with its flag and default."""
    text = (ROOT / "docs" / "interfaces.md").read_text()
    table = re.search(r"\| field \| letter \|.*?\n\n", text, re.S)
    assert table
    rows = {}
    for line in table[0].strip().splitlines()[2:]:
        name, _, flag, default, rule = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = (flag.strip("`"), default)
        assert rule
    flags = {field.name: rule.flag for field, rule in settings_of(AcceleratorConfig)}
    for field in dataclasses.fields(AcceleratorConfig):
        default = "derived" if field.default is None else str(field.default)
        assert rows.pop(field.name) == (flags[field.name], default)
    assert not rows


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links(document: Path) -> None:
    """Relative links lead to files of the project."""
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


PACKAGES = "halut|rtl_gen|sim|flow"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_and_names_exist(document: Path) -> None:
    """Files and dotted names within sentences are those of the project."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
    files = re.findall(rf"`((?:{PACKAGES}|configs|docs|tests)/[\w/.-]+\.\w+)`", text)
    assert [name for name in files if not (ROOT / name).is_file()] == []
    names = re.findall(rf"`((?:{PACKAGES})(?:\.\w+)+)", text)
    # The first word may be that of a C file, such as halut.c.
    names = [name for name in names if not name.endswith((".c", ".h"))]
    assert [name for name in names if not _exists(name)] == []


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or a word in one (nothing is imported)."""
    place, parts = ROOT, name.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    module = place / (f"{parts[0]}.py" if parts else "__init__.py")
    if parts and module.is_file():
        parts.pop(0)
    else:
        module = place / "__init__.py"
    words = re.findall(r"\w+", module.read_text()) if module.is_file() else []
    return all(part in words for part in parts)


CONFIGS = [*(ROOT / "configs").glob("*.yaml"), *(ROOT / "configs" / "options").glob("*.yaml")]


@pytest.mark.parametrize("path", sorted(CONFIGS), ids=lambda p: p.stem)
def test_configurations_are_valid(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    if "n_codebooks" not in values:
        pytest.skip("not an accelerator's configuration")
    config = load_config(path)
    assert config.name == path.stem
    assert config_from_dict(config.to_dict()) == config


def test_every_make_target_is_described() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: ([a-z -]+)$", text, re.M)[1].split())  # type: ignore[index]
    described = set(re.findall(r"^([a-z-]+):.*## \S", text, re.M))
    assert phony == described
