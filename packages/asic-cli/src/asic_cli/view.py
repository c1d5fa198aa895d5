"""`asic view`: a run's page, with its viewer, written, opened or served."""

from __future__ import annotations

from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer

from asic_cli.console import printable, say, warn, write_data
from asic_cli.folder import writing
from asic_cli.options import check_out_file
from asic_cli.runs import REPORT_FILE, Run, load_run, read_summary

_IDLE_SECONDS = 30.0


def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `asic train` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.html",
            callback=check_out_file,
            help="Write here [default: RUN/report.html].",
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page over http to this machine alone, until interrupted.")
    ] = False,
) -> None:
    """Write a run's page: every photo, one place; pins, paint, overlays and scores.

    The page is the one that `asic eval` writes, with the scores of the last `asic eval`; before that it says that they
    are not there yet. It is one file that needs no network and no server.

    Example: `asic view asic-out/teapot-run --open`
    """
    loaded = load_run(run)
    if out is None:
        page = run / REPORT_FILE
        with writing(run, "run"):
            _write(page, loaded)
    else:
        page = out
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(page, loaded)
    write_data(printable(page))
    if serve:
        _serve(page.read_bytes(), open_it)
    elif open_it:
        _open(page.resolve().as_uri())


def _write(page: Path, run: Run) -> None:
    from asic_cli.breakdown import breakdown_of
    from asic_cli.report import write_page

    summary, truth = read_summary(run), run.truth()
    write_page(
        page,
        title=run.title,
        collection=run.photos,
        matches=run.matches,
        alignment=run.maps,
        summary=summary,
        truth=truth,
        breakdown=breakdown_of(summary, truth),
    )


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        warn(f"no browser was found; open {address}")


def _serve(page: bytes, open_it: bool) -> None:
    server = page_server(page)
    address = f"http://127.0.0.1:{server.server_port}/"
    say(f"serving on {address}, to this machine alone; Ctrl-C stops it")
    if open_it:
        _open(address)
    with server:
        server.serve_forever()


def page_server(page: bytes) -> ThreadingHTTPServer:
    """A server of one page on a free port of the loopback interface; clients that wait or leave disturb no other."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE_SECONDS

        def handle(self) -> None:
            """A client that leaves while it is answered is no error."""
            with suppress(ConnectionError):
                super().handle()

        def finish(self) -> None:
            """Likewise of one that leaves before the last byte."""
            with suppress(ConnectionError):
                super().finish()

        def do_GET(self) -> None:
            """Answers with the page; only who asks for it by this machine's own name gets it."""
            # A page elsewhere whose name was made to point here would be let in by its browser otherwise.
            name = (self.headers.get("Host") or "").rpartition(":")[0]
            if self.path != "/" or name not in ("127.0.0.1", "localhost"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Stays silent."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
