"""`match_cosine` and `match_cosine_pairs` against hand-made cases, float64 and exact ties."""

from __future__ import annotations

import pytest
import torch

from asic_flow.kernels import match_cosine, match_cosine_pairs
from asic_flow.kernels.match_cosine import _bfloat16, _torch, reference

# Worst case of the key's 25 bits, and of a product of unit rows rounded to 11 bits each, with room for the sums.
HALF_ERROR = 2.0**-15 + 2.0**-10 + 1e-5

both_precisions = pytest.mark.parametrize("precision", ["float32", "half"])


def on_a_lattice(rows: int, seed: int) -> torch.Tensor:
    """Unit rows with four entries of +-1/2: every similarity is exact in any precision, and most are tied."""
    generator = torch.Generator().manual_seed(seed)
    rows_of_signs = torch.randint(0, 2, (rows, 4), generator=generator).float() - 0.5
    places = torch.rand(rows, 6, generator=generator).argsort(1)[:, :4]
    return torch.zeros(rows, 6).scatter_(1, places, rows_of_signs)


def match(backend, a, b, **options):
    points = {name: options[name].to(backend.device) for name in ("canonical_a", "canonical_b") if name in options}
    return match_cosine(a.to(backend.device), b.to(backend.device), impl=backend.impl, **(options | points))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    for module in (_torch, _bfloat16):
        monkeypatch.setattr(module, "TILE_ROWS", 16)
        monkeypatch.setattr(module, "TILE_COLUMNS", 24)


@both_precisions
def test_a_hand_made_case_keeps_only_the_mutual_pairs(backend, precision):
    a = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    b = torch.tensor([[0.0, 2.0], [5.0, 0.0]])
    found = match(backend, a, b, precision=precision)
    assert found.index_a.tolist() == [0, 2]
    assert found.index_b.tolist() == [1, 0]
    assert found.score.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("rows", "columns", "width"), [(1, 1, 1), (70, 53, 7), (33, 129, 100), (16, 24, 16), (5, 200, 17), (150, 140, 64)]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pairs_are_the_float64_ones_on_the_same_rounded_input(backend, draw, rows, columns, width, dtype):
    a, b = draw(rows, width).to(dtype), draw(columns, width, seed=1).to(dtype)
    index_a, index_b, score = reference.match_mutual(a.double(), b.double(), None, False)
    found = match(backend, a, b, precision="float32")
    assert found.index_a.tolist() == index_a.tolist()
    assert found.index_b.tolist() == index_b.tolist()
    torch.testing.assert_close(found.score.cpu().double(), score, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("rows", "columns", "width"), [(1, 1, 1), (70, 53, 7), (33, 129, 100), (200, 140, 16)])
def test_half_precision_partners_are_best_within_its_error(backend, draw, rows, columns, width):
    # A common part, as descriptors of one category have, brings the similarities close to each other.
    a, b = draw(rows, width) + 1, draw(columns, width, seed=1) + 1
    scores = reference.similarity(a, b)
    found = match(backend, a.float(), b.float(), precision="half")
    index_a, index_b = found.index_a.cpu(), found.index_b.cpu()
    reached = scores[index_a, index_b]
    assert (reached >= scores.amax(1)[index_a] - 2 * HALF_ERROR).all()
    assert (reached >= scores.amax(0)[index_b] - 2 * HALF_ERROR).all()
    torch.testing.assert_close(found.score.cpu().double(), reached, rtol=0, atol=1e-6)
    # Pairs that win by more than the error on both sides must be there.
    best, second = scores.topk(min(2, columns), 1).values.T[[0, -1]]
    best_back, second_back = scores.topk(min(2, rows), 0).values[[0, -1]]
    pairs = reference.match_mutual(a, b, None, False)
    safe_row = (best - second)[pairs[0]] > 2 * HALF_ERROR
    safe_column = (best_back - second_back)[pairs[1]] > 2 * HALF_ERROR
    expected = {(i, j) for i, j in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True)}
    certain = {pair for pair, safe in zip(sorted(expected), (safe_row & safe_column).tolist(), strict=True) if safe}
    assert certain <= set(zip(index_a.tolist(), index_b.tolist(), strict=True))


