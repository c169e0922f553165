import numpy as np
import torch

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs.two_room import TwoRoom, TwoRoomConfig, TwoRoomState
from jepa_actions.evaluation.oracle import OracleModel

CODEC = ActionCodec(
    ("dx", "dy"),
    3,
    np.array([0.1, -0.2], np.float32),
    np.array([0.7, 0.8], np.float32),
    ActionBounds("ball", radius=1.8),
)


def test_an_imagined_rollout_is_what_the_environment_does():
    env = TwoRoom(8, TwoRoomConfig())
    generator = torch.Generator().manual_seed(0)
    start = env.reset(generator, "all")
    actions = 3 * torch.randn(8, 4, 6, CODEC.action_dim, generator=generator)  # long enough to meet walls
    model = OracleModel(CODEC, env.config)
    z = model.rollout(model.encode(start), actions).z
    assert z.shape == (8, 4, 6, 1, 2)
    for candidate in range(4):
        env.set_state(start)
        for step in range(6):
            for raw in CODEC.decode(actions[:, candidate, step]).unbind(1):
                position = env.step(raw).position
            assert torch.equal(z[:, candidate, step, 0], position)


def test_goal_and_bounds():
    model = OracleModel(CODEC, TwoRoomConfig())
    goal = torch.rand(5, 2)
    assert torch.equal(model.goal(goal).z[:, 0], goal)
    assert model.action_dim == 6
    assert model.action_bounds.low.shape == (6,)
    state = TwoRoomState(torch.rand(1, 2), torch.rand(1), torch.rand(1))
    assert model.encode(state) is state
