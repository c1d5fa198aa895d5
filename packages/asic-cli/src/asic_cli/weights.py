"""`asic weights`: which weights of backbones and mask networks are here; fetches and verifies them."""

from __future__ import annotations

from typing import Annotated

import typer

from asic_cli.console import printable, say, show, write_data, write_json
from asic_cli.errors import InputError
from asic_cli.options import Json
from asic_features.backbones import Backbone as BackboneEntry
from asic_features.backbones import find_backbone
from asic_features.mask_networks import (
    MASK_NETWORKS,
    cached_mask_network,
    fetch_mask_network,
    verify_mask_network,
)
from asic_features.weights import fetch_weights, list_weights, verify_weights

app = typer.Typer(no_args_is_help=True, help="List, fetch and verify networks' weights.")
Backbone = Annotated[str, typer.Argument(metavar="NETWORK", help="A short name, or timm's name of a ViT.")]


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List backbones and mask networks, their licences and whether their weights are in the cache."""
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
    for name, network in MASK_NETWORKS.items():
        file = cached_mask_network(name)
        here = file.is_file()
        rows.append(
            {
                "masks": name,
                "licence": network.licence,
                "path": str(file) if here else None,
                "bytes": file.stat().st_size if here else 0,
                "md5": network.md5,
            }
        )
    if as_json:
        write_json(rows)
        return
    from rich.table import Table

    table = Table("name", "for", "licence", "weights", "revision", "checksum")
    for row in rows:
        kind = "backbone" if "backbone" in row else "masks"
        size = f"{int(str(row['bytes'])) / 1e6:.0f} MB" if row["path"] else "not here"
        size = "needs none" if kind == "backbone" and row["timm"] is None else size
        pins = [str(row.get("revision") or "")[:12], str(row.get("sha256") or row.get("md5") or "")[:12]]
        table.add_row(str(row[kind]), kind, str(row["licence"]), size, *pins)
    show(table)


@app.command("fetch")
def fetch_command(
    backbone: Backbone,
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Commit of the hub's repository [default: the pinned one, else the newest]."),
    ] = None,
) -> None:
    """Fetch a network's weights and verify them; uses the network.

    Backbones come from the Hugging Face hub, most of DINOv2's and DINOv3's by a pinned revision and checksum; which
    came is said, so that another machine can be given the same. Mask networks come from rembg's releases, with the
    checksums that are pinned there.
    """
    if backbone in MASK_NETWORKS:
        if revision is not None:
            raise InputError(f"--revision: {backbone} has none, its checksum is pinned; drop it")
        say(f"fetching {backbone} (licence: {MASK_NETWORKS[backbone].licence})")
        write_data(printable(fetch_mask_network(backbone)))
        return
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
    """Compare cached weights with a checksum: the one given, the one that is pinned, or the one the hub announced."""
    if backbone in MASK_NETWORKS:
        if sha256 is not None:
            raise InputError(f"--sha256: {backbone} has a pinned checksum; drop it")
        write_data(verify_mask_network(backbone))
        return
    entry = _find(backbone)
    try:
        found = verify_weights(backbone, sha256)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    if sha256 is None and found != entry.sha256:
        say(f"{backbone}: as the hub announced it; no checksum of it is pinned, give one with --sha256")
    write_data(found)


def _find(backbone: str) -> BackboneEntry:
    try:
        return find_backbone(backbone)
    except ValueError as error:
        raise InputError(str(error)) from error
