"""Proposals of an inverse head or a policy: among the first candidates, or fused with the planner's own Gaussian."""

from dataclasses import replace

import pytest
import torch
from linear_model import Box, Latent, LinearModel
from planner_names import NAMES, REFITTING, SAMPLING

from jepa_actions.errors import PlanningError, ShapeError
from jepa_actions.planning import Carried, LatentCost, Problem, make_planner

HORIZON = 5


def problem(count=3, *, limit=4.0, **fields):
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(count, 2, generator=generator)
    goal = Latent(torch.randn(count, 1, 2, generator=generator))
    model = LinearModel(Box(torch.full((2,), -limit), torch.full((2,), limit)))
    return Problem(model, context, goal, LatentCost("l2", "sum"), HORIZON, list(range(count)), **fields)


def proposals(count=3, q=4, at=0.0, spread=0.1):
    return at + spread * torch.randn(count, q, HORIZON, 2, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", SAMPLING)
def test_they_take_the_place_of_random_candidates_in_the_first_iteration_alone(name):
    given = proposals()
    plain, seeded = problem(), problem(proposals=given)
    planner = make_planner(name, evaluations=120)
    without, with_them = planner(plain), planner(seeded)
    first = seeded.model.seen[0]
    assert torch.equal(first[:, 1:5], given)
    assert torch.equal(first[:, 0], plain.model.seen[0][:, 0])
    assert torch.equal(first[:, 5:], plain.model.seen[0][:, 5:]), "the other candidates are the same random ones"
    assert without.evaluations == with_them.evaluations, "they are paid for"
    assert all(not torch.equal(seen[:, 1:5], given) for seen in seeded.model.seen[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_at_least_as_good_as_its_proposals(name):
    """They hold a plan that no small budget finds."""
    solved = make_planner("gradient", evaluations=2000)(problem())
    found = make_planner(name, evaluations=40)(problem(proposals=solved.actions[:, None]))
    alone = make_planner(name, evaluations=40)(problem())
    assert (found.cost <= solved.cost + 1e-6).all()
    assert name in ("gradient", "hybrid", "cmaes") or (alone.cost > found.cost).all()


@pytest.mark.parametrize("name", SAMPLING)
def test_they_are_projected_into_the_bounds(name):
    bounded = problem(limit=0.5, proposals=proposals(at=3.0))
    make_planner(name, evaluations=120)(bounded)
    assert (bounded.model.seen[0][:, 1:5] == 0.5).all()


@pytest.mark.parametrize("name", REFITTING)
def test_fused_is_the_product_of_both_gaussians(name):
    given = proposals(q=8, at=2.0, spread=0.5)
    fused = problem(count=2, limit=50.0, proposals=given[:2], initial=torch.zeros(2, HORIZON, 2))
    planner = make_planner(name, samples=4000, elites=4000, iterations=1, fuse=True, fuse_std=1.0, init_std=2.0)
    planner(fused)
    seen = fused.model.seen[0]
    # N(0, 4) times N(m, 1), whose precision is 1 + 1/4 and whose mean weighs m by 1 and 0 by 1/4
    expected = given[:2].mean(dim=1) * (1 / 1.25)
    torch.testing.assert_close(seen[:, 0], expected, atol=1e-4, rtol=0)
    assert torch.equal(seen[:, 1:9], given[:2])
    assert (seen[:, 9] == 0).all(), "the start is no longer the mean: it stays a candidate"
    drawn = seen[:, 10:]
    torch.testing.assert_close(drawn.mean(dim=1), expected, atol=0.08, rtol=0)
    torch.testing.assert_close(drawn.std(dim=1), torch.full_like(expected, 0.8**0.5), atol=0.06, rtol=0)


def test_a_dimension_that_proposals_agree_on_is_searched_less():
    given = proposals(q=16, at=1.0, spread=1.0)
    given[..., 1] = 1.0
    fused = problem(limit=50.0, proposals=given)
    make_planner("cem", samples=2000, elites=10, iterations=1, fuse=True, fuse_std=0.1)(fused)
    width = fused.model.seen[0][:, 18:].std(dim=(1, 2)).mean(dim=0)
    assert width[1] < 0.2 * width[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_planner_without_proposals_is_as_it_was(name):
    planner = make_planner(name, evaluations=80)
    one = planner(problem())
    carried = Carried(torch.ones(3, 2, HORIZON, 2), torch.zeros(3, dtype=torch.bool))
    other = planner(problem(carried=carried))
    assert torch.equal(one.actions, other.actions), "what was carried from another episode counts for nothing"


def test_icem_alone_starts_from_what_was_carried():
    ones = torch.ones(3, 8, HORIZON, 2)
    carried = Carried(ones, torch.tensor([True, False, True]))
    for name, kept in (("icem", 3), ("cem", 0)):
        seeded, plain = problem(carried=carried), problem()
        planner = make_planner(name, samples=64, elites=10, iterations=2)
        planner(seeded)
        planner(plain)
        first, without = seeded.model.seen[0], plain.model.seen[0]
        assert (first[[0, 2], 1 : 1 + kept] == 1).all()
        assert torch.equal(first[1], without[1])
        assert torch.equal(first[:, 1 + kept :], without[:, 1 + kept :])


def test_bad_proposals_are_refused():
    with pytest.raises(ShapeError, match=r"Problem.proposals: found shape \(3, 5, 2\), expected \(3, any, 5, 2\)"):
        problem(proposals=torch.zeros(3, HORIZON, 2))
    with pytest.raises(ShapeError, match=r"Problem.carried: found shape \(2, 4, 5, 2\)"):
        problem(carried=Carried(torch.zeros(2, 4, HORIZON, 2), torch.ones(2, dtype=torch.bool)))
    with pytest.raises(PlanningError, match=r"Problem\.proposals: found NaN or infinity"):
        problem(proposals=torch.full((3, 1, HORIZON, 2), torch.nan))
    with pytest.raises(PlanningError, match="found 20 given candidates, expected at most 15"):
        make_planner("cem", samples=16, elites=4)(problem(proposals=proposals(q=20)))
    with pytest.raises(PlanningError, match=r"CEMConfig.fuse: found a problem without proposals"):
        make_planner("cem", fuse=True)(problem())
    assert replace(problem(), proposals=proposals(q=1)).proposals.shape[1] == 1
