"""Forks `asic` commands on request: one JSON document a line in, one number a line out; its own comes first."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys

# Imported before any fork, so that no command pays for them; nothing is computed here.
import rich.progress  # noqa: F401
import timm  # noqa: F401
from PIL import Image

import asic_cli.app  # noqa: F401
import asic_features.extract  # noqa: F401
import asic_flow.alignment
import asic_flow.paper  # noqa: F401
from asic_cli.__main__ import main


def run(request: dict[str, object]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(f"{request['out']}/{name}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
    if request["fsize"] is not None:
        size = int(str(request["fsize"]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    arguments = request["arguments"]
    code = main(arguments if isinstance(arguments, list) else [])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                run(request)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Image.init()
    # What reads arguments is imported by the first command.
    with contextlib.redirect_stdout(io.StringIO()):
        main(["features", ".", "--print-config"])
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    serve()
