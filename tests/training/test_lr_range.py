"""The learning-rate range test: on curves with a known answer, and on a recipe."""

import itertools
import json
import math

import numpy as np
import pytest
from tiny_world import tiny_recipe

from jepa_actions.errors import ConfigError
from jepa_actions.training import train
from jepa_actions.training.lr_range import LrRange, exploded, lr_range, smooth, suggest, write_lr_range

RANGE = LrRange(1e-6, 1.0, 100)
RATES = [RANGE.rate(step) for step in range(100)]


def curve(noise: float = 0.0, fall: float = 3.0, seed: int = 0) -> list[float]:
    """A loss of 4 that falls around a rate of 1e-3 and explodes around 0.1."""
    drawn = noise * np.random.default_rng(seed).standard_normal(len(RATES))
    return [
        4.0 - fall / (1.0 + math.exp(-4.0 * math.log10(rate / 1e-3))) + 5.0 * (rate / 0.1) ** 3 + float(error)
        for rate, error in zip(RATES, drawn, strict=True)
    ]


def test_rates_rise_by_one_factor_from_the_first_to_the_last():
    ratios = [b / a for a, b in itertools.pairwise(RATES)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert (RATES[0], RATES[-1]) == (pytest.approx(1e-6), pytest.approx(1.0))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_rate_of_the_steepest_fall_is_suggested(noise):
    found = suggest(RATES, curve(noise))
    assert 3e-4 < found["suggested"] < 5e-3  # the mean over steps lags a little
    assert found["suggested"] <= found["lowest"] / 3 * 1.0001
    assert f"fell fastest at {found['fastest']:.2g}" in found["how"]


def test_a_loss_that_only_shakes_suggests_nothing():
    found = suggest(RATES[:60], curve(noise=0.3, fall=0.0)[:60])
    assert found["suggested"] is None
    assert "did not fall by more than its noise" in found["how"]


def test_an_explosion_is_seen_and_a_fall_is_none():
    losses = curve()
    stop = next(i for i in range(1, 100) if exploded(losses[:i]))
    assert 0.05 < RATES[stop - 1] < 0.5
    assert suggest(RATES[:stop], losses[:stop])["exploded"] == RATES[stop - 1]
    assert not exploded([4.0 / (1 + i) for i in range(100)])


def test_the_first_smoothed_loss_is_the_first_loss():
    assert smooth([3.0, 3.0, 3.0]) == pytest.approx([3.0, 3.0, 3.0])


@pytest.mark.parametrize("wrong", [{"low": 0.0}, {"low": 1.0, "high": 0.1}, {"steps": 5}])
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match="lr_range: found from"):
        LrRange(**wrong)


def test_a_recipe_is_tried_and_nothing_is_left_but_the_report(tmp_path):
    recipe = tiny_recipe(tmp_path, steps=4, checkpoint_every=2, log_every=2)
    train(recipe, quiet=True)
    run = tmp_path / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    found = lr_range(recipe, LrRange(1e-5, 1e-2, 12), quiet=True)
    assert len(found["losses"]) == 12
    assert found["rates"] == pytest.approx([1e-5 * 1000 ** (i / 11) for i in range(12)])
    assert len(set(found["losses"])) == 12
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (run / ".lr_range").exists()
    table, picture = write_lr_range(found, run)
    assert json.loads(table.read_text())["how"] == found["how"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_range_ends_where_the_loss_explodes(tmp_path):
    found = lr_range(tiny_recipe(tmp_path), LrRange(1e-2, 1e3, 40), quiet=True)
    assert len(found["losses"]) < 40
    assert found["exploded"] == found["rates"][-1] or found["exploded"] is None
