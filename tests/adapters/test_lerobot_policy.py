"""A shared model as a policy of LeRobot.

Where `JEPA_ACTIONS_LEROBOT_PYTHON` names a Python that has lerobot 0.4.4, timm and jaxtyping (or says `install`: about
8 GB, minutes), `lerobot-eval` itself runs; the rest needs nothing of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from own_environment import python_with
from PIL import Image
from tiny_world import tiny_world

from jepa_actions.adapters.lerobot.goals import GoalControl, goal_from_dataset, goal_from_file, to_bytes
from jepa_actions.data.lerobot.writer import LeRobotWriter
from jepa_actions.data.types import Episode
from jepa_actions.envs.gym_adapter import TwoRoomEnv
from jepa_actions.errors import ConfigError, DataError, ShapeError
from jepa_actions.evaluation import parse_control
from jepa_actions.evaluation.control import latent_agent
from jepa_actions.evaluation.plan import plan
from jepa_actions.models import WorldModel
from jepa_actions.planning import CEMConfig, decision_seed

REPOSITORY = Path(__file__).parents[2]
CHECKPOINTS = REPOSITORY / "checkpoints"
VARIABLE = "JEPA_ACTIONS_LEROBOT_PYTHON"
NEEDED = ["lerobot==0.4.4", "timm>=1.0", "jaxtyping>=0.3", "gym-pusht==0.1.8"]
FEW = "cem:samples=16,elites=4,iterations=2"


@pytest.fixture(scope="module")
def model():
    return WorldModel.from_pretrained(CHECKPOINTS / "two_room")


def rooms(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of starts and of goals in some layouts."""
    seen = [TwoRoomEnv("heldout").reset(seed=seed)[0] for seed in range(count)]
    stacked = (np.stack([pictures[key] for pictures in seen]).transpose(0, 3, 1, 2) for key in ("image", "goal"))
    frames, goals = (torch.from_numpy(pictures.copy()) for pictures in stacked)
    return frames, goals


def movie(shade: int) -> np.ndarray:
    """(9, 3, 64, 64) uint8: a square that moves down."""
    frames = np.full((9, 3, 64, 64), shade, np.uint8)
    for t in range(9):
        frames[t, :, 6 * t : 6 * t + 12, 20:40] = 200
    return frames


@pytest.mark.parametrize("words", [FEW, f"{FEW},execute=2,horizon=4"])
def test_it_decides_as_the_evaluation_does_bit_for_bit(model, words):
    frames, goals = rooms(3)
    control = parse_control(words).resolved(model)
    decides = GoalControl(model, control, seed=5, steps=20)
    for episode in range(2):  # the second one after a reset, with seeds of its own
        agent = latent_agent(
            control, model, model.codec, goals, seed=5, history=model.history, budget=4, first=3 * episode
        )
        decides.reset()
        for step in range(20):
            action = decides.next_actions(frames.roll(step, dims=-1).float() / 255, goals.float() / 255)
            if step % 5 == 0:
                block = agent.act(frames.roll(step, dims=-1))
            assert torch.equal(action, block[:, step % 5])


def test_the_first_block_is_that_of_plan_for_each_episode(model):
    frames, goals = rooms(2)
    settings = CEMConfig(samples=16, elites=4, iterations=2)
    block = GoalControl(model, parse_control(FEW), seed=3).decide(frames, goals)
    for episode in range(2):
        seed = decision_seed(decision_seed(3, episode), 0)
        alone = plan(model, frames[episode], goals[episode], planner=settings, seed=seed)["actions"]
        assert torch.equal(block[episode], torch.tensor(alone[:5]))


def test_one_goal_is_that_of_all_episodes(model):
    frames, goals = rooms(2)
    one = GoalControl(model, parse_control(FEW)).decide(frames, goals[:1])
    both = GoalControl(model, parse_control(FEW)).decide(frames, goals[:1].repeat(2, 1, 1, 1))
    assert torch.equal(one, both)
    assert not torch.equal(one, GoalControl(model, parse_control(FEW)).decide(frames, goals))


def test_every_byte_comes_back_from_lerobots_floats():
    every = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    assert torch.equal(to_bytes(every.float() / 255, None, "frames"), every)
    assert torch.equal(to_bytes(every.repeat_interleave(6, -1).repeat_interleave(6, -2), (16, 16), "frames"), every)