def test_half_precision_on_the_cpu_finds_the_float64_pairs(draw):
    a, b = draw(300, 64) + 1.5, draw(280, 64, seed=1) + 1.5
    index_a, index_b, _ = reference.match_mutual(a, b, None, False)
    found = match_cosine(a.float(), b.float(), precision="half", impl="torch")
    assert found.index_a.tolist() == index_a.tolist()
    assert found.index_b.tolist() == index_b.tolist()


def test_a_crowd_of_equal_descriptors_is_decided_in_float32(draw):
    a, b = draw(300, 8).float(), draw(280, 8, seed=1).float()
    a[40:], b[60:] = a[40], a[40]
    assert _bfloat16.match_mutual(a, b, None) is None
    found, expected = (match_cosine(a, b, precision=precision, impl="torch") for precision in ("half", "float32"))
    assert torch.equal(found.index_a, expected.index_a)
    assert torch.equal(found.index_b, expected.index_b)
    assert found.index_b[found.index_a == 40] == 60


@both_precisions
@pytest.mark.parametrize("seed", range(3))
def test_the_lowest_index_wins_every_tie(backend, precision, seed):
    a, b = on_a_lattice(150, seed), on_a_lattice(170, seed + 100)
    index_a, index_b, score = reference.match_mutual(a, b, None, False)
    found = match(backend, a, b, precision=precision)
    assert found.index_a.tolist() == index_a.tolist()
    assert found.index_b.tolist() == index_b.tolist()
    assert found.score.tolist() == score.tolist()


@both_precisions
def test_ties_that_half_precision_cannot_see_are_settled_in_float32(backend, draw, precision):
    """Three rows and three columns a plane, at angles of a few thousandths: similarities differ by 2e-6 to 2^-15."""
    angles = torch.rand(2, 49, 3, generator=torch.Generator().manual_seed(0)).argsort(2) * 3.4e-3
    angles[1] += 1e-3
    planes, _ = torch.linalg.qr(draw(100, 98))
    across, down = planes.T.view(49, 1, 2, 100).unbind(2)
    a, b = ((angle.cos() * across + angle.sin() * down).flatten(0, 1).float() for angle in angles.double()[..., None])
    scores = reference.similarity(a.double(), b.double())
    index_a, index_b, score = reference.match_mutual(a.double(), b.double(), None, False)
    assert index_a.tolist() == list(range(147)) != index_b.tolist()
    for best in (scores.topk(3, 1).values, scores.topk(3, 0).values.T):
        assert (best[:, 0] - best[:, 1]).min() > 2e-6
        assert (best[:, 0] - best[:, 2]).max() < 2.0**-15
    found = match(backend, a, b, precision=precision)
    assert found.index_a.tolist() == index_a.tolist()
    assert found.index_b.tolist() == index_b.tolist()
    torch.testing.assert_close(found.score.cpu().double(), score, rtol=0, atol=1e-6)


@both_precisions
def test_duplicates_of_every_row_lose_to_the_first(backend, precision):
    a = torch.eye(40).repeat(4, 1)
    found = match(backend, a, a, precision=precision)
    assert found.index_a.tolist() == found.index_b.tolist() == list(range(40))


@pytest.mark.parametrize("top_k", [1, 3, 40])
def test_rankings_hold_the_k_best_both_ways_lowest_index_first(backend, top_k):
    a, b = on_a_lattice(40, 0), on_a_lattice(77, 100)
    index_ab, score_ab, index_ba, score_ba = reference.rank_both_ways(a, b, top_k, None)
    found = match(backend, a, b, mutual=False, top_k=top_k)
    assert found.index_ab.tolist() == index_ab.tolist()
    assert found.score_ab.tolist() == score_ab.tolist()
    assert found.index_ba.tolist() == index_ba.tolist()
    assert found.score_ba.tolist() == score_ba.tolist()


