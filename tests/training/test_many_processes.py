"""Every loss of two processes, and of parts that one process works through, is the loss of one: to the last digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from launched import launch
from many_processes_worker import CASES, CLIPS, NONE, PATCHES, POOLED, one_step, recipe
from safetensors.torch import load_file

from jepa_actions.errors import ConfigError
from jepa_actions.nn import RowDropout, Share
from jepa_actions.objectives import GoalInverseLossConfig, InverseLossConfig, MaskedConfig, VicRegConfig
from jepa_actions.training.processes import batch_line, check_accumulation, check_batch

IN_PARTS = ("masked", "forward_patches", "inverse_motion", "similarity_patches", "hindsight_patches")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What each of two processes found: the same, or this fails."""
    out = tmp_path_factory.mktemp("many")
    launch(2, Path(__file__).with_name("many_processes_worker.py"), str(out))
    first, second = (load_file(out / f"rank-{rank}.safetensors") for rank in range(2))
    assert set(first) == set(second)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-12, atol=1e-14, msg=name)
    return first


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, check_dtype=False, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_find_what_one_does(two, case):
    expected = one_step(case)
    assert float(sum(value.abs().sum() for name, value in expected.items() if name.startswith("grad"))) > 0
    assert_same({name.split(" | ")[1]: v for name, v in two.items() if name.split(" | ")[0] == case}, expected)


@pytest.mark.parametrize("case", IN_PARTS)
def test_parts_add_up_to_the_batch(case):
    whole, found = one_step(case), one_step(case, accumulate=4)
    meters = {name for name in whole if name.startswith(("log z/", "log target/"))}  # of the first part alone
    meters |= {"log masked/mean_floor"} & set(whole)  # each part's own mean feature
    for name in meters:
        whole.pop(name)
        found.pop(name, None)
    assert_same(found, whole)


@pytest.mark.parametrize("case", IN_PARTS)
def test_parts_of_processes_add_up_too(two, case):
    expected = {name: value for name, value in one_step(case).items() if name.startswith(("grad", "loss"))}
    found = {name.split(" | ")[1]: v for name, v in two.items() if name.split(" | ")[0] == f"{case} in parts"}
    assert_same({name: found[name] for name in expected}, expected)


@pytest.mark.parametrize(
    ("model", "terms", "why"),
    [
        (PATCHES, replace(NONE, sigreg=CASES["sigreg"][1].sigreg), r"objectives\.sigreg compares the distribution"),
        (PATCHES, replace(NONE, vicreg=VicRegConfig()), r"objectives\.vicreg takes variances"),
        (PATCHES, replace(NONE, distance=CASES["distance"][1].distance), r"objectives\.distance follows a quantile"),
        (PATCHES, replace(NONE, subgoal=CASES["subgoal"][1].subgoal), r"objectives\.subgoal divides by the sum"),
        (PATCHES, replace(NONE, features=CASES["features"][1].features), r"objectives\.features standardises"),
        (PATCHES, replace(NONE, masked=MaskedConfig(spread=0.1)), r"objectives\.masked\.spread takes variances"),
        (PATCHES, replace(NONE, goal_inverse=GoalInverseLossConfig()), r"objectives\.goal_inverse\.stitched divides"),
        (
            POOLED,
            replace(NONE, inverse=InverseLossConfig()),
            r"model\.pooler attention standardises .*objectives",
        ),
    ],
)
def test_what_needs_the_whole_batch_is_refused_in_parts(model, terms, why):
    config = replace(recipe("masked", accumulate=2), model=model, objectives=terms)
    with pytest.raises(ConfigError, match=rf"train\.accumulate 2: {why}"):
        check_accumulation(config)
    check_accumulation(replace(config, train=replace(config.train, accumulate=1)))


def test_a_frozen_pooler_may_be_worked_through_in_parts():
    config = replace(
        recipe("masked", accumulate=2), model=POOLED, objectives=replace(NONE, inverse=InverseLossConfig())
    )
    check_accumulation(replace(config, train=replace(config.train, freeze_encoder=True, freeze=("pooler",))))


def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do():
    config = recipe("masked", batch_size=30, accumulate=2)
    with pytest.raises(ConfigError, match=r"found 30, expected a multiple of 8 \(4 processes x 2 parts\).* 24 or 32"):
        check_batch(config, 4)
    scenes = replace(config, data=replace(config.data, scene_clips=4))
    with pytest.raises(ConfigError, match=r"multiple of 16 \(2 processes x 2 parts x 4 clips per scene\).* 16 or 32"):
        check_batch(scenes, 2)
    check_batch(config, 5)
    assert batch_line(config, 5) == "batch of 30 clips of 4 frames: 5 processes x 2 parts x 3 clips"


def test_dropout_draws_for_all_rows_and_keeps_its_own():
    rows = torch.ones(CLIPS, 50)
    drop = RowDropout(0.5)
    torch.manual_seed(1)
    whole = drop(rows)
    torch.manual_seed(1)
    assert torch.equal(whole, torch.nn.functional.dropout(rows, 0.5))
    for part in range(4):
        drop.share = Share(part, 4)
        torch.manual_seed(1)
        assert torch.equal(drop(rows[:2]), whole[2 * part : 2 * part + 2])
    assert torch.equal(drop.eval()(rows), rows)
