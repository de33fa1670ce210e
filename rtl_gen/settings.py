"""Fields of configurations: each holds its rule, its flag and what help says of it.

A configuration is a frozen dataclass whose fields are made by `setting`. `check_settings` holds
them to the rules that stand with them; `add_flags` makes a command line of them, `given_settings`
reads it. A new field, then, stands in its dataclass alone, and in the documentation.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from halut.checks import boolean, integer_in, number_in, one_of
from halut.errors import HalutError

__all__ = [
    "Setting",
    "add_flags",
    "check_settings",
    "given_settings",
    "name_setting",
    "setting",
    "settings_of",
]

_SETTING = "setting"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field of a configuration is besides its name, type and default.

    Parameters
    ----------
    flag : str
        Of the command line.
    help : str
        What it is, with its unit, for ``--help``.
    group : str
        Title that ``--help`` puts it under; none when empty.
    within : tuple of number, optional
        Lowest and highest value; numbers without it have a rule that depends on other fields.
    choices : sequence of str
        What a text must be one of, when there are any.
    derived : str
        How the default is derived, where the field has none or None.
    later : bool
        The field was added after the first version of the file: it is left out of dictionaries,
        and so of hashes, where it is at its default.
    parse : callable
        Makes a value of a flag's text: int for integers, float for other numbers.
    metavar : str
        The value in ``--help``.
    shown : callable
        Makes the default's text.
    """

    flag: str
    help: str
    group: str = ""
    within: tuple[float, float] | None = None
    choices: Sequence[str] = ()
    derived: str = ""
    later: bool = False
    parse: Callable[[str], Any] = int
    metavar: str = "N"
    shown: Callable[[Any], str] = str


def setting(default: Any, flag: str, help: str, **more: Any) -> Any:
    """Make a field of a configuration.

    Parameters
    ----------
    default : bool, number, str or None
        None where it is derived, or absent; `dataclasses.MISSING` where it must be given.
    flag, help
        See `Setting`.
    **more
        Other arguments of `Setting`. With `choices` the help lists them.
    """
    choices = more.get("choices", ())
    if choices or isinstance(default, str):
        more = {"parse": str, "metavar": "X", **more}
    if choices:
        help = help.format(", ".join(choices)) if "{}" in help else f"{help}: {', '.join(choices)}"
    metadata = {_SETTING: Setting(flag=flag, help=help, **more)}
    return dataclasses.field(default=default, metadata=metadata)


def name_setting(group: str = "") -> Any:
    """Make the field ``name``, a label."""
    return setting("custom", "--name", "label of the configuration", group=group)


def settings_of(config: Any) -> Iterator[tuple[dataclasses.Field[Any], Setting]]:
    """Yield the fields of a configuration, or of its class, that `setting` made."""
    for field in dataclasses.fields(config):
        if _SETTING in field.metadata:
            yield field, field.metadata[_SETTING]


def check_settings(config: Any) -> None:
    """Hold a configuration's fields to the rules that stand with them, and its name.

    Raises
    ------
    HalutError
        When one breaks its rule; it is never changed.
    """
    for field, rule in settings_of(config):
        value = getattr(config, field.name)
        if value is None and field.default is None:
            continue
        if rule.within is not None and rule.parse is float:
            number_in(field.name, value, *rule.within)
        elif rule.within is not None:
            integer_in(field.name, value, *map(int, rule.within))
        elif rule.choices:
            one_of(field.name, value, rule.choices)
        elif isinstance(field.default, bool):
            boolean(field.name, value)
        elif field.name == "name" and (
            not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value)
        ):
            raise HalutError(f"name must be letters, digits, _ and -, not {value!r}")


def _default(value: Any, rule: Setting) -> str:
    if value is None:
        return rule.derived
    if isinstance(value, bool):
        return "yes" if value else "no"
    return rule.shown(value)


def _described(owners: Mapping[str, tuple[Any, Setting]], n_all: int) -> str:
    """Say what a flag is; where configurations that share it differ, of which one."""
    texts: dict[str, dict[str, list[str]]] = {}
    for owner, (default, rule) in owners.items():
        texts.setdefault(rule.help, {}).setdefault(_default(default, rule), []).append(owner)
    parts = []
    for text, defaults in texts.items():
        named = [name for names in defaults.values() for name in names]
        first, *others = defaults
        stated = first + "".join(f"; {', '.join(defaults[each])}: {each}" for each in others)
        where = "" if len(named) == n_all else f"{', '.join(named)}: "
        parts.append(f"{where}{text}" + (f" (default: {stated})" if stated else ""))
    return "; ".join(parts)


def add_flags(
    parser: argparse._ActionsContainer, configs: Mapping[str, Any], *, required: bool = False
) -> None:
    """Add one flag per field; None stands for a flag that was not given.

    Parameters
    ----------
    parser : argparse.ArgumentParser, or a group of one
    configs : mapping of str to type or object
        Classes of configurations by their names, which help has where not all have a field; or
        configurations, whose values help has as defaults.
    required : bool, default False
        Fields without a default must be given.
    """
    fields: dict[str, dict[str, tuple[Any, Setting]]] = {}
    bare = set()
    for owner, config in configs.items():
        for field, rule in settings_of(config):
            default = getattr(config, field.name, None)
            fields.setdefault(field.name, {})[owner] = default, rule
            if field.default is dataclasses.MISSING:
                bare.add(field.name)
    groups: dict[str, Any] = {"": parser}
    for name, owners in fields.items():
        default, rule = next(iter(owners.values()))
        if rule.group not in groups:
            groups[rule.group] = parser.add_argument_group(rule.group)
        kind: dict[str, Any] = {"type": rule.parse, "metavar": rule.metavar}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        text = _described(owners, len(configs))
        if required and name in bare:
            kind["required"], text = True, rule.help
        groups[rule.group].add_argument(rule.flag, dest=name, help=text, **kind)


def given_settings(arguments: argparse.Namespace, configs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the flags of `add_flags` that were given, by their fields."""
    names = {field.name for config in configs.values() for field, _ in settings_of(config)}
    values = {name: getattr(arguments, name) for name in sorted(names)}
    return {name: value for name, value in values.items() if value is not None}
