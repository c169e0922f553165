"""Protocols and evaluations in a TwoRoom that shows more, or in other colours."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from tiny_world import tiny_codec, tiny_world

from jepa_actions import training
from jepa_actions.cli import main
from jepa_actions.cli_parser import take_distractors
from jepa_actions.envs import Distractors
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.latents import encode_clips
from jepa_actions.evaluation.oracle import OracleModel
from jepa_actions.evaluation.play import play
from jepa_actions.evaluation.protocol import load_protocol
from jepa_actions.evaluation.suite import data_of
from jepa_actions.evaluation.tasks import load_tasks, make_tasks, save_tasks, world_of_protocol
from jepa_actions.models import EncoderConfig

DOTTED = Distractors(moving_dot=True, static_dot=True, background=64.0, noise=8.0, jitter=1.0)
NAMES = ("offset25", "offset100", "cross_room", "stitched")


def dotted(name, **changes):
    return replace(load_protocol(f"two_room/{name}"), distractors=replace(DOTTED, **changes))


def sha(*tensors):
    return hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("offset25", "574a491a785585b7"),
        ("cross_room", "0a537c4b4064f6a6"),
        ("stitched", "8018d2c34c26820b"),
        ("offset100", "f0698425775a310e"),
    ],
)
def test_tasks_of_the_plain_room_are_what_they_were(name, pinned):
    """Hashes from before there were distractors."""
    tasks = make_tasks(load_protocol(f"two_room/{name}"), 40, 1)
    assert sha(tasks.start, tasks.goal, tasks.layout) == pinned


@pytest.mark.parametrize("name", NAMES)
def test_tasks_are_where_they_are_in_the_plain_room_and_goals_have_a_scenery_of_their_own(name, tmp_path):
    protocol = dotted(name)
    plain, tasks = make_tasks(load_protocol(f"two_room/{name}"), 70, 0), make_tasks(protocol, 70, 0)
    for key in ("start", "goal"):
        assert torch.equal(getattr(tasks, key)[:, :2], getattr(plain, key))
    assert torch.equal(tasks.layout, plain.layout)
    assert torch.equal(tasks.step, plain.step)
    assert tasks.start.shape == tasks.goal.shape == (70, 6)
    assert (tasks.start[:, 2] != tasks.goal[:, 2]).all()
    assert torch.equal(make_tasks(protocol, 5, 0).goal, tasks.goal[:5])
    kept = make_tasks(dotted(name, shared_goal=True), 70, 0)
    assert torch.equal(kept.goal[:, 2], kept.start[:, 2])
    save_tasks(tmp_path / "tasks.json", tasks, protocol, 0)
    assert torch.equal(load_tasks(tmp_path / "tasks.json", protocol).goal, tasks.goal)
    world_of_protocol(protocol).start(tasks.goal, tasks.layout)


def test_a_start_cut_from_behaviour_shows_what_its_episode_shows():
    protocol = dotted("offset25")
    tasks, world = make_tasks(protocol, 8, 0), world_of_protocol(protocol)
    assert torch.equal(tasks.start[:, 3], tasks.step.float()), "the clock is the frame's number"
    assert world.render(tasks.start, tasks.layout).shape == (8, 3, 64, 64)


def test_other_worlds_have_none():
    protocol = replace(load_protocol("point_maze/offset50"), distractors=DOTTED)
    with pytest.raises(ConfigError, match=r"found 'point_maze' with distractors \{'moving_dot': True"):
        world_of_protocol(protocol)


def test_the_score_and_the_oracle_are_those_of_the_plain_room():
    class Still:
        observes = "state"

        def act(self, observation):
            return 0.3 * torch.ones(len(observation), 5, 2)

    scores, ends = [], []
    for protocol in (load_protocol("two_room/offset25"), dotted("offset25")):
        world, tasks = world_of_protocol(protocol), make_tasks(protocol, 20, 0)
        scores.append(play(tasks, Still(), world, protocol))
        oracle = OracleModel(tiny_codec(block=5), world)
        context = oracle.encode(tasks.start, tasks.layout)
        actions = 0.2 * torch.randn(20, 4, 3, 10, generator=torch.Generator().manual_seed(0))
        ends.append(oracle.rollout(context, actions).z[..., 0, :2])
    assert torch.equal(ends[0], ends[1])
    for key in ("ever", "end", "valid", "distance", "path"):
        assert torch.equal(getattr(scores[0], key), getattr(scores[1], key))


def test_options_of_a_command_become_distractors():
    argv = ["planning", "--env.moving_dot", "true", "--seeds", "2", "--env.floor=[9, 8, 7]"]
    rest, found = take_distractors(argv)
    assert rest == ["planning", "--seeds", "2"]
    assert found == Distractors(moving_dot=True, floor=(9, 8, 7))
    assert take_distractors(["--seeds", "2"]) == (["--seeds", "2"], None)
    with pytest.raises(ConfigError, match=r"env\.moving_dots.*did you mean env\.moving_dot"):
        take_distractors(["--env.moving_dots", "true"])
    with pytest.raises(ConfigError, match=r"env\.noise"):
        take_distractors(["--env.noise", "loud"])


def seeing():
    """A model that was never trained, with a recipe."""
    model = tiny_world(tiny_codec(block=5), encoder=EncoderConfig(image_size=(64, 64), patch=16, width=24, heads=2))
    env = {"episodes": 6, "heldout_episodes": 3}
    model.extra["recipe"] = {"data": {"path": "env:two_room", "block": 5, "action": {"ball": True}, "env": env}}
    return model


def test_commands_evaluate_in_a_room_that_looks_otherwise(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "use_all_cores", torch.get_num_threads)
    folder, path = str(tmp_path / "model"), tmp_path / "out.json"
    seeing().save_pretrained(folder, extra=seeing().extra)
    base = ["eval", "planning", "--model", folder, "--json", str(path), "--episodes", "3", "--planner", "random"]
    base += ["--samples", "4", "--elites", "2", "--no-oracle"]
    reports = []
    for words in ([], ["--env.moving_dot", "true", "--env.floor=[40, 0, 40]"]):
        assert main([*base, *words]) == 0
        reports.append(json.loads(path.read_text()))
        assert main(["eval", "probe", "--model", folder, "--json", str(path), *words]) == 0
        reports.append(json.loads(path.read_text()))
    plain, plain_probe, other, other_probe = reports
    assert "distractors" not in plain | plain_probe
    assert other["distractors"] == other_probe["distractors"] == {"moving_dot": True, "floor": [40, 0, 40]}
    assert other["protocol_hash"] != plain["protocol_hash"]
    assert other["floors"]["random"] == plain["floors"]["random"], "the same tasks"
    assert other_probe["metrics"]["rmse_px_mean"] != plain_probe["metrics"]["rmse_px_mean"]
    capsys.readouterr()
    assert main([*base, "--env.nois", "3"]) == 2
    assert "did you mean env.noise" in capsys.readouterr().err
    assert main([*base, "--data", "env:two_room", "--env.noise", "3"]) == 2
    assert "found --data" in capsys.readouterr().err


def test_a_model_sees_its_own_data_in_another_room():
    model = seeing()
    _, plain = data_of(model)
    _, other = data_of(model, None, DOTTED)
    some = [encode_clips(model, data.heldout_dataset, data.heldout, frames=2, limit=9) for data in (plain, other)]
    assert torch.equal(some[0].positions, some[1].positions), "the probe asks for places, and not for distractors"
    assert torch.equal(some[0].actions, some[1].actions)
    assert not torch.equal(some[0].z, some[1].z)
    with pytest.raises(ConfigError, match="distractors: found data env:reacher, expected env:two_room"):
        data_of(model, "env:reacher", DOTTED)
