"""TwoRoom behaviour data: random walks, of which a settable share is steered through the door."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from jepa_actions.envs.two_room_geometry import TwoRoomConfig, move
from jepa_actions.envs.two_room_layouts import LayoutSplit, layout_table, place
from jepa_actions.envs.two_room_render import render
from jepa_actions.envs.two_room_scenery import episode_keys, has_scenery, scenery_of_episodes
from jepa_actions.errors import ConfigError

FloatArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

STEP_MEAN, STEP_STD, STEP_MIN, STEP_MAX = 1.0, 0.4, 0.2, 1.8  # px
TURN_STD = 0.2  # rad
CLEARANCE = 2.5  # px from the wall's faces to the way points before and after the door
ARRIVED = 2.0  # px; closer than this, the next way point is taken
_WANDER = 3  # the leg after the last way point
_LAYOUTS, _PHASE = 2**63, 2**64 - 1  # streams that no episode uses


@dataclass
class TwoRoomEpisodes:
    """E episodes of T frames and T - 1 actions; action `t` took frame `t` to frame `t + 1`. CPU tensors, px."""

    positions: Float[Tensor, "e t 2"]
    actions: Float[Tensor, "e t-1 2"]  # the displacement that was commanded; a wall may have cut it short
    wall_x: Float[Tensor, "e"]
    door_y: Float[Tensor, "e"]
    steered: Bool[Tensor, "e"]  # guided through the door
    crossing: Bool[Tensor, "e"]  # really was in both rooms
    config: TwoRoomConfig
    scenery: Float[Tensor, "e t 4"] | None = None  # of the distractors, where there are some; see `two_room_scenery`

    def __len__(self) -> int:
        return len(self.positions)

    def frames(
        self, episodes: Int[Tensor, "b"], frames: Int[Tensor, "b t"], device: torch.device | str | None = None
    ) -> UInt8[Tensor, "b t 3 h w"]:
        """Render the given frames of the given episodes, on `device` (the CPU by default)."""
        position = self.positions[episodes[:, None], frames]
        wall_x, door_y = self.wall_x[episodes, None], self.door_y[episodes, None]
        scenery = None if self.scenery is None else self.scenery[episodes[:, None], frames].to(device)
        return render(position.to(device), wall_x.to(device), door_y.to(device), self.config, scenery)


def generate_episodes(
    episodes: int,
    *,
    steps: int = 120,
    seed: int,
    crossing_rate: float = 0.35,
    accidental_crossings: bool = True,
    push: float = 0.0,
    layouts: LayoutSplit = "train",
    episodes_per_layout: int = 1,
    config: TwoRoomConfig | None = None,
) -> TwoRoomEpisodes:
    """Walk through random layouts, all episodes at once.

    Every step has a length drawn from N(1.0, 0.4) clipped into [0.2, 1.8] px and the direction of the step before plus
    noise of 0.2 rad; after a step that a wall cut short, the direction is uniform. A steered episode takes its
    direction (with the same noise) towards the door, through it and to a random point of the other room, then wanders
    on. An episode that is not steered may still happen upon the door (15 % do), unless `accidental_crossings` is off:
    then it turns round in front of it. With `push` a wanderer that a wall has stopped pushes on with that probability,
    every step anew, so that the data show what pushing does. `crossing` says which episodes really were in both rooms.

    Episode `e` is a function of `seed` and `e` (and of the other settings), however many episodes there are.

    Args:
        episodes: number of episodes, E.
        steps: actions per episode; T = steps + 1 frames.
        seed: at least 0.
        crossing_rate: share of steered episodes, evenly spread; of any first n episodes, n * rate up to one.
        accidental_crossings: whether episodes that are not steered may enter the doorway; turn it off to study small
            rates.
        push: probability of keeping the direction after a step that a wall cut short.
        layouts: which wall and door combinations to use.
        episodes_per_layout: this many episodes in a row share a layout.
        config: geometry; the published one by default.
    Raises:
        ConfigError: a count is not positive, the rate is not in [0, 1], the seed is negative, or the split is empty.
    Source: the "wall" task of PLDM (arXiv 2502.14819) and eb_jepa.
    """
    config = TwoRoomConfig() if config is None else config
    rates = 0.0 <= crossing_rate <= 1.0 and 0.0 <= push < 1.0
    if min(episodes, steps, episodes_per_layout) < 1 or not rates or not 0 <= seed < 2**63:
        raise ConfigError(
            f"generate_episodes: found episodes={episodes}, steps={steps}, episodes_per_layout={episodes_per_layout}, "
            f"crossing_rate={crossing_rate}, push={push}, seed={seed}; "
            "expected counts >= 1, rates in [0, 1], push below 1, and a seed in [0, 2**63)"
        )
    draws = _Draws.of(episodes, steps, seed)
    wall_x, door_y = _layouts(episodes, episodes_per_layout, seed, layout_table(layouts, config))
    phase = _stream(seed, _PHASE).random()
    count = np.floor(np.arange(episodes + 1) * crossing_rate + phase)
    steered = np.diff(count) > 0

    start = place(torch.from_numpy(draws.start).float(), wall_x, config)
    route = _route(start, torch.from_numpy(draws.target).float(), wall_x, door_y, config)
    barred = torch.from_numpy(~steered & (not accidental_crossings))
    positions, actions = _walk(start, wall_x, door_y, draws, route, steered, barred, push, config)
    half = config.wall_width / 2
    x, wall = positions[..., 0], wall_x[:, None]
    crossing = (x < wall - half).any(dim=1) & (x > wall + half).any(dim=1)
    made = TwoRoomEpisodes(positions, actions, wall_x, door_y, torch.from_numpy(steered), crossing, config)
    if has_scenery(config):
        made.scenery = scenery_of_episodes(episode_keys(episodes, seed), actions, config)
    return made


def _stream(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))


@dataclass
class _Draws:
    """Every random number of E episodes, each episode's from its own counter-based stream."""

    start: FloatArray  # (E, 2) uniform
    target: FloatArray  # (E, 2) uniform
    heading: FloatArray  # (E, S) uniform: the new direction after a blocked step
    length: FloatArray  # (E, S) normal
    turn: FloatArray  # (E, S) normal

    @classmethod
    def of(cls, episodes: int, steps: int, seed: int) -> "_Draws":
        uniform, normal = np.empty((episodes, 4 + steps)), np.empty((episodes, 2 * steps))
        for e in range(episodes):
            stream = _stream(seed, e)
            stream.random(out=uniform[e])
            stream.standard_normal(out=normal[e])
        return cls(uniform[:, :2], uniform[:, 2:4], uniform[:, 4:], normal[:, 0::2], normal[:, 1::2])


