"""The eight operations the system spends its time in, each with a reference, a CPU path and a Triton kernel.

Importing this package loads no Triton and launches nothing.
"""

from asic_flow.kernels.batch_norm_relu.api import batch_norm_relu, batch_norm_relu_pool
from asic_flow.kernels.contrast_points.api import contrast_points
from asic_flow.kernels.match_cosine.api import (
    CosineMatches,
    CosineNeighbours,
    RaggedMatches,
    match_cosine,
    match_cosine_pairs,
)
from asic_flow.kernels.nearest_canonical.api import CanonicalIndex, CanonicalNeighbours, nearest_canonical
from asic_flow.kernels.splat_points.api import splat_points
from asic_flow.kernels.thin_conv.api import head_conv, stem_conv, thin_conv
from asic_flow.kernels.upconv_concat.api import upconv_concat
from asic_flow.kernels.warp_bilinear.api import warp_bilinear

__all__ = [
    "CanonicalIndex",
    "CanonicalNeighbours",
    "CosineMatches",
    "CosineNeighbours",
    "RaggedMatches",
    "batch_norm_relu",
    "batch_norm_relu_pool",
    "contrast_points",
    "head_conv",
    "match_cosine",
    "match_cosine_pairs",
    "nearest_canonical",
    "splat_points",
    "stem_conv",
    "thin_conv",
    "upconv_concat",
    "warp_bilinear",
]
