"""Bilinear samples of a shared or batched image at points, with both gradients."""
