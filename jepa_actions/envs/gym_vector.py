"""TwoRoom for gymnasium: many worlds in one batch, moved and rendered together.

World `i` of a batch seeded with `s` is the single environment seeded with `s + i`, step for step, as in
`SyncVectorEnv`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jepa_actions.envs.gym_adapter import (
    RESET_OPTIONS,
    Array,
    Observation,
    draw_task,
    goal_images,
    images,
    info_columns,
    read_action,
    spaces,
    state_rows,
)
from jepa_actions.envs.two_room import TwoRoom, TwoRoomState
from jepa_actions.envs.two_room_geometry import TwoRoomConfig
from jepa_actions.envs.two_room_layouts import LayoutSplit
from jepa_actions.errors import ConfigError, DataError, ShapeError

_POINTS = ("start", "goal")


class TwoRoomVectorEnv(VectorEnv[Observation, Array, Array]):
    """`num_envs` TwoRoom worlds; observation, reward and info are those of `TwoRoomEnv` with a leading axis.

    Args:
        num_envs: number of worlds.
        max_episode_steps: an episode is truncated after this many steps; None: never.
        autoreset_mode: what follows an episode's end, as gymnasium defines it. "NextStep": the next `step` ignores that
            world's action and returns its first observation with reward 0. "SameStep": the same `step` returns the new
            episode's first observation, and `final_obs` and `final_info` in info. "Disabled": the caller resets, with
            `reset_mask`.
        layouts, config, render_mode, device: as for `TwoRoomEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = 200,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        layouts: LayoutSplit = "train",
        config: TwoRoomConfig | None = None,
        render_mode: str | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"TwoRoomVectorEnv.render_mode: found {render_mode!r}, expected 'rgb_array' or None")
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": self.autoreset_mode}
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.layouts = layouts
        self.world = TwoRoom(num_envs, config, device)
        self.single_observation_space, self.single_action_space = spaces(self.world.config)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        size = self.world.config.image_size
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._goal = torch.zeros(num_envs, 2, device=self.world.device)
        self._goal_images = np.zeros((num_envs, size, size, 3), dtype=np.uint8)
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._done = np.ones(num_envs, dtype=np.bool_)

    def reset(  # gymnasium's vector environments that hold sub-environments take one seed per environment, too
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start episodes everywhere, or where `options["reset_mask"]` (bool, (num_envs,)) is True.

        The other options are those of `TwoRoomEnv.reset`, one value for all worlds or one per world (a leading axis).
        """
        seeds: list[int | None] = [None] * self.num_envs
        if seed is not None:
            seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs:
            raise ShapeError(f"TwoRoomVectorEnv seed: found {len(seeds)} seeds, expected {self.num_envs}")
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        for i in np.flatnonzero(mask):
            if seeds[i] is not None or self._rngs[i] is None:
                self._rngs[i], _ = seeding.np_random(seeds[i])
        self._start(mask, options)
        return self._observe(), self._infos(mask, np.zeros(self.num_envs, dtype=np.bool_))

    def step(self, actions: Array) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """Move every world by its row of `actions`, (num_envs, 2) px.

        Raises:
            ShapeError: the actions have another shape. DataError: one is not finite (unless it is ignored, see
                NextStep), or a world needs a reset first.
        """
        fresh = self._done.copy()
        if fresh.any() and (self.autoreset_mode != AutoresetMode.NEXT_STEP or self._rngs[0] is None):
            raise DataError(
                f"TwoRoomVectorEnv.step: world {int(fresh.argmax())} has no running episode, expected a reset first"
            )
        if np.shape(actions) == (self.num_envs, 2):
            actions = np.where(fresh[:, None], 0.0, actions)
        self.world.step(read_action(actions, (self.num_envs, 2)))
        blocked = self.world.blocked.cpu().numpy() & ~fresh
        if fresh.any():
            self._start(fresh, {})
        self._elapsed += ~fresh

        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        infos = self._infos(everywhere, blocked)
        terminated = infos["success"] & ~fresh
        limit = self.max_episode_steps
        truncated = (self._elapsed >= limit) & ~fresh if limit is not None else np.zeros(self.num_envs, dtype=np.bool_)
        self._done = terminated | truncated
        observation = self._observe()
        if self._done.any() and self.autoreset_mode == AutoresetMode.SAME_STEP:
            observation, infos = self._autoreset(observation, infos)
        return observation, terminated.astype(np.float64), terminated, truncated, infos

    def render(self) -> tuple[Array, ...] | None:
        """Return every world's frame, or None without a render mode."""
        return None if self.render_mode is None else tuple(images(self.world.render()))

    def get_state(self) -> Array:
        """The simulator's state of every world, (num_envs, 4 or 8): see `TwoRoomEnv.get_state`."""
        return state_rows(self.world)

    def _autoreset(self, observation: Observation, infos: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Same-step reset: what ended goes to `final_obs` and `final_info`, what begins takes its place."""
        done = self._done.copy()
        names = [name for name in infos if not name.startswith("_")]
        final: dict[str, Any] = {}
        for i in np.flatnonzero(done):
            last = {name: frames[i] for name, frames in observation.items()}
            final = self._add_info(
                final, {"final_obs": last, "final_info": {name: infos[name][i] for name in names}}, int(i)
            )
        self._start(done, {})
        return self._observe(), self._infos(np.ones_like(done), infos["blocked"] & ~done) | final

    def _start(self, mask: Array, options: Mapping[str, Any]) -> None:
        """Draw new tasks where `mask` is True and leave the other worlds as they are."""
        rows = np.flatnonzero(mask)
        tasks = []
        for i in rows:
            rng = self._rngs[i]
            assert rng is not None, "reset seeds a generator before any task is drawn"
            tasks.append(draw_task(rng, self.layouts, self.world.config, self._row(options, int(i))))
        index = torch.from_numpy(rows).to(self.world.device)
        new = TwoRoomState.cat([task.state for task in tasks]).to(self.world.device)
        goal = torch.cat([task.goal for task in tasks]).to(self.world.device)
        if len(rows) == self.num_envs:
            state = new
        else:
            state = self.world.get_state()
            state.put(index, new)
        self.world.set_state(state)
        self._goal[index] = goal
        self._goal_images[rows] = goal_images(tasks, self.world)
        self._elapsed[rows] = 0
        self._done[rows] = False

    def _row(self, options: Mapping[str, Any], i: int) -> dict[str, Any]:
        """The options of world i: values with one axis more than a single environment takes are per world."""
        row = {}
        for name, value in options.items():
            axes = 1 if name in _POINTS else 0
            per_world = name in RESET_OPTIONS and value is not None and np.ndim(value) == axes + 1
            if per_world and len(value) != self.num_envs:
                raise ShapeError(
                    f"TwoRoomVectorEnv reset option {name}: found {len(value)} values, expected {self.num_envs} or one"
                )
            row[name] = value[i] if per_world else value
        return row

    def _mask(self, mask: Any) -> Array:
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        array = np.asarray(mask)
        if array.shape != (self.num_envs,) or array.dtype != np.bool_ or not array.any():
            raise ShapeError(
                f"TwoRoomVectorEnv reset_mask: found {array.dtype} of shape {array.shape}, "
                f"expected bool ({self.num_envs},) with at least one True"
            )
        if not array.all() and self._rngs[0] is None:
            raise DataError("TwoRoomVectorEnv reset_mask: worlds without a first reset, expected a full reset first")
        return array.copy()

    def _observe(self) -> Observation:
        return {"image": images(self.world.render()), "goal": self._goal_images.copy()}

    def _infos(self, mask: Array, blocked: Array) -> dict[str, Any]:
        """Gymnasium's layout: `name` for the values and `_name` for the worlds that have one."""
        infos: dict[str, Any] = {}
        columns = info_columns(self.world, self._goal) | {"blocked": blocked}
        for name, column in columns.items():
            shape = (-1,) + (1,) * (column.ndim - 1)
            infos[name] = np.where(mask.reshape(shape), column, np.zeros_like(column))
            infos[f"_{name}"] = mask.copy()
        return infos