def _layouts(
    episodes: int, per_layout: int, seed: int, table: tuple[tuple[int, int], ...]
) -> tuple[Float[Tensor, "e"], Float[Tensor, "e"]]:
    """One layout per group of episodes."""
    groups = -(-episodes // per_layout)
    chosen = [int(_stream(seed, _LAYOUTS + g).integers(len(table))) for g in range(groups)]
    layout = torch.tensor(table, dtype=torch.float32)[chosen].repeat_interleave(per_layout, dim=0)[:episodes]
    return layout[:, 0].contiguous(), layout[:, 1].contiguous()


def _route(
    start: Float[Tensor, "e 2"],
    target_unit: Float[Tensor, "e 2"],
    wall_x: Float[Tensor, "e"],
    door_y: Float[Tensor, "e"],
    config: TwoRoomConfig,
) -> FloatArray:
    """Way points (E, 3, 2): before the door, behind it, and a point of the other room. Each leg is free of walls."""
    rightwards = start[:, 0] < wall_x
    away = torch.where(rightwards, 1.0, -1.0) * (config.wall_width / 2 + CLEARANCE)
    before, behind = torch.stack([wall_x - away, door_y], dim=-1), torch.stack([wall_x + away, door_y], dim=-1)
    target = place(target_unit, wall_x, config, right=rightwards)
    return torch.stack([before, behind, target], dim=1).double().numpy()


def _walk(
    start: Float[Tensor, "e 2"],
    wall_x: Float[Tensor, "e"],
    door_y: Float[Tensor, "e"],
    draws: _Draws,
    route: FloatArray,
    steered: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    barred: Bool[Tensor, "e"],
    push: float,
    config: TwoRoomConfig,
) -> tuple[Float[Tensor, "e t 2"], Float[Tensor, "e t-1 2"]]:
    episodes, steps = draws.length.shape
    positions, actions = torch.empty(episodes, steps + 1, 2), torch.empty(episodes, steps, 2)
    positions[:, 0] = start
    row = np.arange(episodes)
    leg = np.where(steered, 0, _WANDER)
    heading = 2 * math.pi * draws.heading[:, 0]  # the first direction is uniform
    blocked = np.zeros(episodes, dtype=bool)
    limit = STEP_MAX - 1e-6  # so that rounding to float32 does not exceed it
    for t in range(steps):
        position = positions[:, t].numpy().astype(np.float64)
        for _ in range(_WANDER):
            delta = route[row, np.minimum(leg, _WANDER - 1)] - position
            leg = leg + ((leg < _WANDER) & (np.hypot(delta[:, 0], delta[:, 1]) < ARRIVED))
        delta = route[row, np.minimum(leg, _WANDER - 1)] - position
        turned = 2 * math.pi * np.maximum(draws.heading[:, t] - push, 0.0) / (1.0 - push)
        anew = blocked & (draws.heading[:, t] >= push)
        wander = np.where(anew, turned, heading + (TURN_STD * draws.turn[:, t] if t else 0.0))
        guided = np.arctan2(delta[:, 1], delta[:, 0]) + TURN_STD * draws.turn[:, t]
        heading = np.where(leg < _WANDER, guided, wander)
        length = np.clip(STEP_MEAN + STEP_STD * draws.length[:, t], STEP_MIN, limit)
        actions[:, t] = torch.from_numpy(np.stack([length * np.cos(heading), length * np.sin(heading)], axis=-1))
        reached, hit = move(positions[:, t], actions[:, t], wall_x, door_y, config)
        if bool(barred.any()):
            turn = barred & ((reached[:, 0] - wall_x).abs() < config.wall_width / 2)
            actions[:, t, 0] *= torch.where(turn, -1.0, 1.0)
            heading = np.where(turn.numpy(), math.pi - heading, heading)
            reached, hit = move(positions[:, t], actions[:, t], wall_x, door_y, config)
        positions[:, t + 1] = reached
        blocked = hit.numpy()
    return positions, actions