@pytest.mark.parametrize("top_k", [1, 4])
def test_a_guide_biases_rankings_and_not_their_scores(backend, draw, top_k):
    a, b, weight = draw(60, 16).float(), draw(50, 16, seed=1).float(), 0.5
    points = draw(110, 2, seed=2).clamp(-1, 1).float()
    guide = {"canonical_a": points[:60], "canonical_b": points[60:], "distance_weight": weight}
    cosines = reference.similarity(a.double(), b.double())
    biased = cosines - weight * torch.cdist(points[:60].double(), points[60:].double()).square()
    found = match(backend, a, b, mutual=False, top_k=top_k, **guide)
    for index, score, cosine, rank in (
        (found.index_ab, found.score_ab, cosines, biased),
        (found.index_ba, found.score_ba, cosines.T, biased.T),
    ):
        torch.testing.assert_close(rank.gather(1, index.cpu()), rank.topk(top_k, 1).values, rtol=0, atol=1e-5)
        torch.testing.assert_close(score.cpu().double(), cosine.gather(1, index.cpu()), rtol=0, atol=1e-5)
    assert found.index_ab.tolist() != match(backend, a, b, mutual=False, top_k=top_k).index_ab.tolist()


@both_precisions
@pytest.mark.parametrize("guided", [False, True])
def test_a_foreground_is_matched_as_its_rows_alone(backend, draw, precision, guided):
    a, b, points = draw(60, 12).float(), draw(50, 12, seed=1).float(), draw(110, 2, seed=2).float()
    kept_a, kept_b = draw(60, seed=3) > 0, draw(50, seed=4) > 0
    a[~kept_a], b[~kept_b], points[~torch.cat((kept_a, kept_b))] = float("nan"), float("inf"), 0.0
    rows, columns = kept_a.nonzero().squeeze(1), kept_b.nonzero().squeeze(1)
    u, v, weight = points[:60], points[60:], 0.2
    guide = {"canonical_a": u, "canonical_b": v, "distance_weight": weight} if guided else {}
    guide_alone = {"canonical_a": u[rows], "canonical_b": v[columns], "distance_weight": weight} if guided else {}
    alone = match(backend, a[rows], b[columns], precision=precision, **guide_alone)
    masks = {"foreground_a": kept_a.to(backend.device), "foreground_b": kept_b.to(backend.device)}
    found = match(backend, a, b, precision=precision, **masks, **guide)
    assert found.index_a.tolist() == rows[alone.index_a.cpu()].tolist()
    assert found.index_b.tolist() == columns[alone.index_b.cpu()].tolist()
    assert torch.equal(found.score, alone.score)
    one_side = match(backend, a[rows], b, precision=precision, foreground_b=masks["foreground_b"])
    assert set(one_side.index_b.tolist()) <= set(columns.tolist())


@both_precisions
def test_a_foreground_of_nothing_matches_nothing(backend, precision):
    nothing = torch.zeros(3, dtype=torch.bool, device=backend.device)
    bad = torch.full((3, 4), float("nan"))
    found = match(backend, bad, torch.ones(3, 4), precision=precision, foreground_a=nothing)
    assert found.index_a.shape == found.index_b.shape == found.score.shape == (0,)
    offsets, pairs = torch.tensor([0, 2, 3]), torch.tensor([[0, 1], [1, 0]])
    ragged = match_cosine_pairs(bad.to(backend.device), offsets, pairs, foreground=nothing, impl=backend.impl)
    assert ragged.offsets.tolist() == [0, 0, 0]


