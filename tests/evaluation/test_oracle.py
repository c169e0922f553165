import numpy as np
import pytest
import torch

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.envs.worlds import make_world
from jepa_actions.evaluation.oracle import Functional, OracleLatents, OracleModel, ShortestPathCost, StraightLineCost

WORLD = TwoRoomWorld()
CODEC = ActionCodec(
    ("dx", "dy"),
    3,
    np.array([0.1, -0.2], np.float32),
    np.array([0.7, 0.8], np.float32),
    ActionBounds("ball", radius=1.8),
)


def test_an_imagined_rollout_is_what_the_environment_does():
    generator = torch.Generator().manual_seed(0)
    states, layouts = WORLD.sample(8, "all", generator)
    actions = 3 * torch.randn(8, 4, 6, CODEC.action_dim, generator=generator)  # long enough to meet walls
    model = OracleModel(CODEC, WORLD)
    z = model.rollout(model.encode(states, layouts), actions).z
    assert z.shape == (8, 4, 6, 1, 2)
    for candidate in range(4):
        simulation = WORLD.start(states, layouts)
        for step in range(6):
            for raw in CODEC.decode(actions[:, candidate, step]).unbind(1):
                simulation.step(raw)
            assert torch.equal(z[:, candidate, step, 0], simulation.states)


def test_a_world_with_velocity_is_imagined_too():
    world = make_world("point_maze")
    assert isinstance(world, Functional)
    generator = torch.Generator().manual_seed(0)
    data = world.behaviour(3, steps=8, seed=0)
    codec = ActionCodec(
        tuple(world.action_names),
        2,
        np.zeros(2, np.float32),
        np.ones(2, np.float32),
        ActionBounds("box", (-1, -1), (1, 1)),
    )
    actions = torch.rand(3, 2, 3, codec.action_dim, generator=generator) * 2 - 1
    z = OracleModel(codec, world).rollout(OracleModel(codec, world).encode(data.states[:, 4], data.layouts), actions).z
    simulation = world.start(data.states[:, 4], data.layouts)
    for step in range(3):
        for raw in codec.decode(actions[:, 1, step]).unbind(1):
            simulation.step(raw)
        torch.testing.assert_close(z[:, 1, step, 0], simulation.states)


def test_goal_and_bounds():
    model = OracleModel(CODEC, WORLD)
    goal = torch.rand(5, 2)
    assert torch.equal(model.goal(goal).z[:, 0], goal)
    assert model.action_dim == 6
    assert model.action_bounds.low.shape == (6,)
    state, layout = torch.rand(1, 2), torch.rand(1, 2)
    context = model.encode(state, layout)
    assert context.states is state
    assert context.layouts is layout


def test_one_cost_sees_the_wall_and_the_other_does_not():
    """Two candidates: close to the goal behind the wall, or further off before the door."""
    path = torch.tensor([[28.0, 10.0], [28.0, 26.0]]).view(1, 2, 1, 1, 2).expand(-1, -1, 3, -1, -1)
    goal, layout = OracleLatents(torch.tensor([[[33.0, 10.0]]])), torch.tensor([[30.0, 30.0]])
    straight = StraightLineCost(WORLD)(OracleLatents(path), goal)
    assert straight[0].tolist() == pytest.approx([25.0, 25.0 + 256.0])
    around = ShortestPathCost(WORLD, layout)(OracleLatents(path), goal)
    assert around.shape == (1, 2)
    assert float(around[0, 0]) > 32.0
    assert float(around[0, 1]) == pytest.approx(16.0 + 5.0, abs=2.0)
