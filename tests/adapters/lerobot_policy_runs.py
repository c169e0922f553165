"""Run by a Python that has lerobot: an episode of its `rollout`, and what jepa_actions decides on the same pictures.

python lerobot_policy_runs.py OUT.npz ENV_TYPE ENV_JSON POLICY_JSON EPISODES
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.configs import EnvConfig
from lerobot.envs.factory import make_env, make_env_pre_post_processors
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.scripts.lerobot_eval import rollout
from lerobot.utils.import_utils import register_third_party_plugins

from jepa_actions.adapters.lerobot.goals import to_bytes
from jepa_actions.evaluation import parse_control
from jepa_actions.evaluation.control import latent_agent
from jepa_actions.evaluation.plan import plan
from jepa_actions.models import WorldModel
from jepa_actions.planning import CEMConfig, decision_seed


def main(out: str, env_type: str, env_json: str, policy_json: str, episodes: str) -> None:
    register_third_party_plugins()
    env_config = EnvConfig.get_choice_class(env_type)(**json.loads(env_json))
    config = PreTrainedConfig.get_choice_class("jepa_actions")(device="cpu", **json.loads(policy_json))
    policy = make_policy(config, env_cfg=env_config).eval()
    before, after = make_pre_post_processors(config)
    (envs,) = make_env(env_config, n_envs=int(episodes)).values()
    runs = []
    for start in (0, 100):  # the second one after a reset
        seeds = list(range(start, start + int(episodes)))
        processors = (*make_env_pre_post_processors(env_config, config), before, after)
        runs.append(rollout(envs[0], policy, *processors, seeds=seeds, return_observations=True))
    found = {}
    for number, run in enumerate(runs):
        found |= {f"actions{number}": run["action"].numpy(), f"success{number}": run["success"].numpy()}
        found[f"ours{number}"] = ours(config, run, number * int(episodes))
    found["planned"] = planned(config, runs[0])
    np.savez(out, **found)


def pictures(config, run, model):
    """Frames by step (steps, episodes, 3, h, w), and the goals of the first step."""
    seen = run["observation"][config.seen_key(run["observation"])].transpose(0, 1)
    goals = run["observation"][config.goal_key][:, 0] if config.goal_key else None
    frames = torch.stack([to_bytes(frame, model.config.image_size, "frames") for frame in seen])
    return frames, None if goals is None else to_bytes(goals, model.config.image_size, "goals")


@torch.no_grad()
def ours(config, run, first: int) -> np.ndarray:
    """What the agent of jepa_actions' own evaluation does on the pictures that the environment showed."""
    model = WorldModel.from_pretrained(config.model)
    frames, goals = pictures(config, run, model)
    if goals is None:
        from jepa_actions.adapters.lerobot.goals import goal_from_file

        goals = goal_from_file(config.goal_image).expand(frames.shape[1], -1, -1, -1)
    control = parse_control(config.planner).resolved(model)
    budget = -(-config.episode_steps // model.codec.block)
    agent = latent_agent(
        control, model, model.codec, goals, seed=config.seed, history=model.history, budget=budget, first=first
    )
    actions: list[torch.Tensor] = []
    for step in range(run["action"].shape[1]):
        if step % model.codec.block == 0:
            actions += agent.act(frames[step]).unbind(1)
    found = torch.stack(actions[: run["action"].shape[1]], dim=1)
    if config.relative_to:
        found = found + run["observation"][config.relative_to][:, : found.shape[1]]
    return found.numpy()


def planned(config, run) -> np.ndarray:
    """The first block of every episode as `jepa_actions.plan` gives it; nothing where the goal is no observation."""
    model = WorldModel.from_pretrained(config.model)
    frames, goals = pictures(config, run, model)
    if goals is None:
        return np.zeros(0)
    settings = parse_control(config.planner).make_planner().config
    assert isinstance(settings, CEMConfig)
    blocks = []
    for episode in range(frames.shape[1]):
        seed = decision_seed(decision_seed(config.seed, episode), 0)
        rows = plan(model, frames[0, episode], goals[episode], planner=settings, seed=seed)["actions"]
        blocks.append(rows[: model.codec.block])
    return np.asarray(blocks, np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