@both_precisions
@pytest.mark.parametrize("weight", [0.1, 5.0])
def test_a_guide_biases_the_choice_and_not_the_score(backend, draw, precision, weight):
    a, b = draw(60, 16), draw(50, 16, seed=1)
    points = draw(110, 2, seed=2).clamp(-1, 1).float()
    guide = {"canonical_a": points[:60], "canonical_b": points[60:], "distance_weight": weight}
    biased = reference.similarity(a, b) - weight * torch.cdist(points[:60].double(), points[60:].double()).square()
    found = match(backend, a.float(), b.float(), precision=precision, **guide)
    index_a, index_b = found.index_a.cpu(), found.index_b.cpu()
    slack = 1e-5 if precision == "float32" else 2 * HALF_ERROR * (1 + 8 * weight)
    assert (biased[index_a, index_b] >= biased.amax(1)[index_a] - slack).all()
    assert (biased[index_a, index_b] >= biased.amax(0)[index_b] - slack).all()
    torch.testing.assert_close(
        found.score.cpu().double(), reference.similarity(a, b)[index_a, index_b], rtol=0, atol=2e-6 * (1 + 8 * weight)
    )
    mutual = biased.argmax(0)[biased.argmax(1)] == torch.arange(60)
    assert abs(len(index_a) - int(mutual.sum())) <= (0 if precision == "float32" else 2)
    unguided = match(backend, a.float(), b.float(), precision=precision)
    assert unguided.index_b.tolist() != found.index_b.tolist()


@both_precisions
def test_a_guide_alone_finds_the_nearest_points(backend, draw, precision):
    """With equal descriptors the bias decides; its terms are large and nearly cancel."""
    weight = 40.0
    points = draw(240, 2).clamp(-1, 1)
    u, v = points[:120], points[120:]
    ones = torch.ones(120, 4)
    guide = {"canonical_a": u.float(), "canonical_b": v.float(), "distance_weight": weight}
    found = match(backend, ones, ones, precision=precision, **guide)
    lost = weight * torch.cdist(u, v).square()
    # One step of the key at the guide's scale, and float32's rounding of terms of this size.
    slack = 1e-4 + (2.0**-15 * (1 + 8 * weight) if precision == "half" and backend.impl == "triton" else 0)
    index_a, index_b = found.index_a.cpu(), found.index_b.cpu()
    assert (lost[index_a, index_b] <= lost.amin(1)[index_a] + slack).all()
    assert (lost[index_a, index_b] <= lost.amin(0)[index_b] + slack).all()
    mutual = lost.argmin(0)[lost.argmin(1)] == torch.arange(120)
    assert abs(len(index_a) - int(mutual.sum())) <= 1


def test_a_guide_of_weight_zero_changes_nothing(backend, draw):
    a, b, points = draw(30, 16).float(), draw(30, 16, seed=1).float(), draw(30, 2, seed=2).float()
    plain = match(backend, a, b)
    assert torch.equal(match(backend, a, b, canonical_a=points, canonical_b=points).index_b, plain.index_b)


@both_precisions
@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_set_matches_nothing(backend, precision, rows, columns):
    found = match(backend, torch.zeros(rows, 8), torch.zeros(columns, 8), precision=precision)
    assert found.index_a.shape == found.index_b.shape == found.score.shape == (0,)
    assert found.index_a.dtype == found.index_b.dtype == torch.int64
    assert found.score.dtype == torch.float32


@both_precisions
def test_a_zero_row_has_similarity_zero(backend, precision):
    assert match(backend, torch.zeros(1, 4), torch.ones(1, 4), precision=precision).score.tolist() == [0.0]


@both_precisions
def test_strided_input_and_scaled_rows_change_nothing(backend, draw, precision):
    a, b = draw(40, 24).float(), draw(30, 24, seed=1).float()
    plain = match(backend, a, b, precision=precision)
    device = backend.device
    strided = match_cosine(
        a.to(device).repeat_interleave(2, 0)[::2],
        b.to(device).T.contiguous().T * 8,
        precision=precision,
        impl=backend.impl,
    )
    assert strided.index_a.tolist() == plain.index_a.tolist()
    assert strided.index_b.tolist() == plain.index_b.tolist()


@both_precisions
def test_the_input_is_left_alone_and_the_result_repeats(backend, draw, precision):
    a, b = draw(140, 24).float(), draw(130, 24, seed=1).float()
    before = a.clone()
    first, second = (match(backend, a, b, precision=precision) for _ in range(2))
    assert torch.equal(a, before)
    assert torch.equal(first.index_b, second.index_b)
    assert torch.equal(first.score, second.score)


