"""Versions of installed packages."""

from __future__ import annotations


def installed_version(package: str) -> str | None:
    """The version of a package, or None where it is not installed."""
    # Importing it takes as long as the rest of `--help`.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
