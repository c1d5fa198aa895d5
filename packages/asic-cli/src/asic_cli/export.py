"""`asic export`: the network of a trained run as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asic_cli.console import printable, write_data
from asic_cli.errors import InputError, MachineError
from asic_cli.options import check_out_file
from asic_cli.runs import load_run


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `asic train --preset paper` or paper-small wrote.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.onnx", callback=check_out_file, help="Write the network here.")
    ] = Path("flow.onnx"),
) -> None:
    """Write a run's flow network as an ONNX file, which needs no torch to run.

    Input `images`: photos resized to the network's side, RGB in [0, 1]; placed first by the file's `placements`, for
    paper-small. Output `places`: canonical xy of a grid over each of them.

    Example: `asic export asic-out/teapot-run --out flow.onnx`
    """
    from asic_flow.paper.checkpoint import NETWORK_FILE
    from asic_flow.paper.export import export_onnx
    from asic_flow.paper.training import Training
    from asic_flow.run_folder import read_run_index

    found = load_run(run)
    if NETWORK_FILE not in read_run_index(run)["sha256"]:
        raise InputError(
            f"{run} has no {NETWORK_FILE}: its preset trains no network, --preset paper-small does; or `asic add` made "
            "it, and the run that was added to has it"
        )
    training = Training.read(found.collection, found.matches, run)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        export_onnx(training, out)
    except ImportError as error:
        raise MachineError(f"no exporter is installed ({error.name}): pip install 'asic-flow[export]'") from None
    write_data(printable(out))