@both_precisions
def test_the_foreground_of_a_collection_is_matched_as_each_pair_alone(backend, draw, precision):
    sizes = [20, 1, 40, 17]
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    flat, points = draw(sum(sizes), 12).float(), draw(sum(sizes), 2, seed=1).clamp(-1, 1).float()
    foreground = draw(sum(sizes), seed=2) > 0
    foreground[20] = False
    flat[~foreground] = float("nan")
    flat, points, foreground = (t.to(backend.device) for t in (flat, points, foreground))
    pairs = torch.tensor([[0, 2], [1, 0], [3, 0], [2, 2]])
    options = {"precision": precision, "impl": backend.impl, "distance_weight": 0.3}
    found = match_cosine_pairs(flat, offsets, pairs, foreground=foreground, canonical=points, **options)
    for position, (i, j) in enumerate(pairs.tolist()):
        rows, columns = slice(offsets[i], offsets[i + 1]), slice(offsets[j], offsets[j + 1])
        own = {"canonical_a": points[rows], "canonical_b": points[columns]}
        masks = {"foreground_a": foreground[rows], "foreground_b": foreground[columns]}
        alone = match_cosine(flat[rows], flat[columns], **masks, **own, **options)
        part = slice(found.offsets[position], found.offsets[position + 1])
        assert found.index_a[part].tolist() == alone.index_a.tolist()
        assert found.index_b[part].tolist() == alone.index_b.tolist()
    assert found.offsets[0] == 0
    assert found.offsets[1] > 0


@both_precisions
@pytest.mark.parametrize("guided", [False, True])
def test_pairs_of_a_collection_match_as_each_pair_alone(backend, draw, precision, guided):
    sizes = [20, 0, 150, 17]
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    flat = draw(sum(sizes), 12).float().to(backend.device)
    points = draw(sum(sizes), 2, seed=1).clamp(-1, 1).float().to(backend.device)
    guide = {"canonical": points, "distance_weight": 1.0} if guided else {}
    pairs = torch.tensor([[0, 2], [3, 0], [1, 2], [2, 2], [2, 1]])
    options = {"precision": precision, "impl": backend.impl}
    found = match_cosine_pairs(flat, offsets, pairs, **guide, **options)
    assert found.offsets.dtype == torch.int64
    for position, (i, j) in enumerate(pairs.tolist()):
        rows, columns = slice(offsets[i], offsets[i + 1]), slice(offsets[j], offsets[j + 1])
        own = {"canonical_a": points[rows], "canonical_b": points[columns], "distance_weight": 1.0} if guided else {}
        alone = match_cosine(flat[rows], flat[columns], **own, **options)
        here = slice(found.offsets[position], found.offsets[position + 1])
        assert found.index_a[here].tolist() == alone.index_a.tolist()
        assert found.index_b[here].tolist() == alone.index_b.tolist()
        torch.testing.assert_close(found.score[here], alone.score, rtol=0, atol=1e-5)


def test_pairs_that_do_not_fit_one_launch_are_taken_in_groups(backend, draw, monkeypatch):
    if backend.impl != "triton":
        pytest.skip("one pair at a time")
    from asic_flow.kernels.match_cosine import _triton

    offsets = torch.tensor([0, 20, 45, 60], device=backend.device)
    flat = draw(60, 12).float().to(backend.device)
    pairs = torch.tensor([[0, 1], [1, 2], [2, 0], [1, 1]])
    whole = match_cosine_pairs(flat, offsets, pairs, impl="triton")
    monkeypatch.setattr(_triton, "KEYS_A_LAUNCH", 48)
    grouped = match_cosine_pairs(flat, offsets, pairs, impl="triton")
    for name in ("offsets", "index_a", "index_b", "score"):
        assert torch.equal(getattr(whole, name), getattr(grouped, name))


