"""Reacher: its states continue exactly, its pictures show the angles and nothing else, its rule counts angles."""

import itertools
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("mujoco", reason="mujoco is not installed (pip install 'jepa-actions[mujoco]')")

from jepa_actions.envs.reacher import Reacher
from jepa_actions.envs.reacher_model import ELBOW_LIMIT
from jepa_actions.envs.reacher_render import ReacherConfig, render_reacher
from jepa_actions.envs.world import World
from jepa_actions.errors import ConfigError, DataError, ShapeError


@pytest.fixture(scope="module")
def world() -> Reacher:
    return Reacher()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(q1: float, q2: float, dq1: float = 0.0, dq2: float = 0.0) -> Tensor:
    return torch.tensor([[q1, q2, dq1, dq2]])


def none(n: int) -> Tensor:
    return torch.empty(n, 0)


def advance(world: Reacher, states: Tensor, actions: Tensor) -> Tensor:
    return world.step_states(states, torch.empty(*states.shape[:-1], 0), actions)


def test_it_is_a_world(world: Reacher) -> None:
    checked: World = world
    states, layouts = checked.sample(5, "heldout", generator(0))
    assert states.shape == (5, len(checked.state_names))
    assert layouts.shape == (5, len(checked.layout_names)) == (5, 0)
    frames = checked.render(states.reshape(5, 1, 4), layouts.reshape(5, 1, 0))
    assert frames.shape == (5, 1, 3, checked.image_size, checked.image_size)
    assert checked.fps == 20
    assert torch.equal(states[:, 2:], torch.zeros(5, 2))
    more, _ = checked.sample(2000, "all", generator(1))
    assert more[:, 0].abs().max() > 3.1
    assert 2.7 < more[:, 1].abs().max() <= ELBOW_LIMIT


def test_an_episode_continues_bit_for_bit_from_any_of_its_rows(world: Reacher) -> None:
    behaviour = world.behaviour(8, steps=60, seed=3)
    assert (behaviour.states[:, :, 1].abs() > ELBOW_LIMIT - 0.01).any()  # also at the limit, where a solver runs
    for begin in (0, 17, 40):
        simulation = world.start(behaviour.states[:, begin], behaviour.layouts)
        assert torch.equal(simulation.states, behaviour.states[:, begin])
        for t in range(begin, 60):
            assert torch.equal(simulation.step(behaviour.actions[:, t]), behaviour.states[:, t + 1])
            assert torch.equal(simulation.states, behaviour.states[:, t + 1])


def test_a_step_is_mujocos(world: Reacher) -> None:
    """Against a plain loop over `mj_step`, from the same row."""
    import mujoco

    states, actions = world.behaviour(4, steps=40, seed=0).states[:, 40], torch.tensor([[0.5, -1.0]] * 4)
    after = advance(world, states, actions)
    data = mujoco.MjData(world.physics.model)
    for row in range(4):
        data.qpos[:], data.qvel[:] = states[row, :2].numpy(), states[row, 2:].numpy()
        data.ctrl[:], data.qacc_warmstart[:] = actions[row].numpy(), 0
        mujoco.mj_step(world.physics.model, data, 5)
        angle = (data.qpos[0] + math.pi) % (2 * math.pi) - math.pi
        assert np.allclose(after[row].numpy(), [angle, data.qpos[1], *data.qvel], atol=1e-6)


def test_a_copy_does_not_depend_on_the_others(world: Reacher) -> None:
    states, layouts = world.sample(32, "train", generator(0))
    actions = 2 * torch.rand(10, 32, 2, generator=generator(1)) - 1
    together, alone = world.start(states, layouts), world.start(states[5:6], layouts[5:6])
    for action in actions:
        assert torch.equal(together.step(action)[5:6], alone.step(action[5:6]))
    many, few = world.render(together.states, layouts), world.render(together.states[5:8], layouts[5:8])
    assert torch.equal(many[5:8], few)
    nested = advance(world, states.reshape(4, 8, 4), actions[0].reshape(4, 8, 2))
    assert torch.equal(nested.reshape(32, 4), advance(world, states, actions[0]))
    wide = world.step_states(states[:4, None], torch.empty(4, 1, 0), actions[None, 0, :5])  # candidates of problems
    assert torch.equal(wide[2, 3], advance(world, states[2:3], actions[0, 3:4])[0])


