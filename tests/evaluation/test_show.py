import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from known_worlds import BALL, UNIT, Cart, cart_positions, opened, wander
from PIL import Image, ImageSequence
from planning_worlds import Traveller

from jepa_actions.data import Segment
from jepa_actions.envs.worlds import make_world
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.control import Control, parse_control
from jepa_actions.evaluation.landscape import energy_landscape, plot_landscape
from jepa_actions.evaluation.play import play
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.show import Library, first_plans, show_planning
from jepa_actions.evaluation.tasks import make_tasks

OFFSET = load_protocol("two_room/offset25")
CEM = parse_control("cem:evaluations=96,cost=l2")


@pytest.fixture(scope="module")
def cart():
    train, heldout = ([Segment(i, 0, 41) for i in part] for part in (range(3), range(3, 6)))
    return opened(Cart(wander()), train, heldout)


def test_the_minimum_of_a_perfect_model_is_the_recorded_action(cart):
    report, land = energy_landscape(Traveller(cart.codec, cart_positions), cart, grid=9, limit=40)
    assert land.x.tolist() == np.linspace(-2, 2, 9).tolist()
    np.testing.assert_allclose(land.points["minimum"], land.points["recorded"], atol=1e-5)
    np.testing.assert_allclose(land.points["inverse_head"], land.points["recorded"], atol=1e-4)
    assert report["metrics"]["hit"] == 1.0
    assert report["metrics"]["error"] < 1e-5
    assert report["metrics"]["recorded_quantile"] < 0.01
    assert report["floors"]["mean"]["error"] > 1.0
    assert report["floors"]["shuffled_goal"]["hit"] < 0.5
    assert report["ci95"]["margin_over"]["shuffled_goal"]["error"][0] > 0
    for pair in range(3):  # cost is [y, x]: the recorded action's cell is the cheapest
        row, column = np.unravel_index(land.cost[pair].argmin(), (9, 9))
        np.testing.assert_allclose([land.x[column], land.y[row]], land.points["recorded"][pair], atol=1e-5)
    assert json.loads(json.dumps(report)) == report
    assert (report["episodes"], report["dimensions"], len(report["rows"])) == (40, ["dx", "dy"], 40)


def test_a_minimum_beside_the_true_action_is_reported_where_it_is(cart):
    model = Traveller(cart.codec, cart_positions)
    exact = model.dynamics.moved
    model.dynamics.moved = lambda actions: exact(actions) + torch.tensor([1.0, 0.0]) / UNIT  # drifts 1 px to the right
    report, land = energy_landscape(model, cart, grid=17, limit=60)
    inside = land.points["recorded"][:, 0] > -1  # elsewhere the bounds cut the minimum off
    moved = land.points["minimum"] - land.points["recorded"]
    np.testing.assert_allclose(moved[inside], np.tile([-1.0, 0.0], (inside.sum(), 1)), atol=1e-5)
    assert -1.0 <= report["metrics"]["bias"]["dx"] < -0.6
    assert abs(report["metrics"]["bias"]["dy"]) < 1e-5
    assert report["metrics"]["hit"] < 0.4
    assert report["metrics"]["recorded_quantile"] > 0.01


def test_the_grid_ends_where_the_bounds_do(cart, tmp_path):
    data = replace(cart, codec=replace(BALL, block=1))
    _, land = energy_landscape(Traveller(data.codec, cart_positions), data, grid=11, limit=8)
    place = np.stack(np.meshgrid(land.x, land.y), -1)
    assert (np.isnan(land.cost) == (np.linalg.norm(place, axis=-1) > 1.8 + 1e-4)).all()
    assert np.linalg.norm(land.points["minimum"], axis=1).max() <= 1.8 + 1e-5
    picture = Image.open(plot_landscape(land, tmp_path / "deep" / "landscape.png"))
    assert picture.width > 800
    assert len(picture.convert("RGB").getcolors(2**24)) > 50