@pytest.mark.parametrize(
    ("pictures", "says"),
    [
        (torch.full((1, 3, 64, 64), 1.5), "floats from 1.5 to 1.5, expected 0 to 1"),
        (torch.full((1, 3, 64, 64), torch.nan), "floats from nan"),
        (torch.zeros(1, 64, 64, 3), r"found shape \(1, 64, 64, 3\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "found torch.int64, expected uint8"),
        (torch.zeros(1, 3, 32, 32), "found 32 x 32, expected the model's 64 x 64"),
    ],
)
def test_other_pictures_are_refused(model, pictures, says):
    with pytest.raises(ShapeError, match=says):
        GoalControl(model, parse_control(FEW)).decide(pictures, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_another_number_of_episodes_or_goals_is_refused(model):
    frames, goals = rooms(3)
    decides = GoalControl(model, parse_control(FEW))
    with pytest.raises(ShapeError, match="goals: found 2, expected one, or one for each of 3"):
        decides.decide(frames, goals[:2])
    decides.decide(frames, goals)
    with pytest.raises(ShapeError, match="found 2 episodes, expected 3 until a reset"):
        decides.decide(frames[:2], goals)
    decides.reset()
    decides.decide(frames[:2], goals[:2])


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="without actions"):
        GoalControl(tiny_world(video_only=True), parse_control(FEW))
    with pytest.raises(ConfigError, match="cameras left, right, expected one"):
        GoalControl(tiny_world(cameras=("left", "right")), parse_control(FEW))
    with pytest.raises(ConfigError, match="goal-conditioned inverse head"):
        GoalControl(tiny_world(), parse_control("inverse")).decide(*torch.zeros(2, 1, 3, 16, 16, dtype=torch.uint8))


def test_goals_from_a_file_and_from_a_data_set(tmp_path):
    pixels = movie(40)[0]
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "goal.png")
    assert np.array_equal(goal_from_file(tmp_path / "goal.png")[0].numpy(), pixels)
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(DataError, match=r"goal_image .*no.png: not a picture"):
        goal_from_file(tmp_path / "no.png")
    with LeRobotWriter(tmp_path / "set", fps=10, cameras={"front": (64, 64)}, action_names=("dx", "dy")) as writer:
        for episode in range(2):
            actions = np.zeros((8, 2), np.float32)
            writer.add_episode({"front": movie(40 * episode)}, Episode(episode, 9, actions=actions))
    found = goal_from_dataset(tmp_path / "set", 1)
    assert found.shape == (1, 3, 64, 64)
    far = [float((found[0].int() - torch.from_numpy(frame).int()).abs().float().mean()) for frame in movie(40)]
    assert int(np.argmin(far)) == 8
    with pytest.raises(DataError, match="goal_episode: found 2, expected 0 to 1"):
        goal_from_dataset(tmp_path / "set", 2)
    with pytest.raises(DataError, match="goal camera: found 'wrist', expected one of"):
        goal_from_dataset(tmp_path / "set", 0, "wrist")


# -- in lerobot itself ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A Python with lerobot and what it takes to find this repository and the plugin's wheel."""
    python = python_with("lerobot 0.4.4, timm and jaxtyping", VARIABLE, NEEDED, tmp_path_factory)
    home = tmp_path_factory.mktemp("lerobot")
    plugin, site = REPOSITORY / "integrations" / "lerobot_policy_jepa_actions", home / "site"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(home), str(plugin)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = home.glob("*.whl")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))} | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home / "hf"),
        "PYTHONPATH": f"{site}:{REPOSITORY}",
        "SDL_VIDEODRIVER": "dummy",
    }
    return python, environment


