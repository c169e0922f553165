"""The pictures in stable-worldmodel's infos, at the size that a model was trained at."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from jepa_actions.errors import ConfigError, ShapeError

PLACE = "stable-worldmodel info"
HINTS = {
    "pixels": "World(image_shape=...) adds them",
    "goal": "of swm/TwoRoom-v1 wrap it in GoalPicture, of others evaluate from a data set",
}


def resize_area(frames: UInt8[Tensor, "*b c h w"], size: tuple[int, int]) -> UInt8[Tensor, "*b c height width"]:
    """Smaller pictures, every pixel the mean of those it covers (`torch` adaptive average pooling), rounded.

    Raises ShapeError for pictures that are smaller than `size` (nothing is made up) or have other proportions.
    """
    height, width = frames.shape[-2:]
    if (height, width) == size:
        return frames
    if height < size[0] or width < size[1] or height * size[1] != width * size[0]:
        raise ShapeError(
            f"pictures: found {height} x {width}, expected the model's {size[0]} x {size[1]} or larger ones of the "
            "same proportions"
        )
    flat = frames.reshape(-1, *frames.shape[-3:]).float()
    small = F.interpolate(flat, size=size, mode="area").round().clamp(0, 255).to(torch.uint8)
    return small.view(*frames.shape[:-2], *size)


class Pictures:
    """Reads pictures for a model.

    Arguments:
        model: with one camera. One whose encoder is a frozen backbone resizes by itself.

    Raises: ConfigError for a model of several cameras: an info has one picture.
    """

    def __init__(self, model: Any) -> None:
        cameras, backbone = model.config.cameras, model.config.backbone
        if len(cameras) != 1:
            raise ConfigError(f"stable-worldmodel: found a model of cameras {', '.join(cameras)}, expected one camera")
        self.size: tuple[int, int] | None = None if backbone is not None else tuple(model.config.encoder.image_size)

    def read(self, info: Mapping[str, Any], key: str, *, samples: bool = False) -> UInt8[Tensor, "b t c h w"]:
        """The pictures under a key, at the model's size.

        Arguments:
            samples: a solver has repeated every problem along a second axis; the first one is taken.

        Raises: ShapeError where there are none, or not uint8 with channels last, as `World` gives without transforms.
        """
        if key not in info:
            raise ShapeError(f"{PLACE}: found no {key!r} among {', '.join(info)}; {HINTS.get(key, 'expected it')}")
        axes = ("batch", *(["samples"] if samples else []), "time", "height", "width", "3")
        frames = torch.as_tensor(info[key])
        if frames.dtype != torch.uint8 or frames.ndim != len(axes) or frames.shape[-1] != 3:
            raise ShapeError(
                f"{PLACE} {key!r}: found {str(frames.dtype).removeprefix('torch.')} {tuple(frames.shape)}, expected "
                f"uint8 ({', '.join(axes)}), as World gives it: no transform, because a model has its own"
            )
        frames = (frames[:, 0] if samples else frames).movedim(-1, -3)
        return frames if self.size is None else resize_area(frames, self.size)
