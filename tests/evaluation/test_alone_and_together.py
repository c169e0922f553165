"""From pictures to raw actions, a problem alone is the problem in a batch of 100, by released models."""

from pathlib import Path

import pytest
import torch

from jepa_actions.evaluation.control import latent_agent, parse_control, world_codec
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.tasks import make_tasks, world_of_protocol
from jepa_actions.models import WorldModel

REPOSITORY = Path(__file__).parents[2]
BATCH, ALONE = 100, (0, 41, 99)
SEARCHES = ("cem:evaluations=90", "icem:evaluations=90", "mppi:evaluations=90", "gradient:evaluations=40")
HEADS = ("inverse", "cem:evaluations=90,proposals=5")


class Setup:
    def __init__(self, checkpoint, protocol):
        self.model = WorldModel.from_pretrained(REPOSITORY / "checkpoints" / checkpoint)
        rules = load_protocol(protocol)
        world = world_of_protocol(rules)
        tasks = make_tasks(rules, BATCH, 0)
        self.codec = world_codec(self.model, world)
        self.frames = [world.render(states, tasks.layout) for states in (tasks.start, tasks.start.roll(1, 0))]
        self.goals = world.render(tasks.goal, tasks.layout)

    def decided(self, words, rows=slice(None), first=0):
        """Two decisions, the second from what the first has left."""
        control, model = parse_control(words).resolved(self.model), self.model
        goals = self.goals[rows]
        agent = latent_agent(control, model, self.codec, goals, seed=0, history=model.history, budget=9, first=first)
        return torch.stack([agent.act(seen[rows]) for seen in self.frames], dim=1)


@pytest.fixture(scope="module")
def two_room():
    return Setup("two_room", "two_room/offset25")


@pytest.fixture(scope="module")
def reacher():
    pytest.importorskip("mujoco")
    return Setup("reacher", "reacher/offset25")


def assert_same(setup, words):
    together = setup.decided(words)
    assert together.std() > 0.1
    for task in ALONE:
        alone = setup.decided(words, slice(task, task + 1), first=task)
        torch.testing.assert_close(alone[0], together[task], atol=1e-4, rtol=0)


@pytest.mark.parametrize("words", SEARCHES)
def test_two_room(two_room, words):
    assert_same(two_room, words)


@pytest.mark.parametrize("words", [*SEARCHES, *HEADS])
def test_reacher(reacher, words):
    assert_same(reacher, words)


def test_latents_are_the_same_bits(two_room):
    """A channel that hardly varies makes a hundredfold of what a product of one row rounds otherwise."""
    model, frames = two_room.model, two_room.frames[0][:, None]
    with torch.no_grad():
        together = model.encode(frames).z
        for task in ALONE:
            assert torch.equal(model.encode(frames[task : task + 1]).z[0], together[task])