@pytest.mark.parametrize("width", [6, 410])
def test_columns_that_stay_and_columns_that_stream_agree(backend, monkeypatch, width):
    if backend.impl != "triton":
        pytest.skip("Triton's two ways")
    from asic_flow.kernels.match_cosine import _triton

    a, b = (torch.nn.functional.pad(on_a_lattice(150, seed), (0, width - 6)) for seed in (0, 100))
    index_a, index_b, _ = reference.match_mutual(a, b, None, False)
    for resident_width in (512, 0):
        monkeypatch.setattr(_triton, "RESIDENT_WIDTH", resident_width)
        found = match(backend, a, b, precision="half")
        assert found.index_a.tolist() == index_a.tolist()
        assert found.index_b.tolist() == index_b.tolist()


def test_rows_beyond_one_part_are_walked_by_several_programs(backend, draw, monkeypatch):
    if backend.impl != "triton":
        pytest.skip("one program")
    from asic_flow.kernels.match_cosine import _triton

    a, b = draw(600, 8).float(), draw(50, 8, seed=1).float()
    whole = match(backend, a, b, precision="half")
    monkeypatch.setattr(_triton, "TILES_A_PART", 2)
    assert torch.equal(match(backend, a, b, precision="half").index_a, whole.index_a)


def test_no_pairs_give_no_matches(backend):
    ones, offsets = torch.ones(3, 2, device=backend.device), torch.tensor([0, 3])
    found = match_cosine_pairs(ones, offsets, torch.empty(0, 2, dtype=torch.int64), impl=backend.impl)
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
    with pytest.raises(ValueError, match="descriptors holds a descriptor that is not finite"):
        match_cosine_pairs(a, torch.tensor([0, 3]), torch.tensor([[0, 0]]))


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
    with pytest.raises(ValueError, match="rankings are of all rows and in float32"):
        match_cosine(ones, ones, mutual=False, precision="half")
    with pytest.raises(ValueError, match="rankings are of all rows and in float32"):
        match_cosine(ones, ones, mutual=False, foreground_b=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"foreground_a must be \(3,\), got shape \(2,\)"):
        match_cosine(ones, ones, foreground_a=torch.ones(2, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"foreground_b must be bool, got torch.float32"):
        match_cosine(ones, ones, foreground_b=torch.ones(3))
    with pytest.raises(ValueError, match="foreground_b must be on cpu with its descriptors, got meta"):
        match_cosine(ones, ones, foreground_b=torch.ones(3, dtype=torch.bool, device="meta"))
    with pytest.raises(ValueError, match="precision must be auto, half or float32, got 'int8'"):
        match_cosine(ones, ones, precision="int8")
    with pytest.raises(ValueError, match="impl must be auto"):
        match_cosine(ones, ones, impl="fast")


def test_guides_that_do_not_fit_are_refused():
    ones, offsets, pairs = torch.ones(3, 2), torch.tensor([0, 3]), torch.tensor([[0, 0]])

    def guided(canonical_b, weight=1.0):
        return match_cosine(ones, ones, canonical_a=ones, canonical_b=canonical_b, distance_weight=weight)

    with pytest.raises(ValueError, match="got only some of them"):
        guided(None)
    with pytest.raises(ValueError, match="got only some of them"):
        match_cosine(ones, ones, distance_weight=1.0)
    with pytest.raises(ValueError, match="got only a distance_weight"):
        match_cosine_pairs(ones, offsets, pairs, distance_weight=1.0)
    with pytest.raises(ValueError, match=r"canonical_b must be \(3, 2\), got shape \(2, 2\)"):
        guided(ones[:2])
    with pytest.raises(TypeError, match="canonical_b must be float32"):
        guided(ones.double())
    with pytest.raises(ValueError, match="canonical_b must be on cpu with its descriptors"):
        guided(ones.to("meta"))
    with pytest.raises(ValueError, match="canonical_b must be finite"):
        guided(ones / 0)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="distance_weight must be 0 or more and finite"):
            guided(ones, weight)
    with pytest.raises(ValueError, match=r"distance_weight 1000.0 takes up to 8e\+03 from a cosine"):
        guided(-ones, 1000.0)


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
