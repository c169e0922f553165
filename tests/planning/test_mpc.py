import pytest
import torch
from linear_model import Box, Latent, LinearModel

from jepa_actions.errors import PlanningError, ShapeError
from jepa_actions.planning import CEM, MPC, CEMConfig, LatentCost, decision_seed

TINY = CEMConfig(samples=24, elites=4, iterations=2)


def setup(count, *, seeds=None, **options):
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(count, 2, generator=generator)
    goal = Latent(3 * torch.randn(count, 1, 2, generator=generator))
    model = LinearModel(Box(torch.full((2,), -1.0), torch.full((2,), 1.0)))
    options = {"horizon": 6, "execute": 1, **options}
    mpc = MPC(CEM(TINY), model, LatentCost("l2", "sum"), seeds=seeds or list(range(count)), **options)
    return mpc, model, context, goal


def advance(model, context, actions):
    return model.rollout(context, actions[:, None]).z[:, 0, -1, 0]


@pytest.mark.parametrize("execute", [1, 2])
def test_the_next_plan_starts_from_the_rest_of_the_last_one(execute):
    mpc, model, context, goal = setup(3, execute=execute)
    first = mpc.plan(context, goal)
    model.seen.clear()
    mpc.plan(advance(model, context, first.actions[:, :execute]), goal)
    start = model.seen[1][:, 0]
    assert torch.equal(start[:, :-execute], first.actions[:, execute:])
    assert (start[:, -execute:] == 0).all()


def test_a_warm_start_lowers_the_cost():
    costs = {}
    for warm in (True, False):
        mpc, model, context, goal = setup(40, warm_start=warm)
        for _ in range(4):
            plan = mpc.plan(context, goal)
            context = advance(model, context, plan.actions[:, :1])
        costs[warm] = plan.cost.mean().item()
    assert costs[True] < 0.9 * costs[False]


def test_reset_drops_the_warm_start_of_the_masked_episodes_only():
    mpc, model, context, goal = setup(3)
    first = mpc.plan(context, goal)
    mpc.plan(context, goal)
    mpc.reset(torch.tensor([False, True, False]))
    model.seen.clear()
    third = mpc.plan(context, goal)
    start = model.seen[0][:, 0]
    assert (start[1] == 0).all()
    assert (start[0] != 0).any()
    assert (start[2] != 0).any()
    assert torch.equal(third.actions[1], first.actions[1]), "an episode that begins anew plans as it did at first"
    mpc.reset()
    assert torch.equal(mpc.plan(context, goal).actions, first.actions)


def test_an_episode_does_not_depend_on_its_neighbours():
    mpc, model, context, goal = setup(4)
    single, _, _, _ = setup(1, seeds=[2])
    single.model = model
    one, only = context[2:3], Latent(goal.z[2:3])
    for step in range(3):
        if step == 2:
            mpc.reset(torch.tensor([True, False, False, True]))
        together, apart = mpc.plan(context, goal), single.plan(one, only)
        assert torch.equal(together.actions[2], apart.actions[0])
        context, one = advance(model, context, together.actions[:, :1]), advance(model, one, apart.actions[:, :1])


def test_every_decision_has_its_own_random_numbers():
    seeds = {decision_seed(seed, decision) for seed in range(20) for decision in range(20)}
    assert len(seeds) == 400
    mpc, _, context, goal = setup(1, warm_start=False)
    assert not torch.equal(mpc.plan(context, goal).actions, mpc.plan(context, goal).actions)


def test_bad_settings_are_refused():
    with pytest.raises(PlanningError, match="execute: found 7, expected 1 to the horizon, 6"):
        setup(1, execute=7)
    with pytest.raises(ShapeError, match="reset mask"):
        setup(3)[0].reset(torch.tensor([True]))
    with pytest.raises(PlanningError, match="seeds: found none"):
        MPC(CEM(), setup(1)[1], LatentCost(), horizon=2, seeds=[])
