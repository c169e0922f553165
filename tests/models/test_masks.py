import pytest
import torch

from jepa_actions.errors import ConfigError
from jepa_actions.models import MASK_KINDS, nearest_visible, sample_mask, sample_ragged_mask

GRID = (4, 6, 6)
PLACES = 36


def draw(kind: str, batch: int = 16, seed: int = 0, grid=GRID):
    return sample_mask(kind, batch, grid, torch.Generator().manual_seed(seed))


def member(ids: torch.Tensor, n: int) -> torch.Tensor:
    return torch.zeros(len(ids), n, dtype=torch.bool).scatter(1, ids, True)


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_visible_and_target_are_disjoint_ascending_and_never_empty(kind, seed):
    mask = draw(kind, seed=seed)
    assert mask.kind == kind
    assert mask.visible.shape[1] > 0
    assert mask.target.shape[1] > 0
    for ids in (mask.visible, mask.target):
        assert (ids.diff(dim=1) > 0).all()  # ascending, hence every token once
        assert ids.min() >= 0
        assert ids.max() < 4 * PLACES
    assert not (member(mask.visible, 4 * PLACES) & member(mask.target, 4 * PLACES)).any()


@pytest.mark.parametrize("seed", range(8))
def test_the_future_mask_hides_everything_after_a_time_and_nothing_before(seed):
    mask = draw("future", seed=seed)
    start = int(mask.target.min()) // PLACES
    assert 1 <= start <= 3
    assert torch.equal(mask.visible, torch.arange(start * PLACES).expand(16, -1))
    assert torch.equal(mask.target, torch.arange(start * PLACES, 4 * PLACES).expand(16, -1))


def test_the_future_begins_at_every_time():
    assert {int(draw("future", seed=seed).target.min()) // PLACES for seed in range(40)} == {1, 2, 3}


@pytest.mark.parametrize("kind", ["short", "long"])
def test_a_tube_hides_the_same_places_at_all_times(kind):
    mask = draw(kind, batch=1)  # alone, no subset is drawn
    hidden = member(mask.target, 4 * PLACES).unflatten(1, (4, PLACES))
    assert (hidden == hidden[:, :1]).all()
    assert (member(mask.visible, 4 * PLACES).unflatten(1, (4, PLACES)) == ~hidden).all()
    many = draw(kind)
    seen, asked = (member(ids, 4 * PLACES).unflatten(1, (4, PLACES)).any(1) for ids in (many.visible, many.target))
    assert not (seen & asked).any()  # a place that is asked for at some time is seen at none


def test_long_tubes_hide_more_than_short_ones():
    share = {kind: draw(kind, batch=1, seed=3).target.shape[1] / (4 * PLACES) for kind in ("short", "long")}
    assert 0.3 < share["short"] < 0.9
    assert share["long"] > 0.6


def test_samples_of_a_batch_have_places_of_their_own():
    assert len({tuple(row.tolist()) for row in draw("short").target}) > 8


@pytest.mark.parametrize("kind", ["short", "long"])
def test_cutting_to_equal_counts_favours_no_part_of_the_picture(kind):
    seen, asked = torch.zeros(4, 6, 6), torch.zeros(4, 6, 6)
    for seed in range(150):
        mask = draw(kind, seed=seed)
        seen += member(mask.visible, 4 * PLACES).sum(0).reshape(GRID)
        asked += member(mask.target, 4 * PLACES).sum(0).reshape(GRID)
    for count in (seen, asked):
        for axis in range(3):  # mirror images are equally likely: first against last half in time, rows, columns
            size = GRID[axis]
            first, last = count.narrow(axis, 0, size // 2).sum(), count.narrow(axis, size // 2, size // 2).sum()
            assert float(first / last) == pytest.approx(1.0, abs=0.06)


def test_one_place_stays_visible_however_large_the_blocks():
    for seed in range(30):
        mask = draw("long", seed=seed, grid=(2, 2, 2))
        assert mask.visible.shape[1] >= 1
        assert mask.target.shape[1] >= 1


def test_the_generator_decides():
    assert torch.equal(draw("short", seed=5).target, draw("short", seed=5).target)
    assert not torch.equal(draw("short", seed=5).visible[:, :3], draw("short", seed=6).visible[:, :3])


def test_a_clip_of_one_step_has_no_future():
    with pytest.raises(ConfigError, match="one time step, at least 2 are needed"):
        draw("future", grid=(1, 4, 4))


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ConfigError, match="expected one of short, long, future, found 'past'"):
        draw("past")


def test_the_nearest_visible_token_is_the_latest_in_place_or_the_closest_in_space():
    grid = (3, 3)
    future = nearest_visible(torch.arange(18)[None], torch.tensor([[18, 26]]), "future", grid)
    assert future.tolist() == [[9, 17]]
    visible = torch.tensor([[0, 8, 9, 17]])  # two opposite corners, at two times
    assert nearest_visible(visible, torch.tensor([[1, 5, 10, 14]]), "short", grid).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_ragged_mask_keeps_every_token_of_every_sample(kind):
    mask = sample_ragged_mask(kind, 16, GRID, torch.Generator().manual_seed(0))
    for visible, target in zip(mask.visible, mask.target, strict=True):
        assert len(visible) > 0
        assert len(target) > 0
        assert torch.equal(torch.cat([visible, target]).sort().values, torch.arange(4 * PLACES))
    if kind != "future":
        assert len({len(visible) for visible in mask.visible}) > 1


def test_an_even_mask_is_a_part_of_the_ragged_one():
    ragged = sample_ragged_mask("short", 16, GRID, torch.Generator().manual_seed(0))
    for row, whole in zip(draw("short").target, ragged.target, strict=True):
        assert set(row.tolist()) <= set(whole.tolist())
