"""The page that says how to add an environment runs as it is written, and its example keeps the page's own rules."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa_actions.data import ActionBounds, ActionCodec, ClipIndex, ClipLoader
from jepa_actions.envs.world import Simulation, World
from jepa_actions.envs.worlds import WORLDS
from jepa_actions.evaluation.oracle import Functional, OracleModel
from jepa_actions.training import WorldDataset, whole_episodes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_an_environment.md"


@pytest.fixture(scope="module")
def page() -> tuple[dict[str, Any], str]:
    """What the page's block defines, and what it prints."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, Any] = {"__name__": "page"}
    printed: list[str] = []
    names["print"] = lambda *words: printed.append(" ".join(map(str, words)))
    exec(compile(blocks[0], str(PAGE), "exec", dont_inherit=True), names)
    return names, "\n".join(printed)


def test_the_page_runs(page: tuple[dict[str, Any], str]) -> None:
    names, printed = page
    assert "frames (64, 121, 3, 32, 32) actions (64, 120, 2)" in printed
    states = names["data"].states[..., :2]
    assert states.min() >= 0
    assert states.max() <= 31


def test_its_world_has_everything_that_a_world_has(page: tuple[dict[str, Any], str]) -> None:
    world = page[0]["world"]
    for protocol, found in ((World, world), (Simulation, world.start(torch.zeros(1, 4), torch.zeros(1, 0)))):
        wanted = [name for name in vars(protocol) if not name.startswith("_")]
        assert [name for name in wanted if not hasattr(found, name)] == []
    assert isinstance(world, Functional)


def test_its_world_keeps_the_rules(page: tuple[dict[str, Any], str]) -> None:
    world, data = page[0]["world"], page[0]["data"]
    fewer = world.behaviour(7, steps=120, seed=0)
    for part in fields(fewer):
        assert torch.equal(getattr(fewer, part.name), getattr(data, part.name)[:7]), part.name
    simulation = world.start(data.states[:, 50], data.layouts)
    for t in range(50, 60):
        assert torch.equal(simulation.step(data.actions[:, t]), data.states[:, t + 1])
    alone = world.render(data.states[5, 3], data.layouts[5])
    assert torch.equal(alone, page[0]["video"][5, 3])
    assert world.solved(data.states[:, 0], data.states[:, 0]).all()


def test_its_world_is_a_data_set_and_an_oracle(page: tuple[dict[str, Any], str]) -> None:
    world, data = page[0]["world"], page[0]["data"]
    dataset = WorldDataset(world, data)
    codec = ActionCodec.fit(dataset, whole_episodes(dataset), block=2)
    loader = ClipLoader(dataset, ClipIndex(whole_episodes(dataset), frames=3, block=2), codec, batch_size=4, seed=0)
    batch = loader.batch(0)
    assert batch.frames["image"].shape == (4, 3, 3, 32, 32)
    assert dataset.scenes().tolist() == [0] * 64
    box = ActionCodec(
        world.action_names, 1, np.zeros(2, np.float32), np.ones(2, np.float32), ActionBounds("box", (-1, -1), (1, 1))
    )
    model = OracleModel(box, world)
    actions = data.actions[:3, None, :4].clamp(-1, 1)
    z = model.rollout(model.encode(data.states[:3, 0], data.layouts[:3]), actions).z
    torch.testing.assert_close(z[:, 0, :, 0], data.states[:3, 1:5])


def test_every_file_and_world_the_page_names_exists() -> None:
    root, text = PAGE.parents[1], PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:envs|training)/\w+\.py)`", text):
        assert (root / "jepa_actions" / name).exists(), name
    for name in re.findall(r"`(\w+\.py)`", text):
        assert (root / "jepa_actions" / "envs" / name).exists(), name
    assert set(re.findall(r"`(\w+)\.py` and", text)) <= {"reacher", "push_t"} <= set(WORLDS)
