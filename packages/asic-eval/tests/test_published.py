from __future__ import annotations

import pytest

from asic_eval import PUBLISHED, asic_per_category
from asic_eval.benchmarks.spair import CATEGORIES


def test_every_row_says_what_it_is() -> None:
    for row in (*PUBLISHED, *asic_per_category()):
        assert 0.0 < row.value < 100.0
        assert row.method
        assert row.benchmark.split("/")[0] in {"SPair-71k", "CUB-200-2011", "PF-PASCAL", "PF-WILLOW"}
        assert "PCK@0." in row.metric
        assert row.setting
        assert row.source
    keys = [(row.method, row.benchmark, row.metric, row.setting) for row in (*PUBLISHED, *asic_per_category())]
    assert len(set(keys)) == len(keys) == 48 + 57


def value_of(method: str, benchmark: str, metric: str = "PCK@0.10", setting: str = "") -> list[float]:
    return [
        row.value
        for row in PUBLISHED
        if (row.method, row.benchmark, row.metric) == (method, benchmark, metric) and setting in row.setting
    ]


def test_rows_that_people_quote() -> None:
    assert value_of("ASIC (paper)", "SPair-71k") == [36.9]
    assert value_of("ASIC (code)", "SPair-71k") == [36.5]
    assert value_of("FastJAM", "SPair-71k", setting="mirror-aware") == [53.0]
    assert value_of("DIFT", "SPair-71k", setting="per point") == [57.7]
    assert value_of("DIFT", "SPair-71k", setting="per image") == [52.9]
    assert value_of("MATCHA", "PF-WILLOW") == [97.0]


def test_the_table_of_categories_agrees_with_its_average() -> None:
    rows = {row.benchmark: row for row in asic_per_category() if row.metric == "PCK@0.10"}
    assert set(rows) == {f"SPair-71k/{name}" for name in (*CATEGORIES, "average")}
    average = rows.pop("SPair-71k/average")
    assert average.std == 1.06
    # The published average is of unrounded scores.
    assert sum(row.value for row in rows.values()) / 18 == pytest.approx(average.value, abs=0.06)
    for metric, published in (("2-cycle PCK@0.10", 54.8), ("3-cycle PCK@0.10", 45.7)):
        values = {row.benchmark: row.value for row in asic_per_category() if row.metric == metric}
        assert values.pop("SPair-71k/average") == published
        assert sum(values.values()) / 18 == pytest.approx(published, abs=0.06)
