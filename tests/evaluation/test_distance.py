"""The temporal distance against the true shortest way: right answers score 1, a straight line does not see the wall."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation import evaluate_distance
from jepa_actions.evaluation.distance import draw_pairs, spearman
from jepa_actions.evaluation.greedy import evaluate_greedy


class SeesEverything(nn.Module):
    """Reads place and layout off the picture exactly, by looking them up; its distance is the true way, or is not."""

    def __init__(self, world: TwoRoomWorld, way: bool) -> None:
        super().__init__()
        self.world, self.way, self.distance = world, way, object()
        self.scale = nn.Parameter(torch.ones(()))

    def goal(self, frames):
        red, green = frames[:, 0].float(), frames[:, 1].float()
        pixel = torch.arange(64.0)
        x, y = (red * pixel).sum((1, 2)), (red * pixel[:, None]).sum((1, 2))
        place = torch.stack([x, y], dim=-1) / red.sum((1, 2))[:, None]
        column = (green[:, 6:59] > 0).float().sum(1)[:, 6:59]
        wall_x = column.argmax(-1) + 7.0  # the middle of the three columns that are mostly wall
        rows = torch.stack([g[6:59, int(w)] for g, w in zip(green, wall_x, strict=True)])
        open_rows = (rows == 0).float()
        door_y = (open_rows * torch.arange(6.0, 59.0)).sum(-1) / open_rows.sum(-1)
        return SimpleNamespace(z=torch.cat([place, torch.stack([wall_x, door_y], dim=-1)], dim=-1)[:, None])

    def temporal_distance(self, z, z_goal):
        rows = z.flatten(0, -3)[:, 0], z_goal.flatten(0, -3)[:, 0]
        start, goal, layout = rows[0][:, :2], rows[1][:, :2], rows[0][:, 2:]
        found = self.world.shortest_path(start, goal, layout) if self.way else self.world.distance(start, goal)
        return found.view(z.shape[:-2])


def test_the_true_way_scores_one_and_the_straight_line_is_told_by_the_detours():
    world = TwoRoomWorld()
    right = evaluate_distance(SeesEverything(world, way=True), world, pairs=400)
    crow = evaluate_distance(SeesEverything(world, way=False), world, pairs=400)
    assert right["metrics"]["spearman"] > 0.995
    assert right["metrics"]["spearman_detour"] > 0.97
    assert right["metrics"]["ratio_detour_to_direct"] == pytest.approx(1.0, abs=0.05)
    assert crow["metrics"]["spearman_direct"] > 0.99
    assert crow["metrics"]["spearman_detour"] < 0.9
    assert crow["metrics"]["ratio_detour_to_direct"] > 1.1
    assert right["floors"]["straight"]["spearman"] == pytest.approx(crow["metrics"]["spearman"], abs=0.01)
    low, high = right["ci95"]["spearman"]
    assert low <= right["metrics"]["spearman"] <= high
    assert "spearman_other_room" in right["metrics"]


def test_pairs_are_of_one_layout_and_of_two_episodes():
    world = TwoRoomWorld()
    start, goal, layout = draw_pairs(world, 50, "heldout", 0)
    again = draw_pairs(world, 50, "heldout", 0)
    assert all(torch.equal(a, b) for a, b in zip((start, goal, layout), again, strict=True))
    world.start(start, layout)
    world.start(goal, layout)  # raises where a place is in that layout's wall
    assert (start != goal).any(-1).all()


def test_ranks_of_equal_values_are_shared():
    one = np.array([1.0, 2.0, 2.0, 3.0])
    assert spearman(one, one) == pytest.approx(1.0)
    assert spearman(one, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.9486833)
    assert spearman(one, -one) == pytest.approx(-1.0)


def test_a_model_without_a_distance_is_refused():
    with pytest.raises(ConfigError, match=r"has no temporal distance \(model\.distance\)"):
        evaluate_distance(SimpleNamespace(distance=None), "two_room", pairs=10)


def test_one_step_at_a_time_leads_round_the_wall_on_the_true_way_and_not_on_the_straight_line():
    world = TwoRoomWorld()
    rates = []
    for way in (True, False):
        model = SeesEverything(world, way=way)
        bounds = ActionBounds("ball", radius=1.8)
        model.codec = ActionCodec(("dx", "dy"), 5, np.zeros(2, np.float32), np.ones(2, np.float32), bounds)
        report = evaluate_greedy(model, "two_room/cross_room", episodes=3)
        rates.append(report["success_rate"])
        assert report["ci95"][0] <= rates[-1] <= report["ci95"][1]
    assert rates[0] == 1.0
    assert rates[1] <= 1 / 3
    with pytest.raises(ConfigError, match="expected a model with actions and a temporal distance"):
        evaluate_greedy(SimpleNamespace(codec=None, distance=None), "two_room/cross_room", episodes=1)
