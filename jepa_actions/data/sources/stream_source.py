"""Episodes of a Hugging Face `datasets` stream: parquet with videos, videofolder or WebDataset, local or on the Hub."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from jepa_actions.data.sources.folder_labels import Labels
from jepa_actions.data.sources.row_labels import check_labels, episode_of, names_of, rate_of
from jepa_actions.data.sources.spool import Spool, SpooledVideo
from jepa_actions.data.sources.stream_columns import (
    download,
    example_labels,
    examples,
    is_video,
    label_name,
    load_stream,
    undecoded,
)
from jepa_actions.data.sources.tars import camera_of
from jepa_actions.data.types import Episode, VideoDataset, check_clips
from jepa_actions.data.video.file import VideoFile, check_image_size, gather_cameras
from jepa_actions.data.view import Viewable, combined
from jepa_actions.errors import DataError

PEEK = 16  # episodes looked at, at most, to learn which labels a stream has
ROW_BITS = 32


@dataclass
class StreamedEpisode:
    """One episode that was read: its labels, and its video by camera until it is closed.

    `episode.index` is `shard * 2**32 + row`: the same number for the same episode in every run, epoch and process.
    """

    episode: Episode
    videos: dict[str, VideoFile]
    labels: Labels

    @property
    def place(self) -> str:
        """Which it is, for errors."""
        return self.labels.place

    def close(self) -> None:
        """Remove what was kept of its videos."""
        for video in self.videos.values():
            if isinstance(video, SpooledVideo):
                video.spool.drop(video.key)


class EpisodeStream:
    """The episodes of a `datasets` stream, one shard (file) after the other.

    `source` is the folder or the Hub id of a data set, or a `datasets.IterableDataset`. Videos are columns of type
    `Video` or of bytes (of a WebDataset `mp4` and the like); a WebDataset's cameras are called as in `TarVideos`, other
    cameras as their column; `cameras` picks some. Labels are called as in `row_labels`. A stream says nothing of itself
    before it is read: names and image sizes come from its first episodes.

    Raises DataError naming data set, shard and row: what `datasets` cannot load, no column of videos, a damaged video,
    labels that do not fit.
    """

    def __init__(
        self,
        source: Any,
        *,
        split: str = "train",
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        check_image_size(image_size)
        self.name, self._data = load_stream(source, split)
        self._image_size = image_size
        self._spool, self._keys = Spool(sys.maxsize), count()
        self._columns, labels = self._choose(cameras)
        self._data = undecoded(self._data, self._columns.values(), labels)
        self.cameras = tuple(self._columns)
        self.shards = int(self._data.num_shards)
        self._names: tuple[tuple[str, ...] | None, tuple[str, ...] | None] | None = None
        first = self._peek(1 if self._data.features and not labels else PEEK)
        self.fps = rate_of(first[0].labels.values, first[0].place) or first[0].videos[self.cameras[0]].fps
        self._sizes = {camera: first[0].videos[camera].image_size for camera in self.cameras}
        pairs = [(one.episode, one.labels.values, one.place) for one in first]
        self._names = names_of(pairs, {}, self.name)
        self.action_names, self.proprio_names = self._names
        for one in first:
            one.close()

    def _peek(self, most: int) -> list[StreamedEpisode]:
        """The first episode, and more until one with actions and one with proprio are among them."""
        found: list[StreamedEpisode] = []
        for one in (one for shard in range(self.shards) for one in self.episodes(shard)):
            found.append(one)
            acts, feels = (any(getattr(e.episode, part) is not None for e in found) for part in ("actions", "proprio"))
            if (acts and feels) or len(found) == most:
                return found
        if not found:
            raise DataError(f"{self.name}: holds no episode, expected at least one")
        return found

    def _choose(self, cameras: Sequence[str] | None) -> tuple[dict[str, str], list[str]]:
        """The columns of videos, by camera, and those of labels."""
        features = self._data.features
        first = None if features else next(examples(self._data, self.name), None)
        columns = list(features or first or ())
        videos = {camera_of(name) or name: name for name in columns if is_video(name, features, first)}
        for camera in cameras or ():
            if camera not in videos:
                raise DataError(
                    f"{self.name}: no camera {camera!r}, expected {', '.join(videos) or 'a column of videos'}"
                )
        if not videos:
            raise DataError(f"{self.name}: no column of videos, found {', '.join(columns) or 'no column'}")
        chosen = {camera: videos[camera] for camera in cameras or videos}
        labels = [name for name in columns if name not in videos.values() and label_name(name) is not None]
        return chosen, labels

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames, after any resize."""
        if camera not in self._sizes:
            raise DataError(f"{self.name}: no camera {camera!r}, expected {', '.join(self.cameras)}")
        return self._sizes[camera]

    def episodes(self, shard: int, *, wanted: Callable[[int], bool] | None = None) -> Iterator[StreamedEpisode]:
        """The episodes of a shard in its order; rows that are not `wanted` are passed over without their video being
        looked at."""
        data = self._data.shard(num_shards=self.shards, index=shard) if self.shards > 1 else self._data
        for row, example in enumerate(examples(data, f"{self.name}, shard {shard}")):
            if wanted is None or wanted(row):
                yield self._episode(example, shard, row)

    def _episode(self, example: Mapping[str, Any], shard: int, row: int) -> StreamedEpisode:
        place = f"{self.name}, shard {shard}, row {row}"
        labels = Labels(example_labels(example, place), place)
        videos = {c: self._video(example[column], f"{place}, {column}") for c, column in self._columns.items()}
        first = videos[self.cameras[0]]
        for camera, video in videos.items():
            if len(video) != len(first):
                raise DataError(f"{place}, {camera}: {len(video)} frames, expected {len(first)} as in the first camera")
            if self._names is not None and video.image_size != self._sizes[camera]:
                raise DataError(
                    f"{place}, {camera}: frames of {video.image_size}, expected {self._sizes[camera]} as in the first "
                    "episode; set image_size"
                )
        rate = rate_of(labels.values, place)
        episode = episode_of(
            labels.values,
            index=(shard << ROW_BITS) + row,
            length=len(first),
            times=np.arange(len(first)) / rate if rate else np.asarray(first.times - first.times[0], np.float64),
            name=self.name,
            place=place,
        )
        self._check(episode, place)
        return StreamedEpisode(episode, videos, labels)

    def _check(self, episode: Episode, place: str) -> None:
        names = self._names or (None, None)
        check_labels(episode, place, names[0], names[1])
        for part, values, known in (("action", episode.actions, names[0]), ("state", episode.proprio, names[1])):
            if self._names is not None and values is not None and (known is None or len(known) != values.shape[1]):
                raise DataError(
                    f"{place}: {part} has {values.shape[1]} dimensions, expected "
                    f"{'none' if known is None else len(known)} as in the first episodes"
                )

    def _video(self, value: Any, place: str) -> VideoFile:
        data = value.get("bytes") if isinstance(value, Mapping) else value
        path = value.get("path") if isinstance(value, Mapping) else None
        if data is None and isinstance(path, str) and Path(path).is_file():
            return VideoFile(path, image_size=self._image_size)
        if data is None and isinstance(path, str):
            data = download(path, place)
        if not isinstance(data, bytes):
            raise DataError(f"{place}: found {type(data).__name__}, expected the bytes of a video")
        return SpooledVideo(self._spool, next(self._keys), _Bytes(place, data), image_size=self._image_size)

    def first(self, episodes: int, *, labelled: bool = True) -> HeldEpisodes:
        """The first episodes (with `labelled` those that have a known action or proprio) as a data set: to fit an
        `ActionCodec`, or to look at. Raises DataError where there are none."""
        found = []
        for one in (one for shard in range(self.shards) for one in self.episodes(shard)):
            if labelled and not one.episode.labelled().any() and one.episode.proprio is None:
                one.close()
                continue
            found.append(one)
            if len(found) == episodes:
                break
        if not found:
            raise DataError(f"{self.name}: no {'labelled ' if labelled else ''}episode in it, expected at least one")
        return HeldEpisodes(self, found)


