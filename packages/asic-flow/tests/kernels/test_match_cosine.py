"""What `match_cosine` and `match_cosine_pairs` promise, on the CPU path and the reference."""

from __future__ import annotations

import pytest
import torch

from asic_flow.kernels import match_cosine, match_cosine_pairs
from asic_flow.kernels.match_cosine import _torch, reference

IMPLEMENTATIONS = ("torch", "reference")


def descriptors(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def on_a_lattice(rows: int, seed: int) -> torch.Tensor:
    """Unit rows with four entries of +-1/2: every similarity is exact in float32, and most are tied."""
    generator = torch.Generator().manual_seed(seed)
    rows_of_signs = torch.randint(0, 2, (rows, 4), generator=generator).float() - 0.5
    places = torch.rand(rows, 6, generator=generator).argsort(1)[:, :4]
    return torch.zeros(rows, 6).scatter_(1, places, rows_of_signs)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(_torch, "TILE_ROWS", 16)
    monkeypatch.setattr(_torch, "TILE_COLUMNS", 24)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_hand_made_case_keeps_only_the_mutual_pairs(impl):
    a = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    b = torch.tensor([[0.0, 2.0], [5.0, 0.0]])
    found = match_cosine(a, b, impl=impl)
    assert found.index_a.tolist() == [0, 2]
    assert found.index_b.tolist() == [1, 0]
    assert found.score.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("rows", "columns", "width"), [(1, 1, 1), (70, 53, 7), (33, 129, 384), (16, 24, 16), (5, 200, 17)]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pairs_are_the_float64_ones_on_the_same_rounded_input(rows, columns, width, dtype):
    a, b = descriptors(rows, width, 0).to(dtype), descriptors(columns, width, 1).to(dtype)
    index_a, index_b, score = reference.match_mutual(a.double(), b.double())
    found = match_cosine(a, b, impl="torch")
    assert found.index_a.tolist() == index_a.tolist()
    assert found.index_b.tolist() == index_b.tolist()
    torch.testing.assert_close(found.score.double(), score, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_lowest_index_wins_every_tie(seed):
    a, b = on_a_lattice(70, seed), on_a_lattice(90, seed + 100)
    index_a, index_b, score = reference.match_mutual(a, b)
    found = match_cosine(a, b, impl="torch")
    assert found.index_a.tolist() == index_a.tolist()
    assert found.index_b.tolist() == index_b.tolist()
    assert found.score.tolist() == score.tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_k", [1, 3, 40])
def test_rankings_hold_the_k_best_both_ways_lowest_index_first(seed, top_k):
    a, b = on_a_lattice(40, seed), on_a_lattice(57, seed + 100)
    index_ab, score_ab, index_ba, score_ba = reference.nearest_both_ways(a, b, top_k)
    found = match_cosine(a, b, mutual=False, top_k=top_k, impl="torch")
    assert found.index_ab.tolist() == index_ab.tolist()
    assert found.score_ab.tolist() == score_ab.tolist()
    assert found.index_ba.tolist() == index_ba.tolist()
    assert found.score_ba.tolist() == score_ba.tolist()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_set_matches_nothing(impl, rows, columns):
    found = match_cosine(torch.zeros(rows, 8), torch.zeros(columns, 8), impl=impl)
    assert found.index_a.shape == found.index_b.shape == found.score.shape == (0,)
    assert found.index_a.dtype == found.index_b.dtype == torch.int64
    assert found.score.dtype == torch.float32


def test_a_zero_row_has_similarity_zero():
    found = match_cosine(torch.zeros(1, 4), torch.ones(1, 4))
    assert found.score.tolist() == [0.0]


def test_strided_input_and_scaled_rows_change_nothing():
    a, b = descriptors(40, 24, 0), descriptors(30, 24, 1)
    plain = match_cosine(a, b)
    strided = match_cosine(a.repeat_interleave(2, 0)[::2], b.T.contiguous().T * 7)
    assert strided.index_a.tolist() == plain.index_a.tolist()
    assert strided.index_b.tolist() == plain.index_b.tolist()


def test_the_input_is_left_alone():
    a = descriptors(40, 24, 0)
    before = a.clone()
    match_cosine(a, a)
    assert torch.equal(a, before)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_pairs_of_a_collection_match_as_each_pair_alone(impl):
    sizes = [20, 0, 33, 17]
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    flat = descriptors(sum(sizes), 12, 0)
    pairs = torch.tensor([[0, 2], [3, 0], [1, 2], [2, 2]])
    found = match_cosine_pairs(flat, offsets, pairs, impl=impl)
    assert found.offsets.dtype == torch.int64
    for position, (i, j) in enumerate(pairs.tolist()):
        alone = match_cosine(flat[offsets[i] : offsets[i + 1]], flat[offsets[j] : offsets[j + 1]], impl=impl)
        here = slice(found.offsets[position], found.offsets[position + 1])
        assert torch.equal(found.index_a[here], alone.index_a)
        assert torch.equal(found.index_b[here], alone.index_b)
        assert torch.equal(found.score[here], alone.score)


def test_no_pairs_give_no_matches():
    found = match_cosine_pairs(torch.ones(3, 2), torch.tensor([0, 3]), torch.empty(0, 2, dtype=torch.int64))
    assert found.offsets.tolist() == [0]
    assert found.index_a.shape == (0,)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_descriptors_that_are_not_finite_are_refused(bad):
    a = torch.ones(3, 2)
    a[1, 0] = bad
    with pytest.raises(ValueError, match="a holds a descriptor that is not finite"):
        match_cosine(a, torch.ones(3, 2))
    with pytest.raises(ValueError, match="b holds a descriptor that is not finite"):
        match_cosine(torch.ones(3, 2), a)


def test_arguments_that_do_not_fit_are_refused():
    ones = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"a must be \(rows, width\)"):
        match_cosine(torch.ones(3), ones)
    with pytest.raises(TypeError, match="b must be float16"):
        match_cosine(ones, ones.double())
    with pytest.raises(ValueError, match="one width, got 2 and 4"):
        match_cosine(ones, torch.ones(3, 4))
    with pytest.raises(ValueError, match="on one device"):
        match_cosine(ones, torch.ones(3, 2, device="meta"))
    with pytest.raises(ValueError, match="top_k must be 1 for mutual matches, got 2"):
        match_cosine(ones, ones, top_k=2)
    with pytest.raises(ValueError, match="smaller set's size 3, got 4"):
        match_cosine(ones, ones, mutual=False, top_k=4)
    with pytest.raises(ValueError, match="impl must be auto"):
        match_cosine(ones, ones, impl="fast")


@pytest.mark.parametrize("offsets", [[1, 3], [0, 2], [0, 4, 3], []])
def test_offsets_that_do_not_cover_the_rows_are_refused(offsets):
    with pytest.raises(ValueError, match="offsets must rise from 0 to the 3 rows"):
        match_cosine_pairs(torch.ones(3, 2), torch.tensor(offsets, dtype=torch.int64), torch.tensor([[0, 0]]))


def test_pairs_that_name_no_set_are_refused():
    ones, offsets = torch.ones(3, 2), torch.tensor([0, 3])
    with pytest.raises(ValueError, match="pairs must name sets 0 to 0, got indices from 0 to 1"):
        match_cosine_pairs(ones, offsets, torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match=r"pairs must be \(P, 2\)"):
        match_cosine_pairs(ones, offsets, torch.tensor([0, 0]))
    with pytest.raises(TypeError, match="pairs must be int32 or int64"):
        match_cosine_pairs(ones, offsets, torch.tensor([[0.0, 0.0]]))
    with pytest.raises(TypeError, match="offsets must be int32 or int64"):
        match_cosine_pairs(ones, offsets.float(), torch.tensor([[0, 0]]))
