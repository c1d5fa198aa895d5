"""The flags that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from asic_cli.config import load_config
from asic_cli.errors import InputError, MachineError


def check_out_file(path: Path | None) -> Path | None:
    """Looks at where a file is to be written before any work is done; the callback of `--out FILE`.

    Raises:
        InputError: It is a folder, or lies below a file.
        MachineError: Its folder cannot be written to.
    """
    if path is None:
        return None
    if path.is_dir():
        raise InputError(f"--out {path}: expected a file to write, got a folder")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise InputError(f"--out {path}: {there} is no folder")
    if not os.access(there, os.W_OK):
        raise MachineError(f"--out {path}: {there} cannot be written to")
    return path


Fresh = Annotated[bool, typer.Option("--fresh", help="Make again what an earlier command finished in the folder.")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        is_eager=True,
        callback=load_config,
        help="Take settings from this file's table of the command's name; flags and ASIC_* win.",
    ),
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved settings as TOML and stop.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")]
Device = Annotated[
    str,
    typer.Option(
        "--device", envvar="ASIC_DEVICE", metavar="auto|cpu|cuda[:i]|mps", help="Where to compute; auto takes a GPU."
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", envvar="ASIC_SEED", min=0, max=2**63 - 1, help="Seed of whatever is drawn at random.")
]