class HeldEpisodes(Viewable):
    """Some episodes of a stream as a data set; `stream` says what they have in common."""

    def __init__(self, stream: EpisodeStream, held: Sequence[StreamedEpisode]) -> None:
        self.held = tuple(held)
        self.name, self.cameras, self.fps = stream.name, stream.cameras, stream.fps
        self.action_names, self.proprio_names = stream.action_names, stream.proprio_names
        self._sizes = {camera: stream.image_size(camera) for camera in stream.cameras}
        self._lengths = np.array([one.episode.length for one in held], dtype=np.int64)

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of that camera's frames, after any resize."""
        return self._sizes[camera]

    def __len__(self) -> int:
        return len(self.held)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode."""
        return self._lengths.copy()

    def episode(self, i: int) -> Episode:
        """The labels of the i-th episode; its `index` is its number in the stream."""
        return self.held[i].episode

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        """The named frames of the named episodes, for every camera."""
        check_clips(self._lengths, episodes, frames, self.name)
        return gather_cameras(
            {camera: ([self.held[int(e)].videos[camera] for e in episodes], frames) for camera in self.cameras}
        )

    def without_labels(self) -> VideoDataset:
        """The videos alone."""
        bare = HeldEpisodes.__new__(HeldEpisodes)
        bare.__dict__.update(self.__dict__, action_names=None, proprio_names=None)
        bare.held = tuple(
            StreamedEpisode(
                Episode(e.episode.index, e.episode.length, times=e.episode.times), e.videos, Labels({}, e.place)
            )
            for e in self.held
        )
        return bare

    def fingerprint(self) -> str:
        """Of the stream's name and the episodes' places: their bytes are not read again."""
        return combined(type(self).__name__, [one.place for one in self.held], self.action_names, self.proprio_names)


@dataclass
class _Bytes:
    """Bytes of a video, given away when they are copied; see `spool.Part`."""

    place: str
    data: bytes | None = field(repr=False)

    def read(self) -> bytes:
        data, self.data = self.data, None
        if data is None:
            raise DataError(f"{self.place}: its bytes are gone, expected it to be read before it is closed")
        return data
