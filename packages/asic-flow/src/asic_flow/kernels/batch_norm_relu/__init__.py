"""Batch normalisation by a batch's own statistics, ReLU and 2 x 2 pooling in one, with gradients."""
