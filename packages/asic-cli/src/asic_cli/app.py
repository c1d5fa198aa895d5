"""The `asic` command's commands; importing it loads no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from asic_cli import data, weights
from asic_cli.add import add
from asic_cli.animate import animate
from asic_cli.compare import compare
from asic_cli.console import write_data
from asic_cli.demo import demo
from asic_cli.doctor import doctor
from asic_cli.edit import edit
from asic_cli.evaluate import evaluate
from asic_cli.export import export
from asic_cli.features import features
from asic_cli.train import train
from asic_cli.transfer import transfer
from asic_cli.versions import installed_version
from asic_cli.view import view

app = typer.Typer(
    name="asic",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        write_data(f"asic {installed_version('asic-cli')}")
        raise typer.Exit


@app.callback()
def asic(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Align a few photos of one kind of object, without labels.

    photos -> features -> collection -> train -> run -> eval, transfer, view, edit, animate, compare
    """
    del show_version


app.command()(features)
app.command()(train)
app.command("eval")(evaluate)
app.command()(transfer)
app.command()(add)
app.command()(view)
app.command()(edit)
app.command()(animate)
app.command()(compare)
app.command()(export)
app.command()(demo)
app.command()(doctor)
app.add_typer(weights.app, name="weights")
app.add_typer(data.app, name="data")
