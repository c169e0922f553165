"""Recordings with a known lag: a camera that pans over a texture as actions say, driven by one who reacts to a stripe.

The stripe is all that one frame tells of the action; the pan is what the action causes. A probe of appearance finds
when the driver looked, a probe of motion when the camera moved.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn import functional as F

from jepa_actions.data import Episode, Provenance


@dataclass
class Drive:
    """How a recording is made. `lag` is by how many frames an action leads the pan that it causes, `reaction` by how
    many a picture leads the action."""

    lag: int
    frames: int = 200
    size: tuple[int, int] = (36, 48)
    reaction: int = 3
    own: float = 0.4  # of the action that is no reaction
    persistence: float = 0.95  # of action and road, from frame to frame
    hold: int = 1  # frames that an action is repeated
    shake: float = 0.3  # px of pan that no action causes
    noise: float = 5.0  # grey levels
    speed: float = 1.5  # px per unit of action

    def make(self, seed: int) -> tuple[UInt8[np.ndarray, "t 3 h w"], np.ndarray]:
        """Frames and actions."""
        generator = np.random.default_rng(seed)
        pad = 20
        total = self.frames + 2 * pad
        road, whim = (self._wander(generator, total) for _ in range(2))
        actions = np.roll(road, self.reaction) + self.own * whim
        actions = actions[(np.arange(total) // self.hold) * self.hold]
        pan = self.speed * np.roll(actions, self.lag) + self.shake * generator.normal(size=total)
        place = np.concatenate([[0.0], np.cumsum(pan)])[pad : pad + self.frames]
        return self._render(generator, place, road[pad : pad + self.frames]), actions[pad : pad + self.frames - 1]

    def _wander(self, generator, total):
        values, kicks = np.zeros(total), generator.normal(size=total)
        for t in range(1, total):
            values[t] = self.persistence * values[t - 1] + np.sqrt(1 - self.persistence**2) * kicks[t]
        return values

    def _render(self, generator, place, road):
        height, width = self.size
        rough = torch.from_numpy(generator.random((1, 1, height // 4, 200)))
        texture = F.interpolate(rough, size=(height, 800), mode="bicubic", align_corners=False)[0, 0].numpy()
        columns = np.arange(width) + place[:, None]
        left = np.floor(columns).astype(int)
        share = columns - left
        image = texture[:, left % 800] * (1 - share) + texture[:, (left + 1) % 800] * share
        image = 60 + 120 * image.transpose(1, 0, 2)
        middle = width * (0.5 + 0.12 * road)
        stripe = np.exp(-0.5 * ((np.arange(width) - middle[:, None]) / (0.05 * width)) ** 2)[:, None]
        stripe = stripe * (np.arange(height)[:, None] > height / 2)
        image = image * (1 - stripe) + 230 * stripe + self.noise * generator.normal(size=image.shape)
        return np.repeat(image.clip(0, 255).astype(np.uint8)[:, None], 3, axis=1)


class DrivenCamera:
    """A data set of such episodes. `still` adds an action dimension that moves nothing."""

    def __init__(self, *drives: Drive, seed: int = 0, still: bool = True, fps: float = 20.0, reads: list | None = None):
        made = [drive.make(100 * seed + i) for i, drive in enumerate(drives)]
        self.name, self.cameras, self.fps = "driven", ("front",), fps
        self.images = {"front": [images for images, _ in made]}
        generator = np.random.default_rng(seed + 7)
        self.actions = [actions[:, None].astype(np.float32) for _, actions in made]
        self.action_names: tuple[str, ...] | None = ("steer",)
        self.proprio_names: tuple[str, ...] | None = None
        if still:
            whim = [np.cumsum(generator.normal(size=len(a))) for a in self.actions]
            both = zip(self.actions, whim, strict=True)
            self.actions = [np.stack([a[:, 0], w - w.mean()], axis=1).astype(np.float32) for a, w in both]
            self.action_names = ("steer", "horn")
        self.labels: dict = {}
        self.proprio: list[np.ndarray] | None = None
        self.reads = reads

    def image_size(self, camera):
        return self.images[camera][0].shape[-2:]

    def __len__(self):
        return len(self.actions)

    def lengths(self):
        return np.array([len(images) for images in self.images[self.cameras[0]]], dtype=np.int64)

    def episode(self, i):
        return Episode(
            index=i,
            length=int(self.lengths()[i]),
            actions=self.actions[i] if self.action_names else None,
            proprio=None if self.proprio is None else self.proprio[i],
            dataset=self.name,
            **{"provenance": Provenance.TRUE, **self.labels},
        )

    def read_clips(self, episodes, frames):
        if self.reads is not None:
            self.reads.append(frames.shape)
        return {
            camera: torch.from_numpy(np.stack([images[e][row] for e, row in zip(episodes, frames, strict=True)]))
            for camera, images in self.images.items()
        }

    def without_labels(self):
        raise NotImplementedError

    def fingerprint(self):
        raise NotImplementedError
