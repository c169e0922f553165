import pytest
import torch
from linear_model import Box, Latent, LinearModel

from jepa_actions.errors import PlanningError, ShapeError
from jepa_actions.planning import CEM, ICEM, MPC, CEMConfig, ICEMConfig, LatentCost, decision_seed

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


def test_proposals_are_asked_for_every_decision():
    asked = []

    def propose(context, goal, horizon, seeds):
        asked.append((context, goal, horizon, seeds))
        return torch.full((3, 2, horizon, 2), 0.5)

    _, model, context, goal = setup(3)
    mpc = MPC(CEM(TINY), model, LatentCost(), horizon=6, seeds=[0, 1, 2], proposals=propose)
    mpc.plan(context, goal)
    mpc.plan(context, goal, left=2)
    assert [(c is context, g is goal, h) for c, g, h, _ in asked] == [(True, True, 6), (True, True, 2)]
    assert len({seed for *_, seeds in asked for seed in seeds}) == 6, "every episode and decision has its own"
    assert all((seen[:, 1:3] == 0.5).all() for seen in model.seen[::2])
    mpc.plan(context, goal, proposals=lambda context, goal, horizon, seeds: torch.full((3, 1, horizon, 2), -0.5))
    assert (model.seen[-2][:, 1] == -0.5).all()
    assert len(asked) == 2


@pytest.mark.parametrize("execute", [1, 2])
def test_kept_elites_follow_their_own_episode_and_are_forgotten(execute):
    _, model, context, goal = setup(3)
    planner = ICEM(ICEMConfig(samples=24, elites=6, iterations=2, keep=0.5))

    def new(seeds):
        return MPC(planner, model, LatentCost("l2", "sum"), horizon=6, execute=execute, seeds=seeds)

    mpc, fresh = new([0, 1, 2]), new([1])
    first = mpc.plan(context, goal)
    model.seen.clear()
    second = mpc.plan(context, goal)
    carried = model.seen[0][:, 1:4]
    assert torch.equal(carried[:, :, :-execute], first.elites[:, :3, execute:])
    assert (carried[:, :, -execute:] == 0).all()
    mpc.reset(torch.tensor([False, True, False]))
    model.seen.clear()
    third = mpc.plan(context, goal)
    assert torch.equal(model.seen[0][[0, 2], 1:4, :-execute], second.elites[[0, 2], :3, execute:])
    anew = fresh.plan(context[1:2], Latent(goal.z[1:2]))
    assert torch.equal(third.actions[1], anew.actions[0])
    assert torch.equal(third.actions[1], first.actions[1])
    short = mpc.plan(context, goal, left=3)
    assert short.actions.shape == (3, 3, 2)
    mpc.reset()
    assert torch.equal(mpc.plan(context, goal).actions, first.actions)


@pytest.mark.parametrize("planner", [CEM(TINY), ICEM(ICEMConfig(samples=24, elites=4, iterations=2))])
def test_episodes_that_do_not_begin_together_are_planned_apart(planner):
    mpc, model, context, goal = setup(3)
    mpc.planner = planner
    alone = [MPC(planner, model, mpc.cost, horizon=6, seeds=[seed]) for seed in range(3)]
    for rows in ([0, 1, 2], [1], [2, 0], [0, 1, 2]):
        if rows == [1]:
            mpc.reset(torch.tensor([False, True, False]))
            alone[1].reset()
        plan = mpc.plan(context[rows], Latent(goal.z[rows]), episodes=rows)
        for place, row in enumerate(rows):
            single = alone[row].plan(context[row : row + 1], Latent(goal.z[row : row + 1]))
            assert torch.equal(plan.actions[place], single.actions[0]), (rows, row)


@pytest.mark.parametrize("rows", [[], [0, 0], [3], [-1]])
def test_episodes_that_are_not_there_are_named(rows):
    mpc, _, context, goal = setup(3)
    with pytest.raises(PlanningError, match=r"MPC.plan episodes: found \[.*expected different ones of 0 to 2"):
        mpc.plan(context, goal, episodes=rows)