def test_other_dimensions_stay_as_recorded():
    train, heldout = ([Segment(i, 0, 41) for i in part] for part in (range(3), range(3, 6)))
    data = opened(Cart(wander(), switch=True), train, heldout, block=2)
    model, seen = Traveller(data.codec, cart_positions), []
    rollout = model.rollout
    model.rollout = lambda context, actions: (seen.append(actions), rollout(context, actions))[1]
    energy_landscape(model, data, grid=5, limit=4, dims=(1, 0), k=2)
    raw = data.codec.decode(seen[0])[:, 1:26]  # the first candidate is the recorded one
    recorded = data.codec.decode(seen[0])[:, :1]
    torch.testing.assert_close(raw[..., 2], recorded[..., 2].expand_as(raw[..., 2]))
    assert (raw[..., :2] == raw[:, :, :1, :1, :2]).all(), "one value for the whole way"
    assert raw[0, :5, 0, 0, 1].tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert raw[0, 0:25:5, 0, 0, 0].tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    with pytest.raises(ConfigError, match=r"found dimensions \[0, 0\]"):
        energy_landscape(model, data, dims=(0, 0), limit=4)
    with pytest.raises(ConfigError, match="found grid 1"):
        energy_landscape(model, data, grid=1)


def test_the_nearest_frame_is_the_nearest_latent():
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    frames = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    asked = torch.tensor([[[[0.9, 0.2]], [[4.0, 9.0]]]])
    assert Library(z, frames).nearest(asked)[0, :, 0, 0, 0].tolist() == [1, 2]


def test_first_plans_are_imagined_and_played():
    model, tasks, world = Traveller(BALL), make_tasks(OFFSET, 3, 0), make_world("two_room")
    states, layouts = tasks.goal, tasks.layout
    library = Library(model.goal(world.render(states, layouts)).z.flatten(1), world.render(states, layouts))
    control = replace(CEM, evaluations=600, horizon=4)
    imagined, happened = first_plans(model, world, control, tasks, library, budget=50)
    assert imagined.shape == happened.shape == (3, 5, 3, 64, 64)
    assert torch.equal(imagined[:, 0], world.render(tasks.start, layouts))
    assert torch.equal(imagined[:, -1], world.render(states, layouts)), "what it imagines last is nearest the goal"
    away = [
        (model.see(at[:, None]) - states[:, None, :2]).norm(dim=-1).mean() for at in (happened[:, 0], happened[:, -1])
    ]
    assert away[1] < away[0] / 2
    short, _ = first_plans(model, world, control, tasks, library, budget=10)
    assert short.shape[1] == 3, "no plan looks beyond the budget"


def test_show_planning_writes_what_was_played(tmp_path):
    model = Traveller(BALL)
    files = show_planning(model, OFFSET, CEM, tmp_path / "shown", 2, episodes=6)
    assert [file.name for file in files] == ["task0.gif", "task1.gif", "imagined.png", "landscape.png"]
    assert all(file.is_file() for file in files)
    world, tasks = make_world("two_room"), make_tasks(OFFSET, 2, 0)
    from jepa_actions.evaluation.control import latent_agent

    goals = world.render(tasks.goal, tasks.layout)
    agent = latent_agent(CEM, model, BALL, goals, seed=0, history=1, budget=10)
    score = play(tasks, agent, world, OFFSET, watched=2)
    for task in range(2):
        gif = Image.open(files[task])
        pages = [np.asarray(page.convert("RGB")).astype(int) for page in ImageSequence.Iterator(gif)]
        reached = score.solved_by_decision[:, task].tolist()
        assert len(pages) == reached.index(True) + 1
        for page, frame in zip(pages, score.frames, strict=False):
            shown, goal = (page[20 : 20 + 192 : 3, left : left + 192 : 3] for left in (6, 210))
            assert abs(shown - frame[task].permute(1, 2, 0).numpy()).mean() < 3  # a GIF has 256 colours
            assert abs(goal - goals[task].permute(1, 2, 0).numpy()).mean() < 3
        assert abs(pages[-1][100, 2] - np.array([58, 125, 68])).max() < 12, "a green frame once it is reached"
        assert pages[0][100, 2].min() > 240


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="found 0 tasks"):
        show_planning(Traveller(BALL), OFFSET, CEM, tmp_path, 0)
    three = replace(BALL, names=("x", "y", "z"), mean=np.zeros(3, np.float32), std=np.ones(3, np.float32))
    with pytest.raises(ConfigError, match="found a model with actions x, y, z, expected the raw actions of two_room"):
        show_planning(Traveller(three), OFFSET, CEM, tmp_path, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        show_planning(Traveller(BALL), OFFSET, Control(cost="l2"), tmp_path / "file", 1)
