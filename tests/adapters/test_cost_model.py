from __future__ import annotations

import numpy as np
import pytest
import torch
from painted_worlds import Painted, codec, solver_info

from jepa_actions.adapters.stable_worldmodel import CostModel, Pictures, resize_area
from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.evaluation.control import Control
from jepa_actions.planning import LatentCost

STARTS, GOALS = [(100.0, 60.0), (20.0, 30.0)], [(90.0, 70.0), (25.0, 21.0)]


def raw_candidates(samples: int = 5, horizon: int = 3, *, seed: int = 0) -> torch.Tensor:
    """Raw actions of two problems, some of them outside a ball of 3."""
    return 2 * torch.randn(2, samples, horizon, 4, generator=torch.Generator().manual_seed(seed))


def where_they_lead(raw: torch.Tensor) -> torch.Tensor:
    """The true end of every candidate: each raw action cut to the ball, and added up."""
    steps = raw.unflatten(-1, (2, 2))
    cut = steps * (3.0 / steps.norm(dim=-1, keepdim=True)).clamp(max=1.0)
    return torch.tensor(STARTS)[:, None] + cut.sum(dim=(2, 3))


@pytest.mark.parametrize("units", ["raw", "model"])
def test_the_cost_is_that_of_the_place_that_the_executed_actions_lead_to(units):
    model = Painted(codec())
    raw = raw_candidates()
    cost = CostModel(model, LatentCost("l2"), units=units)
    given = raw if units == "raw" else torch.from_numpy(cost.units.transform(raw.unflatten(-1, (2, 2)).numpy()))
    found = cost.get_cost(solver_info(STARTS, GOALS, 5), given.flatten(3) if units == "model" else given)
    expected = (where_they_lead(raw) - torch.tensor(GOALS)[:, None]).square().mean(dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    executed = cost.process["action"].inverse_transform(given.reshape(2, 5, 3, 2, 2).numpy())
    ends = np.array(STARTS)[:, None] + executed.sum(axis=(2, 3))
    np.testing.assert_allclose(ends, where_they_lead(raw).numpy(), rtol=1e-4)


def test_a_gradient_leads_downhill():
    cost = CostModel(Painted(codec()))
    actions = torch.zeros(2, 1, 3, 4, requires_grad=True)
    info = solver_info(STARTS, GOALS, 1)
    before = cost.get_cost(info, actions)
    before.sum().backward()
    after = cost.get_cost(info, actions.detach() - 0.05 * actions.grad)
    assert (after < before).all()


def test_pictures_are_encoded_once_per_solve_and_again_for_the_next():
    model = Painted(codec())
    cost, info = CostModel(model), solver_info(STARTS, GOALS, 5)
    for seed in range(3):
        cost.get_cost(info, raw_candidates(seed=seed))
    assert len(model.encoded) == 1
    with torch.inference_mode():
        cost.get_cost(info, raw_candidates())
    cost.get_cost(info, raw_candidates().requires_grad_()).sum().backward()  # not what inference mode has left
    moved = cost.get_cost(solver_info(GOALS, GOALS, 5), torch.zeros(2, 5, 3, 4))
    assert len(model.encoded) == 4
    assert (moved == 0).all()


def test_a_controls_cost_is_taken():
    info, actions = solver_info(STARTS, GOALS, 5), raw_candidates()
    by_name = CostModel(Painted(codec()), Control(cost="l1", reduce="sum")).get_cost(info, actions)
    assert torch.equal(by_name, CostModel(Painted(codec()), LatentCost("l1", "sum")).get_cost(info, actions))


def test_a_model_with_a_history_is_given_its_frames_and_actions():
    model = Painted(codec(), history=2)
    info = solver_info(STARTS, GOALS, 5, frames=2)
    with pytest.raises(ShapeError, match=r"found 2 frames and no 'past_actions', expected \(batch, 1, 4\)"):
        CostModel(model).get_cost(info, raw_candidates())
    past = torch.ones(2, 1, 4)
    CostModel(model).get_cost(info | {"past_actions": past[:, None].expand(-1, 5, -1, -1)}, raw_candidates())
    assert torch.equal(model.encoded[0][1], past)
    with pytest.raises(ShapeError, match=r"found 1 frames, expected 2 \(CostModel.history\): World shows one"):
        CostModel(model).get_cost(solver_info(STARTS, GOALS, 5), raw_candidates())
    CostModel(model, history=1).get_cost(solver_info(STARTS, GOALS, 5), raw_candidates())


def test_what_does_not_fit_is_named():
    cost, info = CostModel(Painted(codec())), solver_info(STARTS, GOALS, 5)
    with pytest.raises(ShapeError, match=r"found 2 numbers per step, expected 4: PlanConfig\(action_block=2\)"):
        cost.get_cost(info, torch.zeros(2, 5, 3, 2))
    with pytest.raises(ShapeError, match=r"found no 'goal' among pixels; of swm/TwoRoom-v1 wrap it in GoalPicture"):
        cost.get_cost({"pixels": info["pixels"]}, raw_candidates())
    with pytest.raises(ShapeError, match=r"'pixels': found float32 .*expected uint8 \(batch, samples, time, height"):
        cost.get_cost(info | {"pixels": info["pixels"].float()}, raw_candidates())
    with pytest.raises(ShapeError, match=r"expected uint8 .*no transform, because a model has its own"):
        cost.get_cost(info | {"goal": info["goal"].movedim(-1, -3)}, raw_candidates())
    with pytest.raises(ConfigError, match="units: found 'pixels', expected 'raw' or 'model'"):
        CostModel(Painted(codec()), units="pixels")
    with pytest.raises(ConfigError, match="found a model of cameras left, right, expected one camera"):
        CostModel(Painted(codec(), cameras=("left", "right")))
    discrete = codec(classes=(0, 3), mean=np.zeros(2, np.float32), std=np.ones(2, np.float32))
    with pytest.raises(ConfigError, match=r"classes \(0, 3\) of dx, dy, expected continuous recorded actions"):
        CostModel(Painted(discrete))


def test_small_pictures_are_means_of_large_ones():
    large = torch.randint(0, 256, (2, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    blocks = large.float().unflatten(-1, (4, 3)).unflatten(-3, (4, 3)).mean(dim=(-3, -1))
    assert torch.equal(resize_area(large, (4, 4)), blocks.round().to(torch.uint8))
    assert resize_area(large, (12, 12)) is large
    for size in ((16, 16), (6, 4)):
        with pytest.raises(ShapeError, match=r"found 12 x 12, expected the model's .* or larger ones of the same"):
            resize_area(large, size)


def test_a_backbone_resizes_by_itself():
    model = Painted(codec())
    model.config.backbone = object()
    assert Pictures(model).read(solver_info(STARTS, GOALS, 2), "goal", samples=True).shape == (2, 1, 3, 16, 16)
