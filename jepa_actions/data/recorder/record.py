"""Record a gymnasium environment, single or vector, with a policy, into a LeRobot data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jepa_actions.data.lerobot.episode import OpenEpisode
from jepa_actions.data.lerobot.parts import Version
from jepa_actions.data.lerobot.video_writer import Codec
from jepa_actions.data.lerobot.writer import LeRobotWriter
from jepa_actions.data.recorder.spaces import (
    Actions,
    Observations,
    Policy,
    flat_state,
    image_parts,
    picture,
)
from jepa_actions.data.recorder.worlds import Moved, SingleWorld, Worlds, worlds_of
from jepa_actions.data.types import Episode
from jepa_actions.errors import DataError

ENDS = {name: {"dtype": "bool", "shape": (1,)} for name in ("next.done", "next.terminated", "next.truncated")}
Cameras = str | Sequence[str] | Mapping[str, Callable[[Any], Any]]
Frames = dict[str, np.ndarray]


def record(
    env: Any,
    policy: Policy | Literal["random"],
    root: str | Path,
    *,
    episodes: int,
    seed: int = 0,
    camera: Cameras = "image",
    max_steps: int | None = None,
    fps: float | None = None,
    state_of: Callable[[Any], Any] | Literal["auto"] | None = "auto",
    text: str | Callable[[dict[str, Any]], str] | None = None,
    robot_type: str | None = None,
    version: Version = "v3.0",
    codec: Codec = "h264",
    gop: int = 2,
    crf: int | None = None,
) -> Path:
    """Run `episodes` episodes and write them to `root`, a new folder.

    Episode k begins with `reset(seed=seed + k)` and its policy draws from random numbers of its own, so that it is the
    same however many worlds the environment has, and `reset` with its recorded seed and its recorded actions plays it
    again. There is a frame before and after every action: an episode of n actions has n + 1 rows, and the last one's
    action is not valid. Interrupted, it keeps the finished episodes.

    Args:
        env: a `gymnasium.Env`, or a vector environment that knows `reset_mask` (gymnasium's own do), in any autoreset
            mode.
        policy: `policy(observation, rng)`, called for every world alone, or "random", which samples the action space.
        root, version, codec, gop, crf, robot_type: as in `LeRobotWriter`.
        episodes, seed: how many, and the seed of the first.
        camera: which part of the observation is the picture (`"a.b"` inside nested ones), or several. An observation
            that is a picture is taken for it, and where there are no pictures in it, `render()`. Or functions of the
            environment by camera (one picture per world of a vector environment).
        max_steps: an episode is truncated after so many steps.
        fps: of the video; by default the environment's `render_fps`.
        state_of: the simulator's state, a function of the environment (one entry per world of a vector environment).
            "auto" takes `env.unwrapped.get_state()` or `env.unwrapped.state` where there is one; `None` keeps none.
        text: the task, or a function of the info that `reset` gives.

    The numbers of an observation become `observation.state`, rewards `next.reward`, ends `next.done`,
    `next.terminated` and `next.truncated` (on an episode's last row as on the one before).

    Raises:
        DataError: a space or an option that cannot be recorded; pictures or states of an ended episode that same-step
            autoreset has already replaced.
    """
    place = _name(env)
    if episodes < 1 or seed < 0 or (max_steps is not None and max_steps < 1):
        raise DataError(
            f"{place}: {episodes} episodes, seed {seed}, max_steps {max_steps}, expected at least 1, 0 and 1"
        )
    if not callable(policy) and policy != "random":
        raise DataError(f"{place}: policy {policy!r}, expected a function of observation and rng, or 'random'")
    rate = fps if fps is not None else (getattr(env, "metadata", None) or {}).get("render_fps")
    if not rate:
        raise DataError(f"{place}: no render_fps in its metadata, expected fps")
    worlds = worlds_of(env, place)
    run = _Run(worlds, policy, seed, max_steps, text, place)
    begun = run.reset({world: world for world in range(min(worlds.count, episodes))})
    scene = Scene(worlds, camera, state_of, place)
    seen = scene.look({world: observation for world, (observation, _) in begun.items()})
    with LeRobotWriter(
        root,
        fps=float(rate),
        cameras={name: image.shape[:2] for name, image in seen[0].images.items()},
        action_names=scene.actions.names,
        proprio_names=scene.observations.names,
        discrete=scene.actions.discrete,
        action_bounds=scene.actions.bounds,
        robot_type=place if robot_type is None else robot_type,
        version=version,
        codec=codec,
        gop=gop,
        crf=crf,
        features=ENDS,
    ) as writer:
        run.record(scene, writer, episodes, begun, seen)
    return Path(root)


@dataclass
class Seen:
    """What is recorded of one world at one time."""

    images: Frames
    proprio: np.ndarray | None
    state: np.ndarray | None


class Scene:
    """What is looked at in every world: pictures, the numbers of the observation, the simulator's state."""

    def __init__(self, worlds: Worlds, camera: Cameras, state_of: Any, place: str) -> None:
        self.worlds, self.place = worlds, place
        self.actions = Actions.of(worlds.action_space, place)
        self._functions = dict(camera) if isinstance(camera, Mapping) else {}
        names = [camera] if isinstance(camera, str) else list(camera)
        parts = [] if self._functions else names
        self.observations = Observations.of(worlds.observation_space, parts, place)
        unseen = [name for name in parts if name not in self.observations.images]
        if unseen:
            self._render(unseen, names)
        if state_of == "auto" and not worlds.shows_final:
            state_of = None
        self._state_of = _state_of(worlds) if state_of == "auto" else state_of
        late = "pictures from render()" if self._functions else "the simulator's state" if self._state_of else ""
        if late and not worlds.shows_final:
            raise DataError(
                f"{place}: {late} with same-step autoreset, which has begun the next episode by then; expected "
                "autoreset_mode NEXT_STEP or DISABLED"
            )

    def _render(self, unseen: list[str], names: list[str]) -> None:
        found = image_parts(self.worlds.observation_space)
        if found or len(names) > 1:
            raise DataError(f"{self.place}: no picture {unseen[0]!r} in its observation, found {found or 'none'}")
        if getattr(self.worlds.env, "render_mode", None) != "rgb_array":
            raise DataError(
                f"{self.place}: no picture in its observation, expected render_mode='rgb_array' to render it"
            )
        self._functions = {unseen[0]: lambda env: env.render()}

    def look(self, observations: Mapping[int, Any]) -> dict[int, Seen]:
        """What is seen now in the worlds of these observations."""
        rendered = {name: self.worlds.each(f, f"{self.place}, camera {name!r}") for name, f in self._functions.items()}
        states = None if self._state_of is None else self.worlds.each(self._state_of, f"{self.place}, state_of")
        seen = {}
        for world, observation in observations.items():
            images = self.observations.pictures(observation)
            images |= {name: picture(frames[world], name) for name, frames in rendered.items()}
            proprio = self.observations.state(observation) if self.observations.numbers else None
            state = None if states is None else flat_state(states[world], self.place)
            seen[world] = Seen(images, proprio, state)
        return seen


@dataclass
class _Running:
    """The episode that runs in a world."""

    number: int
    episode: OpenEpisode
    policy: Policy
    rng: np.random.Generator
    observation: Any
    text: str | None
    seen: list[Seen] = field(default_factory=list)  # without the images, which are on disk
    actions: list[np.ndarray] = field(default_factory=list)
    moves: list[Moved] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        self.episode.add_frame(seen.images)
        self.seen.append(Seen({}, seen.proprio, seen.state))


class _Run:
    """The episodes that run at the moment, by world."""

    def __init__(
        self,
        worlds: Worlds,
        policy: Policy | Literal["random"],
        seed: int,
        max_steps: int | None,
        text: str | Callable[[dict[str, Any]], str] | None,
        place: str,
    ) -> None:
        self.worlds, self.actions, self.place = worlds, Actions.of(worlds.action_space, place), place
        self.policy, self.seed, self.max_steps, self.text = policy, seed, max_steps, text
        self.running: dict[int, _Running] = {}
        self._idle: Any = None  # an action for worlds that nothing is recorded of

    def reset(self, starts: Mapping[int, int]) -> dict[int, tuple[Any, dict[str, Any]]]:
        """Reset worlds, given by the number of the episode that begins there."""
        return self.worlds.reset({world: self.seed + number for world, number in starts.items()})

    def record(
        self,
        scene: Scene,
        writer: LeRobotWriter,
        episodes: int,
        begun: dict[int, tuple[Any, dict[str, Any]]],
        seen: dict[int, Seen],
    ) -> None:
        """Record every episode; the first ones have begun and are seen."""
        starts, following = {world: world for world in begun}, len(begun)
        while starts or self.running:
            for world, number in starts.items():
                self._begin(world, number, begun[world], seen[world], writer)
            self._step(scene)
            free = [world for world in range(self.worlds.count) if world not in self.running]
            count = min(len(free), max(episodes - following, 0))
            starts = dict(zip(free[:count], range(following, following + count), strict=True))
            following += len(starts)
            if starts:
                begun = self.reset(starts)
                seen = scene.look({world: observation for world, (observation, _) in begun.items()})

    def _begin(
        self, world: int, number: int, begun: tuple[Any, dict[str, Any]], seen: Seen, writer: LeRobotWriter
    ) -> None:
        observation, info = begun
        rng = np.random.default_rng([self.seed, number])
        policy = self.actions.random(rng) if self.policy == "random" else self.policy
        text = self.text(info) if callable(self.text) else self.text
        self.running[world] = _Running(number, writer.begin(), policy, rng, observation, text)
        self.running[world].add(seen)

    def _step(self, scene: Scene) -> None:
        """One action in every world."""
        taken: dict[int, Any] = {}
        for world, run in self.running.items():
            place = f"{self.place}, episode {run.number}, step {len(run.actions)}"
            taken[world], recorded = self.actions.act(run.policy(run.observation, run.rng), place)
            run.actions.append(recorded)
            self._idle = taken[world]
        moved = self.worlds.step([taken.get(world, self._idle) for world in range(self.worlds.count)])
        seen = scene.look({world: moved[world].observation for world in self.running})
        for world, run in list(self.running.items()):
            move = moved[world]
            if self.max_steps is not None and len(run.actions) >= self.max_steps and not move.terminated:
                move = Moved(move.observation, move.reward, False, True)
            run.observation = move.observation
            run.moves.append(move)
            run.add(seen[world])
            if move.terminated or move.truncated:
                self._finish(self.running.pop(world))

    def _finish(self, run: _Running) -> None:
        first = run.seen[0]
        labels = Episode(
            run.number,
            len(run.seen),
            actions=np.stack(run.actions),
            proprio=None if first.proprio is None else np.stack([np.asarray(seen.proprio) for seen in run.seen]),
            rewards=np.array([move.reward for move in run.moves], dtype=np.float32),
            simulator_state=None if first.state is None else np.stack([np.asarray(seen.state) for seen in run.seen]),
            seed=self.seed + run.number,
            text=run.text,
        )
        terminated = np.array([move.terminated for move in run.moves])
        truncated = np.array([move.truncated for move in run.moves])
        ends = (terminated | truncated, terminated, truncated)
        columns = {name: np.append(values, values[-1]) for name, values in zip(ENDS, ends, strict=True)}
        run.episode.finish(labels, columns=columns)


def _state_of(worlds: Worlds) -> Callable[[Any], Any] | None:
    """How the simulator's state is had, `None` where there is no way without being told."""

    def of(env: Any) -> Any:
        world = env.unwrapped
        return world.get_state() if callable(getattr(world, "get_state", None)) else world.state

    if isinstance(worlds, SingleWorld):
        return of if _has_state(worlds.env) else None
    env = worlds.env.unwrapped
    inner = getattr(env, "envs", None)
    if inner:
        return (lambda env: [of(world) for world in env.unwrapped.envs]) if _has_state(inner[0]) else None
    return of if _has_state(env) else None


def _has_state(env: Any) -> bool:
    return callable(getattr(env.unwrapped, "get_state", None)) or getattr(env.unwrapped, "state", None) is not None


def _name(env: Any) -> str:
    spec = getattr(env, "spec", None)
    return str(spec.id) if spec is not None else type(getattr(env, "unwrapped", env)).__name__