def run(lerobot: tuple[str, dict[str, str]], *arguments: str, cwd: Path, fails: bool = False) -> str:
    python, environment = lerobot
    done = subprocess.run(
        [python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert (done.returncode != 0) == fails, done.stderr[-3000:]
    return done.stdout + done.stderr


def evaluated(lerobot: tuple[str, dict[str, str]], folder: Path, *options: str) -> dict[str, object]:
    """`lerobot-eval` on TwoRoom, three episodes: what it reports."""
    command = ["-m", "lerobot.scripts.lerobot_eval", "--policy.device=cpu", "--env.type=jepa_two_room"]
    command += ["--env.episode_length=40", "--eval.batch_size=3", "--eval.n_episodes=3", f"--output_dir={folder}"]
    run(lerobot, *command, *options, cwd=folder.parent)
    return json.loads((folder / "eval_info.json").read_text())["per_task"][0]["metrics"]


@pytest.mark.slow
def test_lerobot_eval_reports_success_and_a_saved_policy_does_the_same(lerobot, tmp_path):
    goal = "--policy.goal_key=observation.images.goal"
    fresh = [f"--policy.model={CHECKPOINTS / 'two_room'}", "--policy.planner=cem:evaluations=192", goal]
    found = evaluated(lerobot, tmp_path / "fresh", "--policy.type=jepa_actions", *fresh)
    assert len(found["successes"]) == 3
    assert sum(found["successes"]) >= 2
    (save,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "lerobot.md").read_text(), flags=re.DOTALL)
    (tmp_path / "checkpoints").symlink_to(CHECKPOINTS)
    run(lerobot, "-c", save, cwd=tmp_path)
    (tmp_path / "policies" / "two_room").rename(tmp_path / "moved")  # it depends on nothing outside
    again = evaluated(lerobot, tmp_path / "again", f"--policy.path={tmp_path / 'moved'}")
    assert (again["successes"], again["sum_rewards"]) == (found["successes"], found["sum_rewards"])


@pytest.mark.slow
@pytest.mark.parametrize("planner", [FEW, "cem:samples=16,elites=4,iterations=2,execute=2"])
def test_actions_are_those_of_our_own_evaluation_and_plan(lerobot, tmp_path, planner):
    policy = {
        "model": str(CHECKPOINTS / "two_room"),
        "planner": planner,
        "seed": 4,
        "goal_key": "observation.images.goal",
        "episode_steps": 30,
    }
    with np.load(episodes(lerobot, tmp_path, "jepa_two_room", {"episode_length": 30}, policy)) as found:
        for number in range(2):
            np.testing.assert_array_equal(found[f"actions{number}"], found[f"ours{number}"])
        np.testing.assert_array_equal(found["actions0"][:, :5], found["planned"])
        assert not np.array_equal(found["actions0"][:, :5], found["actions1"][:, :5])


@pytest.mark.slow
def test_gym_pusht_with_a_goal_file_and_targets_beside_the_agent(lerobot, tmp_path):
    pixels = np.full((96, 96, 3), 255, np.uint8)
    pixels[30:60, 30:60] = (119, 136, 153)
    Image.fromarray(pixels).resize((64, 64)).save(tmp_path / "goal.png")
    policy = {
        "model": str(CHECKPOINTS / "push_t"),
        "planner": "inverse",
        "goal_image": str(tmp_path / "goal.png"),
        "episode_steps": 12,
        "relative_to": "observation.state",
    }
    with np.load(episodes(lerobot, tmp_path, "pusht", {"episode_length": 12}, policy)) as found:
        np.testing.assert_array_equal(found["actions0"], found["ours0"])
        assert found["actions0"].shape == (2, 12, 2)
        assert found["success0"].dtype == bool


def episodes(lerobot, folder: Path, env: str, options: dict[str, object], policy: dict[str, object]) -> Path:
    """Two episodes side by side, twice, by LeRobot's own `rollout`."""
    script, out = Path(__file__).parent / "lerobot_policy_runs.py", folder / "found.npz"
    run(lerobot, str(script), str(out), env, json.dumps(options), json.dumps(policy), "2", cwd=folder)
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "found no goal, expected goal_image, goal_key or goal_dataset"),
        (["--policy.goal_key=observation.images.wish"], "expected observation.images.wish"),
        (["--policy.goal_image=a.png", "--policy.goal_key=b"], "found goal_image and goal_key, expected one way"),
        (["--policy.goal_image=nowhere.png"], "goal_image nowhere.png: not a picture that can be read"),
        (
            ["--policy.goal_key=observation.images.goal", "--policy.image_key=observation.images.top"],
            "expected observation.images.top",
        ),
    ],
)
def test_a_policy_that_is_not_told_enough_says_so(lerobot, tmp_path, options, says):
    command = ["-m", "lerobot.scripts.lerobot_eval", "--policy.type=jepa_actions", "--policy.device=cpu"]
    command += [f"--policy.model={CHECKPOINTS / 'two_room'}", "--env.type=jepa_two_room", "--env.episode_length=5"]
    command += ["--eval.batch_size=1", "--eval.n_episodes=1", f"--output_dir={tmp_path / 'out'}"]
    said = run(lerobot, *command, *options, cwd=tmp_path, fails=True)
    assert says in " ".join(said.split())
