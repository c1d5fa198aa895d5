"""PCK as a torchmetrics metric, for training loops that already use them (extra `torchmetrics`).

Nothing else in this package imports this module, torch or torchmetrics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchmetrics import Metric  # type: ignore[import-not-found, unused-ignore]

from asic_eval.pck import check_alphas


class PckMetric(Metric):  # type: ignore[misc, unused-ignore]
    """Percentage of correct keypoints, summed exactly over batches and processes.

    Args:
        alphas: Tolerances, increasing.
        inclusive: `<=` or `<`.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    hits: torch.Tensor
    points: torch.Tensor
    ratios: torch.Tensor
    pairs: torch.Tensor

    def __init__(self, alphas: Sequence[float] = (0.05, 0.10), *, inclusive: bool = True) -> None:
        super().__init__()
        self.alphas = check_alphas(alphas).tolist()
        self.inclusive = inclusive
        count = len(self.alphas)
        self.add_state("hits", torch.zeros(count, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("points", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ratios", torch.zeros(count, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, predicted: torch.Tensor, truth: torch.Tensor, visible: torch.Tensor, lengths: torch.Tensor
    ) -> None:
        """Adds a batch of pairs.

        Args:
            predicted: (B, K, 2) xy in the target photo's pixels; NaN is wrong.
            truth: (B, K, 2) xy.
            visible: (B, K) bool, points that count.
            lengths: (B,) what alpha is a fraction of, in the same pixels.
        """
        difference = predicted.double() - truth.double()
        distance = difference.square().sum(dim=-1).sqrt()
        limits = lengths.double()[:, None, None] * distance.new_tensor(self.alphas)
        within = distance[..., None] <= limits if self.inclusive else distance[..., None] < limits
        hits = (within & visible[..., None]).sum(dim=1)
        points = visible.sum(dim=1)
        asked = points > 0
        self.hits += hits.sum(dim=0)
        self.points += points.sum()
        self.ratios += (hits[asked].double() / points[asked, None]).sum(dim=0)
        self.pairs += asked.sum()

    def compute(self) -> dict[str, torch.Tensor]:
        """`per_point` and `per_image`: (A,) fractions in 0..1, NaN where no point was asked for."""
        return {"per_point": self.hits.double() / self.points, "per_image": self.ratios / self.pairs}
