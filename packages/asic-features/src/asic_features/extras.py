"""What is said when an optional library is missing."""

from __future__ import annotations


class ExtraError(Exception):
    """An optional library is not installed; the message names the extra that brings it."""
