"""The `asic` command."""