def test_torques_beyond_the_bounds_are_cut(world: Reacher) -> None:
    states, _ = world.sample(3, "train", generator(0))
    wild, full = torch.tensor([[9.0, -3.0]] * 3), torch.tensor([[1.0, -1.0]] * 3)
    assert torch.equal(advance(world, states, wild), advance(world, states, full))
    assert not torch.equal(advance(world, states, full / 2), advance(world, states, full))


def test_the_shoulder_turns_without_limit_and_the_elbow_does_not(world: Reacher) -> None:
    simulation = world.start(state(3.0, 0.0), none(1))
    angles = [float(simulation.step(torch.tensor([[1.0, 1.0]]))[0, 0]) for _ in range(60)]
    assert min(angles) < -3.0  # went over the back
    assert max(abs(angle) for angle in angles) <= math.pi + 1e-6
    assert abs(float(simulation.states[0, 1]) - ELBOW_LIMIT) < 0.06


def test_behaviour_is_a_function_of_seed_and_episode(world: Reacher) -> None:
    many = world.behaviour(12, steps=30, seed=5)
    few = world.behaviour(3, steps=30, seed=5, split="heldout", episodes_per_layout=2)
    short = world.behaviour(3, steps=10, seed=5)
    assert torch.equal(many.states[:3], few.states)
    assert torch.equal(many.actions[:3], few.actions)
    assert torch.equal(many.states[:3, :11], short.states)
    assert not torch.equal(world.behaviour(3, steps=30, seed=6).states, few.states)
    assert len(torch.unique(many.states[:, 0, 0])) == 12


def test_behaviour_moves_both_joints(world: Reacher) -> None:
    behaviour = world.behaviour(100, steps=75, seed=0)
    moved = (behaviour.states[:, 25:, :2] - behaviour.states[:, :-25, :2]).abs()
    moved[..., 0] = torch.minimum(moved[..., 0], 2 * math.pi - moved[..., 0])
    assert ((moved.flatten(0, 1).median(0).values > 0.5) & (moved.flatten(0, 1).median(0).values < 1.5)).all()
    assert world.solved(behaviour.states[:, :-25], behaviour.states[:, 25:]).float().mean() < 0.02
    assert behaviour.actions.abs().max() <= 1


def test_solved_counts_angles_and_wraps_the_shoulder(world: Reacher) -> None:
    goal = state(3.1, 0.5)
    assert world.solved(state(3.1, 0.5, 5.0, -5.0), goal).item()  # velocity does not count
    assert world.solved(state(-3.1, 0.5), goal).item()  # 0.083 rad the short way round
    assert not world.solved(state(3.1, 0.61), goal).item()
    assert not world.solved(state(2.99, 0.5), goal).item()
    assert world.solved(state(2.99, 0.5), goal, 0.2).item()
    assert float(world.distance(state(-3.1, 0.7), goal)) == pytest.approx(0.2, abs=1e-6)
    # an elbow cannot go through its stop: 40 degrees apart as the crow flies, 320 on the way
    folded = world.distance(state(0, ELBOW_LIMIT), state(0, -ELBOW_LIMIT))
    assert float(folded) == pytest.approx(2 * ELBOW_LIMIT, abs=1e-5)
    assert torch.equal(world.shortest_path(goal, state(0, 0), none(1)), world.distance(goal, state(0, 0)))


def test_towards_arrives(world: Reacher) -> None:
    starts, layouts = world.sample(50, "all", generator(0))
    goals, _ = world.sample(50, "all", generator(1))
    simulation = world.start(starts, layouts)
    for _ in range(80):
        simulation.step(world.towards(simulation.states, goals))
    assert world.solved(simulation.states, goals).float().mean() > 0.9
    moving = starts.clone()
    moving[:, 2:] = 2.0
    assert torch.equal(world.towards(moving, goals), world.towards(starts, goals))


def test_pictures_show_no_velocity(world: Reacher) -> None:
    at_rest, moving = state(1.0, -0.5), state(1.0, -0.5, 3.0, -4.0)
    assert torch.equal(world.render(at_rest, none(1)), world.render(moving, none(1)))


