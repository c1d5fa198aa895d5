"""`asic weights`: which backbones' weights are here, and the only command that fetches any."""

from __future__ import annotations

from typing import Annotated

import typer

from asic_cli.console import printable, say, show, write_data, write_json
from asic_cli.errors import InputError
from asic_cli.options import Json
from asic_features.backbones import Backbone as BackboneEntry
from asic_features.backbones import find_backbone
from asic_features.weights import fetch_weights, list_weights, verify_weights

app = typer.Typer(no_args_is_help=True, help="List, fetch and verify backbones' weights.")
Backbone = Annotated[str, typer.Argument(metavar="BACKBONE", help="A short name, or timm's name of a ViT.")]


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the backbones, their licences and whether their weights are in the cache."""
    rows = [
        {
            "backbone": status.backbone.name,
            "timm": status.backbone.timm_name or None,
            "licence": status.backbone.licence,
            "path": None if status.path is None else str(status.path),
            "bytes": status.size_bytes,
            "revision": status.revision,
            "sha256": status.sha256,
        }
        for status in list_weights()
    ]
    if as_json:
        write_json(rows)
        return
    from rich.table import Table

    table = Table("backbone", "licence", "weights", "revision", "sha256")
    for row in rows:
        size = f"{int(str(row['bytes'])) / 1e6:.0f} MB" if row["path"] else "not here"
        pins = [str(row[name])[:12] if row[name] else "" for name in ("revision", "sha256")]
        table.add_row(str(row["backbone"]), str(row["licence"]), "needs none" if row["timm"] is None else size, *pins)
    show(table)


@app.command("fetch")
def fetch_command(
    backbone: Backbone,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Commit of the hub's repository [default: the newest].")
    ] = None,
) -> None:
    """Fetch a backbone's weights from the Hugging Face hub and verify them; uses the network.

    Says which revision and checksum it got, so that another machine can be given the same.
    """
    licence = _find(backbone).licence
    say(f"fetching {backbone} (licence: {licence})")
    try:
        fetched = fetch_weights(backbone, revision=revision)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    say(f"revision {fetched.revision}, sha256 {fetched.sha256}")
    write_data(printable(fetched.path))


@app.command("verify")
def verify_command(
    backbone: Backbone,
    sha256: Annotated[str | None, typer.Option("--sha256", help="The checksum to expect.")] = None,
) -> None:
    """Compare a backbone's cached weights with a checksum: the one given, or the one the hub announced."""
    _find(backbone)
    try:
        found = verify_weights(backbone, sha256)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    if sha256 is None:
        say(f"{backbone}: as the hub announced it; ASIC ships no checksum to compare with, give one with --sha256")
    write_data(found)


def _find(backbone: str) -> BackboneEntry:
    try:
        return find_backbone(backbone)
    except ValueError as error:
        raise InputError(str(error)) from error
