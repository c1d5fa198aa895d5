"""The five operations the system spends its time in, each with a reference, a CPU path and a Triton kernel.

Importing this package loads no Triton and launches nothing.
"""

from asic_flow.kernels.match_cosine.api import (
    CosineMatches,
    CosineNeighbours,
    RaggedMatches,
    match_cosine,
    match_cosine_pairs,
)

__all__ = [
    "CosineMatches",
    "CosineNeighbours",
    "RaggedMatches",
    "match_cosine",
    "match_cosine_pairs",
]
