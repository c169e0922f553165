import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from known_worlds import Cart, cart_positions, nowhere, opened, wander
from planning_worlds import Traveller
from tiny_world import tiny_recipe, tiny_world

from jepa_actions.cli import main
from jepa_actions.data import ActionBounds, ActionCodec, Segment
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.evaluation.control import Control, parse_control
from jepa_actions.evaluation.displacement import Displacement, ranks
from jepa_actions.evaluation.heldout import heldout_clips
from jepa_actions.evaluation.offline import evaluate_offline, plan_once
from jepa_actions.models import DynamicsConfig
from jepa_actions.training import open_data

EPISODES, K = 8, 3


@pytest.fixture(scope="module")
def cart():
    train, heldout = ([Segment(i, 0, 41) for i in part] for part in (range(4), range(4, EPISODES)))
    return opened(Cart(wander(EPISODES)), train, heldout, block=2)


@pytest.fixture(scope="module")
def report(cart):
    model = Traveller(cart.codec, cart_positions, max_gap=K)
    control = parse_control("cem:evaluations=600")
    return evaluate_offline(model, cart, k=K, control=control, limit=60, candidates=40)


def test_a_perfect_model_plans_what_was_recorded(report):
    metrics, floors = report["metrics"], report["floors"]
    assert metrics["cosine"] > 0.95
    assert metrics["error"] < floors["zero"]["error"] / 5
    assert metrics["error_by_dimension"]["dx"] < floors["mean"]["error_by_dimension"]["dx"] / 5
    assert min(metrics["cosine_by_dimension"].values()) > 0.98
    assert metrics["rank_recorded"] < 2.5
    assert metrics["top10"] == metrics["top10_recorded"] == 1.0
    assert 500 < metrics["model_evaluations_per_decision"] <= 600


def test_floors_are_what_they_say(report, cart):
    floors = report["floors"]
    assert set(floors) == {"zero", "mean", "inverse_head", "shuffled_goal"}
    clips = heldout_clips(Traveller(cart.codec, cart_positions), cart, k=K, limit=60, seed=0)
    positions = [
        cart.dataset.positions[episode][frame + 2 * K] - cart.dataset.positions[episode][frame]
        for episode, frame in zip(clips.encoded.episode, clips.encoded.frame[:, 0], strict=True)
    ]
    assert floors["zero"]["error"] == pytest.approx(np.linalg.norm(positions, axis=1).mean(), rel=1e-4)
    assert floors["zero"]["cosine"] == 0.0
    assert floors["zero"]["error_by_dimension"]["dy"] == pytest.approx(np.abs(positions).mean(0)[1], rel=1e-4)
    assert floors["inverse_head"]["cosine"] > 0.98, "this head knows the way of k steps"
    assert report["inverse_gap"] == K
    assert floors["shuffled_goal"]["cosine"] < 0.5
    assert floors["shuffled_goal"]["error"] > floors["zero"]["error"]
    assert 10 < floors["shuffled_goal"]["rank_recorded"] < 30
    assert report["references"]["inverse_pairs"]["error"] < 1e-4


def test_the_report_has_what_it_promises(report):
    assert json.loads(json.dumps(report)) == report
    assert set(report) >= {"hardware", "commit", "control", "data", "seconds", "seconds_total"}
    assert (report["episodes"], report["recordings"], report["seeds"], report["gap"]) == (60, 4, 1, K)
    assert 0 < report["seconds"] < report["seconds_total"]
    for name in ("cosine", "error", "error_scaled", "rank", "top10_recorded"):
        assert np.mean([row[name] for row in report["rows"]]) == pytest.approx(report["metrics"][name], abs=1e-4)
        low, high = report["ci95"][name]
        assert low <= report["metrics"][name] <= high
    for floor in ("zero", "mean", "shuffled_goal"):
        for name in ("cosine", "error", "rank_recorded"):
            assert report["ci95"]["margin_over"][floor][name][0] > 0, f"{name} beats {floor}"


def test_a_head_that_knows_one_step_is_shown_the_first_pair(cart):
    model = Traveller(cart.codec, cart_positions)
    clips = heldout_clips(model, cart, k=K, limit=30, seed=0)
    actions, gap = clips.inferred()
    assert gap == 1
    assert actions.shape == clips.recorded.shape
    first, given = (clips.codec.decode(some).sum(2) for some in (actions, clips.recorded))
    torch.testing.assert_close(first, given[:, :1].expand_as(first), atol=1e-3, rtol=0)


def test_a_model_that_sees_nothing_beats_no_floor(cart):
    found = evaluate_offline(
        Traveller(cart.codec, nowhere), cart, k=K, control=parse_control("cem:evaluations=64"), limit=60, candidates=40
    )
    assert abs(found["metrics"]["cosine"]) < 0.4
    assert found["ci95"]["margin_over"]["mean"]["error"][0] < 0
    assert found["metrics"]["rank_recorded"] > 10


def test_history_starts_before_the_present(cart):
    model = Traveller(cart.codec, cart_positions, history=3)
    clips = heldout_clips(model, cart, k=K, limit=20, seed=0)
    rows = torch.arange(5)
    context = clips.context(rows)
    torch.testing.assert_close(context.z, clips.encoded.z[:5, 2])
    torch.testing.assert_close(context.before, clips.encoded.z[:5, 1])
    past, actions = context.cache
    torch.testing.assert_close(past + model.dynamics.moved(actions), clips.encoded.z[:5, 1:3])
    end = model.rollout(context, clips.recorded[:5, None]).z[:, 0, -1]
    torch.testing.assert_close(end, clips.goals[:5])
    assert clips.named(0)["frame"] == clips.encoded.frame[0, 2]


