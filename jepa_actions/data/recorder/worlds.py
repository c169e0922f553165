"""Single and vector gymnasium environments behind one face: worlds that are reset by seed and stepped together, with
the last observation of an episode in its place whatever the autoreset mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jepa_actions.data.recorder.spaces import row
from jepa_actions.errors import DataError

if TYPE_CHECKING:
    from gymnasium import Env, Space
    from gymnasium.vector import VectorEnv


@dataclass(frozen=True)
class Moved:
    """What a step gave in one world. `observation` belongs to the episode of the action, also where it ended."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool


class Worlds:
    """One environment, or the worlds of a vector environment."""

    env: Any
    count: int
    observation_space: Space[Any]
    action_space: Space[Any]
    shows_final = True  # whether rendering after an episode's last step still shows that episode

    def reset(self, seeds: Mapping[int, int]) -> dict[int, tuple[Any, dict[str, Any]]]:
        """Begin an episode in the worlds of `seeds` and return their observations and infos; others go on."""
        raise NotImplementedError

    def step(self, actions: Sequence[Any]) -> list[Moved]:
        """Move every world by its action."""
        raise NotImplementedError

    def each(self, function: Callable[[Any], Any], place: str) -> Sequence[Any]:
        """What a function of the environment gives for every world."""
        raise NotImplementedError


class SingleWorld(Worlds):
    """A `gymnasium.Env`."""

    def __init__(self, env: Env[Any, Any]) -> None:
        self.env: Env[Any, Any] = env
        self.count = 1
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, seeds: Mapping[int, int]) -> dict[int, tuple[Any, dict[str, Any]]]:
        """Begin an episode."""
        return {world: self.env.reset(seed=seed) for world, seed in seeds.items()}

    def step(self, actions: Sequence[Any]) -> list[Moved]:
        """Move it."""
        observation, reward, terminated, truncated, _ = self.env.step(actions[0])
        return [Moved(observation, float(reward), bool(terminated), bool(truncated))]

    def each(self, function: Callable[[Any], Any], place: str) -> Sequence[Any]:
        """What the function gives, for the one world."""
        return [function(self.env)]


class VectorWorlds(Worlds):
    """A `gymnasium.vector.VectorEnv` that can be reset world by world (`reset_mask`), in any autoreset mode.

    Episodes never begin by autoreset: their seeds would not be known.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], place: str) -> None:
        from gymnasium.vector import AutoresetMode

        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = AutoresetMode(mode)
        self.env, self.count, self.place = env, env.num_envs, place
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self.shows_final = self.mode != AutoresetMode.SAME_STEP
        self._disabled = self.mode == AutoresetMode.DISABLED
        self._over = np.ones(self.count, dtype=bool)
        self._last: list[Any] = []

    def reset(self, seeds: Mapping[int, int]) -> dict[int, tuple[Any, dict[str, Any]]]:
        """Begin episodes in some worlds. Raises DataError where the environment cannot do that alone in these."""
        from gymnasium.error import Error

        mask = np.zeros(self.count, dtype=bool)
        mask[list(seeds)] = True
        listed: list[int | None] = [seeds.get(world) for world in range(self.count)]
        first = not self._last
        try:
            if first:
                filled = [world if seed is None else seed for world, seed in enumerate(listed)]
                observations, infos = self.env.reset(seed=filled)
            else:
                observations, infos = self.env.reset(seed=listed, options={"reset_mask": mask.copy()})
        except (TypeError, ValueError, Error) as error:
            raise DataError(
                f"{self.place}: cannot be reset with one seed per world ({error}), expected a vector environment like "
                "gymnasium's SyncVectorEnv; or record a single one"
            ) from error
        rows = [row(observations, world) for world in range(self.count)]
        for world in np.flatnonzero(~mask & ~self._over) if not first else []:
            if not _same(rows[world], self._last[world]):
                raise DataError(
                    f"{self.place}: a reset of other worlds changed world {world}, expected reset_mask kept"
                )
        self._last = rows
        self._over[mask] = False
        return {world: (rows[world], row(infos, world)) for world in seeds}

    def step(self, actions: Sequence[Any]) -> list[Moved]:
        """Move every world; those that are over begin anew and count for nothing."""
        if self._disabled and self._over.any() and self._last:
            self.reset({int(world): int(world) for world in np.flatnonzero(self._over)})
        observations, rewards, terminated, truncated, infos = self.env.step(np.stack([np.asarray(a) for a in actions]))
        over = np.logical_or(terminated, truncated)
        self._last = [row(observations, world) for world in range(self.count)]
        final = None if self.shows_final or not over.any() else infos.get("final_obs")
        if final is None and over.any() and not self.shows_final:
            raise DataError(f"{self.place}: no final_obs in info, expected it of same-step autoreset")
        self._over = over
        return [
            Moved(
                row(final, world) if over[world] and final is not None else self._last[world],
                float(rewards[world]),
                bool(terminated[world]),
                bool(truncated[world]),
            )
            for world in range(self.count)
        ]

    def each(self, function: Callable[[Any], Any], place: str) -> Sequence[Any]:
        """What the function gives, one entry per world. Raises DataError for another number of them."""
        found = function(self.env)
        if not hasattr(found, "__len__") or len(found) != self.count:
            raise DataError(
                f"{place}: found {type(found).__name__}, expected one entry for each of {self.count} worlds"
            )
        return [found[world] for world in range(self.count)]


def worlds_of(env: Any, place: str) -> Worlds:
    """The worlds of an environment. Raises DataError for what is none."""
    from gymnasium import Env
    from gymnasium.vector import VectorEnv

    if isinstance(env, VectorEnv):
        return VectorWorlds(env, place)
    if not isinstance(env, Env):
        raise DataError(f"{place}: found {type(env).__name__}, expected a gymnasium environment")
    return SingleWorld(env)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"))
