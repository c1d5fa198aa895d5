from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from asic_eval import KeypointBenchmark, pck, threshold_lengths

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torchmetrics") is None, reason="torchmetrics is not installed (extra torchmetrics)"
)


@pytest.mark.parametrize("inclusive", [True, False])
def test_it_agrees_with_pck(benchmark: KeypointBenchmark, inclusive: bool) -> None:
    import torch

    from asic_eval.torch_metric import PckMetric

    truth = benchmark.points_image[benchmark.pairs[:, 1]]
    predicted = truth + np.array([0.1, 0.0]) * threshold_lengths(benchmark, "box")[benchmark.pairs[:, 1], None, None]
    predicted[0, 0] = np.nan
    lengths = threshold_lengths(benchmark, "box")[benchmark.pairs[:, 1]]
    expected = pck(predicted, benchmark, [0.05, 0.10, 0.2], inclusive=inclusive, missing="miss")
    metric = PckMetric([0.05, 0.10, 0.2], inclusive=inclusive)
    for rows in (slice(0, 2), slice(2, 6)):
        arrays = (predicted[rows], truth[rows], benchmark.asked[rows].copy(), lengths[rows])
        metric.update(*(torch.from_numpy(array) for array in arrays))
    result = metric.compute()
    assert result["per_point"].tolist() == pytest.approx(expected.per_point().tolist())
    assert result["per_image"].tolist() == pytest.approx(expected.per_image().tolist())
    metric.reset()
    nobody = torch.zeros((1, 4), dtype=torch.bool)
    metric.update(torch.zeros((1, 4, 2)), torch.zeros((1, 4, 2)), nobody, torch.ones(1))
    assert torch.isnan(metric.compute()["per_point"]).all()
