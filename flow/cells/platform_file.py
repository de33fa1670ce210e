"""Reading and checking platform files: one YAML file makes one `Platform`.

The shipped files are in ``flow/platforms``; ``--platform path/to/mine.yaml`` takes any other.
"""

from __future__ import annotations

import os
from pathlib import Path

from flow.cells.platform import Platform
from halut.checks import known, located, mapping, read_fields, read_yaml
from halut.errors import HalutError, closest

__all__ = ["platform_names", "read_platform"]

_FOLDER = Path(__file__).parents[1] / "platforms"

_ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # role: (keys it must have, keys it may have)
    "clock_gate": (("cell", "clock", "enable", "output"), ("tie_low",)),
    "tie_high": (("cell", "output"), ()),
    "tie_low": (("cell", "output"), ()),
    "buffer": (("cell", "input", "output"), ()),
    "clock_buffer": (("cell", "input", "output"), ()),
    "full_adder": (("cell", "a", "b", "carry_in", "carry", "sum"), ("inverted",)),
}
_DISCRETE_GATE = (
    "latch", "latch_data", "latch_enable", "latch_output", "and", "and_inputs", "and_output",
    "inverter", "inverter_input", "inverter_output",
)  # fmt: skip


def platform_names() -> list[str]:
    """Names of the shipped platforms."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_platform(name: str | os.PathLike[str]) -> Platform:
    """Read a shipped platform by name, or any by the path of its YAML file.

    Parameters
    ----------
    name : str or path-like
        ``nangate45``, or ``my/platform.yaml``.

    Raises
    ------
    HalutError
        When there is no such platform or its file breaks a rule.

    Examples
    --------
    >>> read_platform("nangate45").default_corner
    'typ'
    >>> read_platform("generic").has_library
    False
    """
    text = os.fspath(name)
    if text.endswith((".yaml", ".yml")) or os.sep in text:
        path = Path(text)
    else:
        path = _FOLDER / f"{text}.yaml"
        if not path.is_file():
            names = platform_names()
            raise HalutError(
                f"platform must be one of {', '.join(names)} or the path of a YAML file, not "
                f"{text}{closest(text, names)}"
            )
    data = read_yaml(path, "a platform")
    with located(path):
        version = data.pop("version", None)
        if version != 1:
            raise HalutError(f"version must be 1, not {version}")
        data = {key: value for key, value in data.items() if value is not None}
        gate_equivalent = ""
        if "corners" in data:
            data.setdefault("default_corner", next(iter(mapping("corners", data["corners"])), ""))
            data["cells"] = cells = mapping("cells", data.get("cells", {}))
            gate_equivalent = cells.pop("gate_equivalent", None)
            if not isinstance(gate_equivalent, str):
                raise HalutError(
                    f"cells.gate_equivalent must be a cell's name, not {gate_equivalent!r}"
                )
            _check_roles(cells)
        return read_fields(Platform, data, source=path, gate_equivalent=gate_equivalent)


def _check_roles(cells: dict[str, dict[str, object]]) -> None:
    known("cells", cells, _ROLES, "have known roles only")
    for role, values in cells.items():
        must, may = _ROLES[role]
        if role == "clock_gate" and isinstance(values, dict) and "latch" in values:
            must, may = _DISCRETE_GATE, ()
        if not isinstance(values, dict) or not set(must) <= set(values) <= {*must, *may}:
            raise HalutError(
                f"cells.{role} must have the keys {', '.join(must + may)}, not {values!r}"
            )
    for role in ("clock_gate", "buffer"):
        if role not in cells:
            raise HalutError(f"cells.{role} must be given")