def test_plans_do_not_depend_on_the_batch(cart):
    model, control = Traveller(cart.codec, cart_positions), parse_control("cem:evaluations=64")
    one, many = (evaluate_offline(model, cart, k=2, control=control, limit=9, batch=b)["rows"] for b in (1, 9))
    assert one == many


class Armed(Cart):
    """A cart that reads its own position, beside a gripper."""

    proprio_names = ("x", "y")

    def episode(self, i):
        return replace(super().episode(i), proprio=self.positions[i].astype(np.float32))


def test_proprio_reaches_the_model_and_grippers_stay_apart():
    data = opened(Armed(wander(4), switch=True), [Segment(i, 0, 41) for i in range(2)], [Segment(2, 0, 41)], block=2)
    encoder = replace(tiny_world().config.encoder, image_size=(4, 4), patch=4)
    model = tiny_world(
        data.codec, encoder=encoder, dynamics=DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, proprio=2)
    )
    clips = heldout_clips(model, data, k=2, limit=6, seed=0)
    context = clips.context(torch.arange(6))
    expected = np.stack([data.dataset.positions[2][frame] for frame in clips.encoded.frame[:, 0]])
    torch.testing.assert_close(context.proprio, torch.from_numpy(expected).float())
    frames = data.dataset.read_clips(clips.encoded.episode, clips.encoded.frame[:, :1])
    own = model.encode(frames, context.proprio[:, None])
    actions = clips.recorded[:, None]
    torch.testing.assert_close(model.rollout(context, actions).z, model.rollout(own, actions).z)
    found = evaluate_offline(model, data, k=2, control=parse_control("cem:evaluations=16"), limit=6, candidates=5)
    assert set(found["metrics"]["error_by_dimension"]) == {"dx", "dy", "gripper"}
    moved = np.linalg.norm([clips.codec.decode(clips.recorded)[..., :2].sum((1, 2)).numpy()][0], axis=-1)
    assert found["floors"]["zero"]["error"] == pytest.approx(moved.mean(), rel=1e-5)


def test_choices_are_ranked_but_not_added_up():
    codec = ActionCodec(
        ("dx", "jump"),
        1,
        np.zeros(2, np.float32),
        np.ones(2, np.float32),
        ActionBounds("box", low=(-2.0, 0.0), high=(2.0, 2.0)),
        classes=(0, 3),
    )
    raw = torch.stack([torch.linspace(-1, 1, 12), torch.arange(12.0) % 3], -1).view(2, 6, 1, 2)
    displacement = Displacement(codec, codec.encode(raw))
    assert displacement.names == ["dx"]
    torch.testing.assert_close(displacement.of(codec.encode(raw))[:, 0], raw[..., 0].double().sum((1, 2)))


def test_ranks_by_hand():
    cost = torch.tensor([[1.0, 2.0, 3.0, 0.5], [2.0, 1.0, 1.5, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert ranks(cost).tolist() == [2.0, 4.0, 2.5]


def test_a_policy_walks_in_imagination(cart):
    from planning_worlds import StraightLine

    model = StraightLine(goals=True)
    context, goal = model.encode(_dot(10, 10)[:, None]), model.goal(_dot(40, 10))
    plan = plan_once(model, context, goal, Control(planner="inverse", cost="l2"), horizon=4, seeds=[0])
    assert float(plan.cost) < 1e-3
    assert plan.actions.shape == (1, 4, model.action_dim)
    with pytest.raises(ConfigError, match="goal-conditioned inverse head"):
        plan_once(StraightLine(), context, goal, Control(planner="inverse", cost="l2"), horizon=4, seeds=[0])


def _dot(x: int, y: int) -> torch.Tensor:
    frame = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    frame[:, 0, y, x] = 255
    return frame


def test_bad_requests_are_refused(cart):
    model = Traveller(cart.codec, cart_positions)
    with pytest.raises(ConfigError, match="found k 0"):
        evaluate_offline(model, cart, k=0)
    with pytest.raises(DataError, match="nothing is held out"):
        evaluate_offline(model, replace(cart, heldout=()), k=2)
    with pytest.raises(DataError, match="trained without actions"):
        evaluate_offline(tiny_world(video_only=True), cart, k=2)
    reader = tiny_world(cart.codec, dynamics=DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, proprio=2))
    reader.encode_frames = lambda frames: torch.zeros(*frames["image"].shape[:2], 1, 16)
    with pytest.raises(DataError, match="found no proprio"):
        evaluate_offline(reader, cart, k=2)


def test_the_command_plans_on_data(tmp_path, capsys):
    recipe = tiny_recipe(tmp_path)
    data = open_data(recipe.data, (64, 64), ("image",))
    model = tiny_world(data.codec, encoder=recipe.model.encoder)
    settings = json.loads(json.dumps(asdict(recipe)))
    model.save_pretrained(tmp_path / "model", extra={"recipe": settings})
    command = ["eval", "planning", "--model", str(tmp_path / "model"), "--planner", "cem:evaluations=8"]
    options = ["--data", "env:two_room", "--gap", "2", "--episodes", "6", "--show", str(tmp_path / "shown")]
    assert main([*command, *options, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["gap"], report["episodes"], report["data"]) == (2, 6, "env:two_room")
    assert report["metrics"]["model_evaluations_per_decision"] == 8
    assert "rank_recorded" in capsys.readouterr().out
    assert (tmp_path / "shown" / "landscape.png").is_file()
    for wrong in (
        ["--gap", "2"],
        ["--data", "env:two_room", "--compare", "cem"],
        ["--data", "env:two_room", "--seeds", "2"],
    ):
        assert main([*command, *wrong]) != 0
        assert "--data" in capsys.readouterr().err
