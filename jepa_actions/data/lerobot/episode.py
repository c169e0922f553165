"""An episode while a LeRobot data set is being written: its frames go to disk as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from jepa_actions.data.lerobot import parts
from jepa_actions.data.lerobot.parts import Part
from jepa_actions.data.lerobot.stats import ImageStats, column_stats
from jepa_actions.data.lerobot.video_writer import VideoWriter
from jepa_actions.data.types import Episode
from jepa_actions.errors import DataError, ShapeError

if TYPE_CHECKING:
    from jepa_actions.data.lerobot.writer import LeRobotWriter


class OpenEpisode:
    """An episode being written: frames first, labels at the end."""

    def __init__(self, writer: LeRobotWriter, number: int) -> None:
        self.writer, self.number, self.length = writer, number, 0
        self._folder = parts.open_folder(writer.root, number)
        settings = writer.settings
        self._videos = {
            camera: VideoWriter(
                self._folder / f"{camera}.mp4", size, settings.fps, settings.codec, settings.gop, settings.crf
            )
            for camera, size in settings.cameras.items()
        }
        self._stats = {camera: ImageStats() for camera in settings.cameras}
        self._done = False

    def add_frame(self, images: Mapping[str, np.ndarray | Tensor]) -> None:
        """Append a frame of every camera: uint8 (3, H, W), or (H, W, 3)."""
        named = {feature_name(name): image for name, image in images.items()}
        if set(named) != set(self._videos):
            raise DataError(f"{self._place}: cameras {sorted(named)}, expected {sorted(self._videos)}")
        pictures = {camera: self._picture(camera, image) for camera, image in named.items()}
        for camera, picture in pictures.items():
            self._videos[camera].add(picture)
            self._stats[camera].add(picture)
        self.length += 1

    def finish(
        self,
        labels: Episode | None = None,
        *,
        text: str | None = None,
        seed: int | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Add the labels of the frames given so far and keep the episode. `text` and `seed` replace the labels' own.

        Raises ShapeError or DataError where labels and frames do not fit; the episode is then discarded.
        """
        try:
            if self._done or self.length == 0:
                raise DataError(f"{self._place}: {self.length} frames, expected an open episode of at least 1")
            labels = labels if labels is not None else Episode(self.number, self.length)
            self._check(labels)
            rows, features = self.writer.columnist.columns(labels, columns or {}, self._place)
            for video in self._videos.values():
                video.close()
            seed = labels.seed if seed is None else seed
            part = Part(self._folder, self.length, (labels.text if text is None else text) or "", seed, features)
            stats = {camera: found.stats() for camera, found in self._stats.items()}
            stats |= {name: column_stats(values, _known(rows, name)) for name, values in rows.items()}
            self.writer.keep(self.number, part, rows, stats)
            self._done = True
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop the episode, unless it is finished."""
        if self._done:
            return
        self._done = True
        for video in self._videos.values():
            video.abandon()
        parts.drop_open(self._folder)
        self.writer.dropped(self.number)

    @property
    def _place(self) -> str:
        return f"{self.writer.root}, episode {self.number}"

    def _picture(self, camera: str, image: np.ndarray | Tensor) -> UInt8[np.ndarray, "h w 3"]:
        array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
        size = self.writer.settings.cameras[camera]
        if array.shape == (3, *size):
            array = array.transpose(1, 2, 0)
        if array.shape != (*size, 3) or array.dtype != np.uint8:
            raise ShapeError(
                f"{self._place}: frame {self.length} of {camera} is {array.dtype} {array.shape}, expected uint8 "
                f"{(3, *size)}"
            )
        return array

    def _check(self, labels: Episode) -> None:
        if labels.length != self.length:
            raise ShapeError(f"{self._place}: labels of {labels.length} frames, expected {self.length} as in the video")
        if labels.times is not None:
            fps = self.writer.settings.fps
            late = np.abs(labels.times - labels.times[0] - np.arange(self.length) / fps) > 0.5 / fps
            if late.any():
                k = int(late.argmax())
                raise DataError(
                    f"{self._place}: frame {k} at {labels.times[k]:.3f} s, expected {k / fps:.3f} s at {fps:g} fps; "
                    "resample it first"
                )


def feature_name(camera: str) -> str:
    """The feature of a camera: `observation.images.` comes before a plain name."""
    return camera if camera.startswith("observation.") else f"observation.images.{camera}"


def _known(rows: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    valid = rows.get(f"{name}_valid")
    return None if valid is None else valid.astype(bool)
