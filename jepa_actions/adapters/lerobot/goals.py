"""Deciding towards a picture for a policy that is asked step by step: pictures of any size in, raw actions out."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.adapters.stable_worldmodel.pictures import resize_area
from jepa_actions.data import ActionCodec
from jepa_actions.errors import ConfigError, DataError, ShapeError
from jepa_actions.evaluation.agents import LatentAgent, PolicyAgent
from jepa_actions.evaluation.control import Control, latent_agent

BYTE = 255


class GoalControl:
    """Decides for n episodes that run side by side, as `evaluate_planning` decides: the same agent, block by block.

    Arguments:
        model: with one camera and continuous actions, whose dynamics reads no proprio.
        control: how to decide.
        seed: episode number e, counted over all that were begun, draws from (seed, e).
        steps: environment steps of an episode, where known: no plan looks further.

    Raises: ConfigError for a model that does not fit, or has not learned what the control needs.
    """

    def __init__(self, model: Any, control: Control, *, seed: int = 0, steps: int | None = None) -> None:
        self.model, self.codec, self.control = model, _codec(model), control.resolved(model)
        self.seed, self.steps = seed, steps
        self._begun, self._agent, self._queue = 0, None, list[Tensor]()
        self.size: tuple[int, int] | None = None if model.config.backbone is not None else model.config.image_size

    _agent: LatentAgent | PolicyAgent | None

    def reset(self) -> None:
        """The next picture is the first one of new episodes."""
        self._agent, self._queue = None, []

    @property
    def waiting(self) -> bool:
        """Whether there are no actions left, so that `decide` comes next."""
        return not self._queue

    @torch.no_grad()
    def decide(
        self, frames: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"], goals: UInt8[Tensor, "n c h w"]
    ) -> Float[Tensor, "n k a"]:
        """The raw actions of the next block.

        Arguments:
            frames: what is seen now, uint8, or floats from 0 to 1 as LeRobot has them.
            goals: as pictures; looked at where episodes begin.

        Raises: ShapeError for pictures that are no such thing, or another number of them than last time.
        """
        seen = to_bytes(frames, self.size, "frames")
        if self._agent is None:
            self._agent = self._new_agent(to_bytes(goals, self.size, "goals"), len(seen))
        if len(seen) != self._agent.decisions.tasks:
            raise ShapeError(
                f"frames: found {len(seen)} episodes, expected {self._agent.decisions.tasks} until a reset"
            )
        return self._agent.act(seen)

    def next_actions(self, frames: Tensor, goals: Tensor) -> Float[Tensor, "n a"]:
        """One raw action for each episode; decides where a block is over. Raises as `decide`."""
        if self.waiting:
            self._queue = list(torch.unbind(self.decide(frames, goals), dim=1))
        return self._queue.pop(0)

    def _new_agent(self, goals: UInt8[Tensor, "n c h w"], episodes: int) -> LatentAgent | PolicyAgent:
        if len(goals) not in (1, episodes):
            raise ShapeError(f"goals: found {len(goals)}, expected one, or one for each of {episodes} episodes")
        budget = sys.maxsize if self.steps is None else -(-self.steps // self.codec.block)
        first, self._begun = self._begun, self._begun + episodes
        return latent_agent(
            self.control,
            self.model,
            self.codec,
            goals.expand(episodes, *goals.shape[1:]),
            seed=self.seed,
            history=self.model.history,
            budget=budget,
            device=goals.device,
            first=first,
        )


def to_bytes(
    pictures: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"], size: tuple[int, int] | None, name: str
) -> UInt8[Tensor, "n c h w"]:
    """Pictures as the model has them: bytes, of its size.

    LeRobot divides bytes by 255; that is undone exactly. Larger pictures of the same proportions are averaged over
    areas, smaller ones refused.

    Raises: ShapeError for anything else than n RGB pictures of bytes, or of floats from 0 to 1.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ShapeError(f"{name}: found shape {tuple(pictures.shape)}, expected (episodes, 3, height, width)")
    if pictures.is_floating_point():
        low, high = float(pictures.min()), float(pictures.max())
        if not (low >= 0 and high <= 1):
            raise ShapeError(f"{name}: found floats from {low:g} to {high:g}, expected 0 to 1, not normalised")
        pictures = (pictures.float() * BYTE).round().to(torch.uint8)
    elif pictures.dtype != torch.uint8:
        raise ShapeError(f"{name}: found {pictures.dtype}, expected uint8, or floats from 0 to 1")
    return pictures if size is None else resize_area(pictures, size)


def goal_from_file(file: str | Path) -> UInt8[Tensor, "1 3 h w"]:
    """A picture. Raises DataError where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise DataError(f"goal_image {file}: not a picture that can be read ({error})") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]


def goal_from_dataset(path: str | Path, episode: int, camera: str | None = None) -> UInt8[Tensor, "1 3 h w"]:
    """The last frame of an episode of a data set (`load_dataset`), of one camera.

    Arguments:
        camera: where the data set has several.

    Raises: DataError for an episode or a camera that is not there.
    """
    from jepa_actions.data.open import load_dataset

    data = load_dataset(path)
    if not 0 <= episode < len(data):
        raise DataError(f"{data.name}: goal_episode: found {episode}, expected 0 to {len(data) - 1}")
    if camera is None and len(data.cameras) == 1:
        (camera,) = data.cameras
    if camera not in data.cameras:
        raise DataError(f"{data.name}: goal camera: found {camera!r}, expected one of {', '.join(data.cameras)}")
    last = int(data.lengths()[episode]) - 1
    clips = data.read_clips(np.array([episode]), np.array([[last]]))
    return clips[camera][:, 0]


def _codec(model: Any) -> ActionCodec:
    codec: ActionCodec | None = model.codec
    if codec is None:
        raise ConfigError("LeRobot policy: found a model without actions (trained on video alone), expected a codec")
    if len(model.config.cameras) != 1:
        found = ", ".join(model.config.cameras)
        raise ConfigError(f"LeRobot policy: found a model of cameras {found}, expected one camera")
    if model.config.dynamics.proprio:
        raise ConfigError(
            f"LeRobot policy: found a model whose dynamics reads {model.config.dynamics.proprio} numbers of proprio, "
            "expected one that sees pictures alone"
        )
    return codec
