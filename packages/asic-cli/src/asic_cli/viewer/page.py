"""A page as one file: a template, a style, and scripts that its own policy lets run, and nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from string import Template


def assemble(template: str, scripts: Sequence[str], **fields: object) -> bytes:
    """Fills a template and puts it into the shell that all pages share.

    Args:
        template: Name of an HTML file beside this one: the page's header and main part.
        scripts: Names of the script's modules, in the order in which they are joined: each may use those before it.
        fields: What the template asks for, as HTML; `title` and `data` go to the shell.
    """
    modules = "\n".join(_asset(f"{name}.js") for name in scripts)
    script = f'(() => {{\n"use strict";\n{modules}}})();'
    page = Template(_asset("shell.html")).substitute(
        fields,
        body=Template(_asset(template)).substitute(fields),
        style=_asset("style.css"),
        script=script,
        # The page's policy lets this very text run.
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )
    return page.encode("utf-8", "backslashreplace")  # names of files may hold bytes that are no text


def _asset(name: str) -> str:
    return files("asic_cli.viewer").joinpath(name).read_text("utf-8")
