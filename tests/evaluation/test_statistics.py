import numpy as np
import pytest

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.statistics import block_bootstrap, paired_bootstrap, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # published values of the score interval (Newcombe 1998, table I, method 3)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_matches_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_closed_at_the_ends():
    low, high = wilson_interval(20, 20)
    assert high == 1.0
    assert 1 - low == pytest.approx(wilson_interval(0, 20)[1])
    with pytest.raises(ConfigError, match="found 3 of 2"):
        wilson_interval(3, 2)


def test_block_bootstrap_covers_and_sees_dependence():
    covered, widths = 0, []
    for trial in range(25):
        generator = np.random.default_rng(trial)
        blocks = np.repeat(np.arange(30), 20)
        values = np.repeat(generator.normal(size=30), 20) + 0.1 * generator.normal(size=600)
        interval = block_bootstrap(values, blocks, seed=trial, resamples=300)
        covered += interval.low <= 0 <= interval.high
        rows = block_bootstrap(values, np.arange(600), seed=trial, resamples=300)
        widths.append((interval.high - interval.low) / (rows.high - rows.low))
        assert interval.estimate == pytest.approx(values.mean())
    assert covered >= 21
    assert np.mean(widths) > 3  # rows taken as independent would look 4 times too certain


def test_block_bootstrap_takes_any_statistic_of_rows():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=400)
    guess = truth + 0.5 * generator.normal(size=400)

    def r2(rows):
        return 1 - np.square(truth[rows] - guess[rows]).sum() / np.square(truth[rows] - truth[rows].mean()).sum()

    interval = block_bootstrap(r2, np.arange(400) // 10, seed=1, resamples=500)
    assert interval.low < interval.estimate < interval.high
    assert interval.estimate == pytest.approx(r2(np.arange(400)))
    assert interval == block_bootstrap(r2, np.arange(400) // 10, seed=1, resamples=500)


def test_pairing_cancels_what_both_share():
    generator = np.random.default_rng(0)
    hardness = 5 * generator.normal(size=200)
    one = hardness + 0.3 + 0.1 * generator.normal(size=200)
    two = hardness + 0.1 * generator.normal(size=200)
    paired = paired_bootstrap(one, two, seed=0, resamples=500)
    assert 0.2 < paired.low < 0.3 < paired.high < 0.4
    same = paired_bootstrap(
        lambda rows: one[rows].mean(), lambda rows: two[rows].mean(), seed=0, resamples=500, blocks=np.arange(200)
    )
    assert same == pytest.approx(paired)


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="found 1 blocks"):
        block_bootstrap(np.ones(4), np.zeros(4, dtype=int), seed=0)
    with pytest.raises(ConfigError, match=r"shape \(3,\), expected \(4,\)"):
        block_bootstrap(np.ones(3), np.arange(4), seed=0)
    with pytest.raises(ConfigError, match="no blocks"):
        paired_bootstrap(np.ones(3), lambda rows: 0.0, seed=0)
    with pytest.raises(ConfigError, match="confidence"):
        wilson_interval(1, 2, confidence=95)