def test_a_picture_determines_both_angles() -> None:
    """The nearest of the pictures on a grid of angles is a neighbour on it."""
    step = 2 * math.pi / 60
    grid = torch.tensor([(i * step - math.pi, j * step, 0, 0) for i, j in itertools.product(range(60), range(-26, 27))])
    pictures = render_reacher(grid).flatten(1).float()
    unit = torch.rand(40, 2, generator=generator(0))
    states = torch.cat([(2 * unit - 1) * torch.tensor([math.pi, ELBOW_LIMIT]), torch.zeros(40, 2)], dim=1)
    nearest = grid[torch.cdist(render_reacher(states).flatten(1).float(), pictures).argmin(dim=1)]
    error = (nearest - states)[:, :2].abs()
    error[:, 0] = torch.minimum(error[:, 0], 2 * math.pi - error[:, 0])
    assert error.max() < 1.5 * step


def test_colours_can_be_changed(world: Reacher) -> None:
    other = Reacher(ReacherConfig(background=(200, 10, 60)))
    states, layouts = world.sample(3, "all", generator(0))
    frames = other.render(states, layouts)
    assert frames[0, :, 0, 0].tolist() == [200, 10, 60]
    assert not torch.equal(frames, world.render(states, layouts))
    assert torch.equal(advance(other, states, torch.ones(3, 2)), advance(world, states, torch.ones(3, 2)))


def test_the_picture_is_the_one_that_mujoco_draws(world: Reacher) -> None:
    """Our painter against MuJoCo's own OpenGL picture of the same model."""
    code = (
        "import sys, pickle, numpy, mujoco\n"
        "from jepa_actions.envs.reacher import Reacher\n"
        "world, rows = Reacher(), pickle.load(sys.stdin.buffer)\n"
        "model = world.physics.model\n"
        "for name in ('floor', 'hub', 'upper', 'lower'):\n"
        "    colour = getattr(world.config, 'background' if name == 'floor' else name)\n"
        "    model.geom(name).rgba[:3] = [c / 255 for c in colour]\n"
        "data, renderer = mujoco.MjData(model), mujoco.Renderer(model, 64, 64)\n"
        "frames = []\n"
        "for row in rows:\n"
        "    data.qpos[:] = row[:2]\n"
        "    mujoco.mj_forward(model, data)\n"
        "    renderer.update_scene(data, 'top')\n"
        "    frames.append(renderer.render().copy())\n"
        "pickle.dump(numpy.stack(frames), sys.stdout.buffer)\n"
    )

    states, layouts = world.sample(12, "all", generator(2))
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(states.numpy()),
        capture_output=True,
        check=False,
        env=os.environ | {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"},
    )
    if done.returncode != 0:
        pytest.skip(f"no EGL here: {done.stderr.decode().strip().splitlines()[-1]}")
    theirs = torch.from_numpy(pickle.loads(done.stdout)).permute(0, 3, 1, 2).float()
    ours = world.render(states, layouts).float()
    assert (theirs - ours).abs().mean() < 2.0
    assert (theirs - ours.roll(1, dims=0)).abs().mean() > 5.0  # another arm's picture is far


def test_a_world_travels_to_another_process(world: Reacher) -> None:
    states, _ = world.sample(3, "all", generator(0))
    copy = pickle.loads(pickle.dumps(world))
    assert torch.equal(advance(copy, states, torch.ones(3, 2)), advance(world, states, torch.ones(3, 2)))


def test_bad_input_is_named_in_one_line(world: Reacher) -> None:
    simulation = world.start(*world.sample(2, "train", generator(0)))
    with pytest.raises(ShapeError, match=r"reacher action: found shape \(3, 2\).*\(2, 2\).*shoulder, elbow"):
        simulation.step(torch.zeros(3, 2))
    with pytest.raises(DataError, match=r"reacher action: .* in row 1"):
        simulation.step(torch.tensor([[0.0, 0.0], [0.0, float("nan")]]))
    with pytest.raises(ShapeError, match="reacher state: found shape"):
        world.start(torch.zeros(2, 3), none(2))
    with pytest.raises(ShapeError, match="reacher layout: found shape"):
        world.start(torch.zeros(2, 4), torch.zeros(2, 1))
    with pytest.raises(DataError, match="reacher state q2: found 3 in row 0"):
        world.start(state(0.0, 3.0), none(1))
    with pytest.raises(ConfigError, match="steps=0"):
        world.behaviour(1, steps=0, seed=0)
    with pytest.raises(ConfigError, match="expected one of train, heldout, all"):
        world.sample(1, "test", generator(0))  # type: ignore[arg-type]
