"""Folders with an index: a JSON file that names every other file's sha256, so that an indexed folder is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from asic_flow import atomic


@dataclass(frozen=True)
class IndexedFolder:
    """A kind of folder.

    Attributes:
        index_file: The index's name.
        format: What its field `format` says.
        version: What its field `version` says.
        command: What writes such folders, as messages name it.
        error: Raised with a message that names the file and the field.
    """

    index_file: str
    format: str
    version: int
    command: str
    error: type[ValueError]

    def write(
        self,
        folder: Path,
        document: Mapping[str, Any],
        contents: Mapping[str, bytes],
        staging: atomic.Staging | None = None,
    ) -> str:
        """Writes a folder. All files are on the disk before the first old one goes, and the index comes last.

        Args:
            folder: Created where missing. Files that its old index names, if that is of this version, and `contents`
                lacks are removed.
            document: The index, less `format`, `version` and `sha256`.
            contents: Files by their names relative to the folder.
            staging: Where files are to wait with those of other folders until it is committed; None to commit at once.

        Returns:
            The sha256 of the index.

        Raises:
            OSError: The folder cannot be written, or the disk is full: an earlier content is then still whole. Or a
                file cannot take its place; see `atomic.Staging`.
        """
        try:
            known = self.read_index(folder)["sha256"]
        except self.error:
            known = {}
        stale = [folder / name for name in known if name not in contents and _is_inside(name)]
        with nullcontext(staging) if staging else atomic.Staging() as files:
            digests = {name: files.add(folder / name, data) for name, data in contents.items()}
            whole = {"format": self.format, "version": self.version, **document, "sha256": digests}
            text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
            digest = files.seal(folder / self.index_file, text.encode("utf-8", "surrogateescape"), stale)
            if staging is None:
                files.commit()
        return digest

    def read_index(self, folder: Path) -> dict[str, Any]:
        """Reads the index and nothing else.

        Raises:
            ValueError: `error`: no index, or none that this version reads.
        """
        path = folder / self.index_file
        try:
            document = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"), parse_constant=_refuse)
        except FileNotFoundError:
            raise self.error(f"{folder}: no {self.index_file}; is this what {self.command} wrote?") from None
        except NotADirectoryError:
            raise self.error(f"{folder}: expected a folder that {self.command} wrote") from None
        except (ValueError, RecursionError) as error:
            raise self.error(f"{path}: expected JSON, got {error}") from error
        if not isinstance(document, dict) or document.get("format") != self.format:
            raise self.error(f"{path}, field 'format': expected {self.format!r}")
        if document.get("version") != self.version:
            raise self.error(
                f"{path}, field 'version': expected {self.version}, got {document.get('version')!r}; "
                f"run {self.command} again"
            )
        if not isinstance(document.get("sha256"), dict):
            raise self.error(f"{path}, field 'sha256': expected the files' checksums")
        return document

    def read_file(self, folder: Path, name: str, digests: Mapping[str, str]) -> bytes:
        """Reads a file and checks it against the index's `digests`.

        Raises:
            ValueError: `error`: it is not recorded, missing, changed, or outside the folder.
        """
        path = folder / name
        if not _is_inside(name):
            raise self.error(f"{folder / self.index_file}: expected a name inside the folder, got {name!r}")
        if name not in digests:
            raise self.error(f"{folder / self.index_file}, field 'sha256': {name!r} is not recorded")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise self.error(f"{path}: {error.strerror}; run {self.command} again") from error
        if hashlib.sha256(data).hexdigest() != digests[name]:
            raise self.error(f"{path}: the content is not what was recorded (sha256); run {self.command} again")
        return data

    def read_arrays(self, folder: Path, name: str, digests: Mapping[str, str]) -> dict[str, NDArray[Any]]:
        """Reads a safetensors file as `read_file` does.

        Raises:
            ValueError: `error`: as there, or it is no safetensors file.
        """
        try:
            return load(self.read_file(folder, name, digests))
        except SafetensorError as error:
            raise self.error(f"{folder / name}: {error}") from error


def _refuse(constant: str) -> None:
    """What Python takes for JSON and is none: NaN and infinities."""
    raise ValueError(f"a number that JSON does not have, {constant}")


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts
