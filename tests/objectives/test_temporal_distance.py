"""Temporal distance, and the goal-conditioned inverse on it, in a world of which the shortest ways are known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_world import tiny_batch, tiny_codec, tiny_world
from walled_grid import MOVES, WALL, as_batch, free_cells, latents, number, shortest, spearman, stepped, wander

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.models import (
    DistanceConfig,
    InverseConfig,
    InverseHead,
    SubgoalConfig,
    SubgoalHead,
    TemporalDistance,
)
from jepa_actions.objectives import (
    GoalInverseLossConfig,
    GoalInverseObjective,
    SubgoalLossConfig,
    SubgoalObjective,
    TemporalDistanceConfig,
    TemporalDistanceObjective,
    Views,
)
from jepa_actions.objectives.global_batch import global_batch
from jepa_actions.objectives.scenes import scene_pairs

CODEC = ActionCodec(
    ("dx", "dy"), 1, np.zeros(2, np.float32), np.ones(2, np.float32), ActionBounds("box", (-1, -1), (1, 1))
)
CELLS, FAR = free_cells(), shortest()
ONE, OTHER = (CELLS[i] for i in torch.cartesian_prod(*[torch.arange(len(CELLS))] * 2).unbind(1))
TRUE = FAR[number(ONE), number(OTHER)]
ASTRIDE = (ONE[:, 0] - WALL) * (OTHER[:, 0] - WALL) < 0
PATHS, ACTIONS = wander(600, 24, seed=0)


def fit(objective, model, parameters, steps, *, actions=False):
    optimizer, numbers = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0), torch.Generator().manual_seed(0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, (s + 1) / 50) * (1 - 0.95 * s / steps))
    for _ in range(steps):
        rows = torch.randint(len(PATHS), (32,), generator=numbers)
        batch = as_batch(PATHS[rows], ACTIONS[rows] if actions else None)
        loss, logs = objective(model, Views(model, batch, None), numbers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return logs


@pytest.fixture(scope="module")
def learned():
    """The distance after 400 steps on random walks without actions, and its last logs."""
    torch.manual_seed(0)
    distance = TemporalDistance(DistanceConfig(width=64, depth=1, directed=16, symmetric=16), 1, 81)
    objective = TemporalDistanceObjective(TemporalDistanceConfig(pairs=2048))
    logs = fit(objective, SimpleNamespace(distance=distance), distance.parameters(), 400)
    return distance, logs


def test_the_shortest_way_round_a_wall_is_learned_from_random_walks(learned):
    """No walk of 24 steps is a shortest way of up to 24: it is put together from many."""
    distance, _ = learned
    with torch.no_grad():
        found = distance(latents(ONE), latents(OTHER))
    crow = (ONE - OTHER).float().norm(dim=-1)
    assert spearman(found, TRUE) > 0.95
    assert spearman(found[ASTRIDE], TRUE[ASTRIDE]) > 0.95
    assert spearman(crow[ASTRIDE], TRUE[ASTRIDE]) < 0.5
    beside = ((ONE[:, 0] == WALL - 1) & (OTHER[:, 0] == WALL + 1) & (ONE[:, 1] == 0) & (OTHER[:, 1] == 0)).nonzero()
    assert float(found[beside]) > 3 * float(found[TRUE == 2].mean()), "two cells apart, with the wall between"


def test_observed_steps_stay_short_and_the_reach_is_the_longest_of_them(learned):
    distance, logs = learned
    assert float(logs["steps"]) < 1.3
    assert float(logs["pairs"]) > 8 * float(logs["steps"])
    with torch.no_grad():
        z = latents(PATHS[:200])
        steps = distance(z[:, :-1], z[:, 1:])
    assert float(distance.reach) == pytest.approx(float(steps.quantile(0.99)), rel=0.25)


def test_the_reach_stands_still_outside_of_training(learned):
    distance, _ = learned
    before = distance.reach.clone()
    distance.eval()
    objective = TemporalDistanceObjective(TemporalDistanceConfig(pairs=64))
    model = SimpleNamespace(distance=distance)
    objective(model, Views(model, as_batch(PATHS[:4]), None), torch.Generator().manual_seed(0))
    distance.train()
    assert torch.equal(distance.reach, before)


def test_a_violated_constraint_weighs_more_with_every_step():
    torch.manual_seed(0)
    distance = TemporalDistance(DistanceConfig(width=16, depth=1, directed=4, symmetric=4), 1, 81)
    with torch.no_grad():
        distance.out.weight.mul_(30.0)
    model, objective = SimpleNamespace(distance=distance), TemporalDistanceObjective(TemporalDistanceConfig(pairs=64))
    optimizer = torch.optim.SGD([distance.multiplier], lr=0.01)
    weights = []
    for _ in range(5):
        loss, logs = objective(model, Views(model, as_batch(PATHS[:8]), None), torch.Generator().manual_seed(0))
        assert float(logs["violation"]) > 0.01
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        weights.append(float(logs["multiplier"]))
    assert weights == sorted(set(weights))


@pytest.mark.parametrize("detach", [True, False])
def test_the_encoder_learns_from_it_only_where_asked(detach):
    model, batch = tiny_world(distance=DistanceConfig(width=16, depth=1)), tiny_batch()
    batch = replace(batch, scene=torch.tensor([0, 0, 1, 1]))
    objective = TemporalDistanceObjective(TemporalDistanceConfig(pairs=64, detach=detach))
    loss, _ = objective(model, Views(model, batch, None), torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is None for p in model.encoder.parameters()) == detach
    assert model.distance.out.weight.grad.abs().sum() > 0


def test_padding_is_no_step():
    torch.manual_seed(0)
    distance = TemporalDistance(DistanceConfig(width=16, depth=1), 1, 81).eval()
    model, objective = SimpleNamespace(distance=distance), TemporalDistanceObjective(TemporalDistanceConfig(pairs=64))
    real = torch.ones(4, 25, dtype=torch.bool)
    real[0, 10:] = False
    batch = replace(as_batch(PATHS[:4]), frame_mask=real)
    wild = replace(batch, z=torch.where(real[..., None, None], batch.z, 1e3 * torch.randn(batch.z.shape)))
    one, two = (objective(model, Views(model, b, None), torch.Generator().manual_seed(0))[0] for b in (batch, wild))
    assert torch.equal(one, two)


# -- pairs of one scene ------------------------------------------------------------------------------------------------


def test_pairs_are_of_one_scene_and_without_padding():
    real = torch.ones(4, 5, dtype=torch.bool)
    real[1, 3:] = False
    batch = replace(as_batch(PATHS[:4, :5], scene=torch.tensor([7, 3, 7, 3])), frame_mask=real)
    first, second = scene_pairs(global_batch(batch), 4000, torch.Generator().manual_seed(0))
    scene = batch.scene[:, None].expand(-1, 5).flatten()
    assert torch.equal(scene[first], scene[second])
    assert real.flatten()[first].all()
    assert real.flatten()[second].all()
    assert set(first.tolist()) == set(second.tolist()) == set(real.flatten().nonzero()[:, 0].tolist())
    assert ((first // 5) != (second // 5)).float().mean() > 0.3, "of other clips too"
    again, _ = scene_pairs(global_batch(batch), 4000, torch.Generator().manual_seed(0))
    assert torch.equal(first, again)


def test_a_batch_that_does_not_say_its_scenes_is_refused():
    with pytest.raises(DataError, match=r"expected data\.scene_clips"):
        scene_pairs(global_batch(tiny_batch()), 8, torch.Generator())


# -- the inverse towards goals -----------------------------------------------------------------------------------------


def head_of(learned, **config):
    """A head trained for 250 steps on the learned distance."""
    distance, _ = learned
    torch.manual_seed(0)
    head = InverseHead(InverseConfig(width=64, max_gap=24), 1, 81, CODEC)
    model = SimpleNamespace(distance=distance, goal_inverse=head)
    objective = GoalInverseObjective(GoalInverseLossConfig(pairs=1024, **config))
    logs = fit(objective, model, head.parameters(), 250, actions=True)
    return head, logs


def share_nearer(head) -> float:
    """Of all pairs astride the wall: how often the move that the head means leads nearer, by the true way."""
    one, other = ONE[ASTRIDE], OTHER[ASTRIDE]
    with torch.no_grad():
        mean = head(latents(one), latents(other), TRUE[ASTRIDE].long().clamp(1, 24)).mean
    chosen = MOVES[(mean @ MOVES.T.float()).argmax(-1)]
    return float((FAR[number(stepped(one, chosen)), number(other)] < TRUE[ASTRIDE]).float().mean())


def test_of_random_moves_those_are_copied_that_come_nearer(learned):
    head, logs = head_of(learned)
    assert set(logs) == {"stitched", "weight"}
    assert share_nearer(head) > 0.85
    unweighted, logs = head_of(learned, beta=0.0)
    assert float(logs["weight"]) == 1.0
    assert share_nearer(unweighted) < 0.65, "a random walk shows every move alike"


def test_hindsight_needs_no_distance_but_learns_what_was_done(learned):
    head, logs = head_of((None, None), stitched=0.0)
    assert set(logs) == {"hindsight"}
    one, other = CELLS[:-1], CELLS[1:]
    beside = FAR[number(one), number(other)] == 1
    with torch.no_grad():
        mean = head(latents(one), latents(other), torch.ones(len(one), dtype=torch.long)).mean
    moved = (other - one).float()
    agrees = (mean * moved).sum(-1)[beside] > 0.5
    assert agrees.float().mean() > 0.9


def test_both_kinds_count_by_their_share(learned):
    distance, _ = learned
    torch.manual_seed(0)
    head = InverseHead(InverseConfig(width=16, max_gap=24), 1, 81, CODEC)
    model = SimpleNamespace(distance=distance, goal_inverse=head)
    views = Views(model, as_batch(PATHS[:8], ACTIONS[:8]), None)
    objective = GoalInverseObjective(GoalInverseLossConfig(pairs=400, stitched=0.25))
    loss, logs = objective(model, views, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(
        0.25 * float(logs["stitched"]) + 0.75 * float(logs["hindsight"]), rel=1e-5
    )


@pytest.mark.parametrize("stitched", [0.0, 1.0])
def test_unknown_actions_count_nowhere(learned, stitched):
    distance, _ = learned
    torch.manual_seed(0)
    head = InverseHead(InverseConfig(width=16, max_gap=24), 1, 81, CODEC)
    model = SimpleNamespace(distance=distance, goal_inverse=head)
    batch = as_batch(PATHS[:8], ACTIONS[:8])
    known = torch.rand(8, 24, generator=torch.Generator().manual_seed(1)) < 0.5
    objective = GoalInverseObjective(GoalInverseLossConfig(pairs=400, stitched=stitched))
    losses = []
    for noise in (0.0, 100.0):
        actions = torch.where(known[..., None], batch.actions, noise * torch.ones_like(batch.actions))
        views = Views(model, replace(batch, actions=actions, action_mask=known), None)
        losses.append(objective(model, views, torch.Generator().manual_seed(0))[0])
    assert torch.equal(*losses)


def test_models_without_the_parts_are_refused():
    plain, batch = tiny_world(), replace(tiny_batch(), scene=torch.zeros(4, dtype=torch.int64))
    numbers = torch.Generator()
    with pytest.raises(ConfigError, match=r"objectives\.distance needs model\.distance, found null"):
        TemporalDistanceObjective(TemporalDistanceConfig())(plain, Views(plain, batch, None), numbers)
    with pytest.raises(ConfigError, match=r"objectives\.goal_inverse needs model\.goal_inverse, found null"):
        GoalInverseObjective(GoalInverseLossConfig(stitched=0.0))(plain, Views(plain, batch, None), numbers)
    head = tiny_world(tiny_codec(), goal_inverse=InverseConfig(width=16, max_gap=4))
    with pytest.raises(ConfigError, match=r"need a temporal distance \(model\.distance"):
        GoalInverseObjective(GoalInverseLossConfig())(head, Views(head, batch, None), numbers)
    silent = replace(batch, actions=None, action_mask=None, provenance=None)
    with pytest.raises(ConfigError, match="needs actions, but the batch has none"):
        GoalInverseObjective(GoalInverseLossConfig(stitched=0.0))(head, Views(head, silent, None), numbers)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (TemporalDistanceConfig, {"horizon": 0.0}),
        (TemporalDistanceConfig, {"tolerance": 0.0}),
        (TemporalDistanceConfig, {"pairs": 0}),
        (GoalInverseLossConfig, {"stitched": 1.5}),
        (GoalInverseLossConfig, {"beta": -1.0}),
        (GoalInverseLossConfig, {"largest": 0.5}),
        (DistanceConfig, {"directed": 0}),
        (DistanceConfig, {"fourier": -1}),
    ],
)
def test_bad_settings_are_named(make, wrong):
    ((key, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{key} {value}"):
        make(**wrong)


# -- sub-goals ---------------------------------------------------------------------------------------------------------


def test_subgoals_are_imagined_on_the_way_without_actions(learned):
    distance, _ = learned
    torch.manual_seed(0)
    head = SubgoalHead(SubgoalConfig(width=64, depth=1), 1, 81)
    model = SimpleNamespace(distance=distance, subgoal=head)
    fit(SubgoalObjective(SubgoalLossConfig(pairs=1024, beta=6.0)), model, head.parameters(), 250)
    one, other = ONE[ASTRIDE], OTHER[ASTRIDE]
    with torch.no_grad():
        ahead = head(latents(one), latents(other))[:, 0]
    moves = MOVES[:, None]
    there = stepped(one[None], moves)  # (4, pairs, 2)
    likely = ahead.gather(1, number(there).T).argmax(1)  # of the cells next to it, the one that it looks most like
    chosen = MOVES[likely]
    nearer = FAR[number(stepped(one, chosen)), number(other)] < TRUE[ASTRIDE]
    assert nearer.float().mean() > 0.8
    plain = SimpleNamespace(distance=distance, subgoal=None)
    views = Views(plain, as_batch(PATHS[:4]), None)
    with pytest.raises(ConfigError, match=r"objectives\.subgoal needs model\.subgoal, found null"):
        SubgoalObjective(SubgoalLossConfig())(plain, views, torch.Generator())


@pytest.mark.parametrize("fourier", [0, 128])
def test_fourier_features_draw_a_sharp_edge_that_smooth_latents_hide(fourier):
    """Two sides of an edge in one smooth coordinate, which chains of steps never cross."""
    torch.manual_seed(0)
    config = DistanceConfig(width=64, depth=1, directed=16, symmetric=16, fourier=fourier, frequency=2.0)
    distance = TemporalDistance(config, 1, 1)
    optimizer, numbers = torch.optim.AdamW(distance.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    objective = TemporalDistanceObjective(TemporalDistanceConfig(pairs=1024))
    model = SimpleNamespace(distance=distance)
    for _ in range(200):
        side = torch.randint(2, (32, 1), generator=numbers) * 2.0 - 1.0
        walk = torch.rand(32, 1, generator=numbers) + 0.1 * torch.randn(32, 12, generator=numbers).cumsum(1)
        z = (side * walk.abs())[..., None, None]
        batch = replace(as_batch(PATHS[:32, :12]), z=z)
        loss, _ = objective(model, Views(model, batch, None), numbers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    near = torch.tensor([0.05, 0.15, 0.25])
    with torch.no_grad():
        across = distance(-near[:, None, None], near[:, None, None]).mean()
        beside = distance(near[:, None, None] + 2 * near[:, None, None], near[:, None, None]).mean()
    assert (float(across) > 3 * float(beside)) == bool(fourier)
