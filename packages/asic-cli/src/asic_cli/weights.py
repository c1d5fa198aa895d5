"""`asic weights`: which backbones' weights are here, and the only command that fetches any."""

from __future__ import annotations

from typing import Annotated

import typer

from asic_cli.console import printable, say, show, write_data, write_json
from asic_cli.errors import InputError
from asic_cli.options import Json
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
        }
        for status in list_weights()
    ]
    if as_json:
        write_json(rows)
        return
    from rich.table import Table

    table = Table("backbone", "licence", "weights")
    for row in rows:
        size = f"{int(str(row['bytes'])) / 1e6:.0f} MB" if row["path"] else "not here"
        table.add_row(str(row["backbone"]), str(row["licence"]), "needs none" if row["timm"] is None else size)
    show(table)


@app.command("fetch")
def fetch_command(backbone: Backbone) -> None:
    """Fetch a backbone's weights from the Hugging Face hub and verify them; uses the network."""
    licence = _licence(backbone)
    say(f"fetching {backbone} (licence: {licence})")
    write_data(printable(fetch_weights(backbone)))


@app.command("verify")
def verify_command(backbone: Backbone) -> None:
    """Compare a backbone's cached weights with the checksum they were published under."""
    _licence(backbone)
    write_data(verify_weights(backbone))


def _licence(backbone: str) -> str:
    try:
        return find_backbone(backbone).licence
    except ValueError as error:
        raise InputError(str(error)) from error
