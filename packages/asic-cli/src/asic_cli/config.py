"""Settings from a TOML file, and the resolved ones as TOML.

Flags win over `ASIC_*` variables, those over `--config`, that over the preset, that over the defaults.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from asic_cli.errors import InputError

# What one command line asks for once, not what decides a result.
_NOT_SETTINGS = frozenset({"config", "print_config", "dry_run", "help", "fresh", "as_json"})


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a TOML file's table `[command]` the command's defaults; the callback of `--config`.

    Raises:
        InputError: The file cannot be read, or it names a table or setting that does not exist.
    """
    if path is None or context.resilient_parsing:
        return path
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: expected TOML: {error}") from None
    command = str(context.info_name)
    commands = getattr(getattr(context.parent, "command", None), "commands", {command: None})
    for name, table in document.items():
        if name not in commands or not isinstance(table, dict):
            raise InputError(f"--config {path}: expected tables of commands, such as [{command}], got {name!r}")
    options = {
        option.name: option
        for option in context.command.params
        if option.param_type_name == "option" and option.name not in _NOT_SETTINGS
    }
    defaults: dict[str, Any] = {}
    for key, value in document.get(command, {}).items():
        name = key.replace("-", "_")
        if name not in options:
            known = ", ".join(str(known).replace("_", "-") for known in sorted(map(str, options)))
            raise InputError(f"--config {path}: [{command}] has no setting {key!r}; expected one of {known}")
        flag = bool(getattr(options[name], "is_flag", False))
        if isinstance(value, bool) != flag or not isinstance(value, (bool, int, float, str)):
            raise InputError(
                f"--config {path}: [{command}] {key}: expected {'true or false' if flag else 'a value'}, got {value!r}"
            )
        defaults[name] = value if flag else str(value)
    context.default_map = defaults
    return path


def as_toml(command: str, settings: Mapping[str, Any]) -> str:
    """Resolved settings as the table that `--config` reads back; those without a value are left out."""
    lines = [f"[{command}]"]
    for name, value in settings.items():
        if isinstance(value, bool):
            written = str(value).lower()
        elif isinstance(value, (int, float)):
            written = str(value)
        else:
            # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
            written = json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        if value is not None:
            lines.append(f"{name.replace('_', '-')} = {written}")
    return "\n".join(lines)


def given(context: typer.Context) -> dict[str, Any]:
    """The command's settings with the values they have by now, by name, in the order of `--help`."""
    return {
        str(option.name): context.params[str(option.name)]
        for option in context.command.params
        if option.param_type_name == "option" and option.name not in _NOT_SETTINGS
    }
