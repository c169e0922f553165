"""Latents kept on disk: what a frozen encoder made of a data set's frames, read back at random through memory maps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from jepa_actions.data.latents.index import INDEX, LatentIndex, LatentKey
from jepa_actions.data.latents.shard import FULL, HALF, check_size, map_shard, sha256_of
from jepa_actions.data.types import VideoDataset, check_clips
from jepa_actions.errors import DataError

MAPPED = 128  # shards mapped at a time


class LatentStore:
    """A cache folder that `encode_dataset` wrote: float16 on disk, float32 when read.

    Sizes of all shards are checked at once, a shard's sha256 when it is first read (in each process), so that damage
    never becomes a latent. Nothing is held in memory but the index and maps of at most `MAPPED` shards. Several
    threads may read.

    Args:
        folder: of one encoder, transform and data set; see `open_latents` for finding it.
        checked: False leaves the sha256 out, for a cache that is too large to be read through once; sizes are checked.

    Raises:
        DataError: for a folder without an index, a damaged or newer index, or a shard that is missing or truncated.
    """

    def __init__(self, folder: str | Path, *, checked: bool = True) -> None:
        self.folder, self.checked = Path(folder), checked
        self.index = LatentIndex.read(self.folder)
        self.key, self.tokens = self.index.key, self.index.tokens
        shards = self.index.shards
        self._layouts = [self.index.layout(shard) for shard in shards]
        for shard, layout in zip(shards, self._layouts, strict=True):
            check_size(self.folder / shard.file, layout)
        count = max(self.index.episodes(), default=-1) + 1
        # of every episode: frames, and the row and the chunk of its first frame in its shard
        self._lengths, self._row, self._chunk = np.zeros((3, count), dtype=np.int64)
        self._shard = np.full(count, -1, dtype=np.int64)
        for number, shard in enumerate(shards):
            lengths = np.array(shard.lengths, dtype=np.int64)
            held = np.array(shard.episodes, dtype=np.int64)
            self._lengths[held], self._shard[held] = lengths, number
            self._row[held] = np.cumsum(lengths) - lengths
            chunks = -(-lengths // self.index.chunk)
            self._chunk[held] = np.cumsum(chunks) - chunks
        self._maps: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        self._sound: set[int] = set()
        self._lock = threading.Lock()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras; `tokens` has the tokens per frame and the width of each."""
        return tuple(self.tokens)

    def episodes(self) -> Int64[np.ndarray, "e"]:
        """Numbers of the episodes that are encoded."""
        return np.flatnonzero(self._shard >= 0)

    def lengths(self) -> Int64[np.ndarray, "e"]:
        """Frames per episode; 0 for one that is not encoded."""
        return self._lengths.copy()

    def read(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, Float[Tensor, "b t p d"]]:
        """Tokens of the named frames, per camera, in float32.

        Raises:
            DataError: for an episode that is not encoded, a frame that does not exist, or a damaged shard, by its name.
        """
        absent = [int(e) for e in episodes if not 0 <= e < len(self._shard) or self._shard[e] < 0]
        if absent:
            raise DataError(
                f"{self.folder}: episode {absent[0]} is not among the {len(self.episodes())} that are encoded; encode "
                "again to add it"
            )
        check_clips(self._lengths, episodes, frames, str(self.folder))
        rows = self._row[episodes][:, None] + frames
        chunks = self._chunk[episodes][:, None] + frames // self.index.chunk
        out = {camera: np.empty((*rows.shape, *shape), FULL) for camera, shape in self.tokens.items()}
        half = {camera: np.empty((*rows.shape, *shape), HALF) for camera, shape in self.tokens.items()}
        for clip, number in enumerate(self._shard[episodes]):
            stored = self._map(int(number))
            for camera in self.tokens:  # all are inside, as checked: "clip" only spares numpy a buffer
                np.take(stored[f"origin.{camera}"], chunks[clip], axis=0, out=out[camera][clip], mode="clip")
                np.take(stored[f"latents.{camera}"], rows[clip], axis=0, out=half[camera][clip], mode="clip")
        return {camera: torch.from_numpy(out[camera]).add_(torch.from_numpy(half[camera])) for camera in self.tokens}

    def latents_of(self, episode: int) -> dict[str, Float[Tensor, "t p d"]]:
        """Tokens of a whole episode, per camera, in float32. Raises DataError as `read` does."""
        length = int(self._lengths[episode]) if 0 <= episode < len(self._lengths) else 0
        tokens = self.read(np.array([episode]), np.arange(length)[None])
        return {camera: values[0] for camera, values in tokens.items()}

    def verify(self) -> None:
        """Read every shard through. Raises DataError that names all that are damaged."""
        damaged = []
        for number in range(len(self._layouts)):
            try:
                self._check(number)
            except DataError as error:
                damaged.append(str(error))
        if damaged:
            raise DataError("; ".join(damaged))

    def _map(self, number: int) -> dict[str, Float[np.ndarray, "f p d"]]:
        with self._lock:
            if number in self._maps:
                self._maps.move_to_end(number)
                return self._maps[number]
            if self.checked and number not in self._sound:
                self._check(number)
            self._maps[number] = map_shard(self.folder / self.index.shards[number].file, self._layouts[number])
            while len(self._maps) > MAPPED:
                self._maps.popitem(last=False)
            return self._maps[number]

    def _check(self, number: int) -> None:
        shard = self.index.shards[number]
        path = self.folder / shard.file
        map_shard(path, self._layouts[number])
        if sha256_of(path) != shard.sha256:
            raise DataError(
                f"{path}: its contents do not have the sha256 of the index: it was damaged; delete it and encode again"
            )
        self._sound.add(number)


def open_latents(
    root: str | Path, dataset: VideoDataset, *, encoder_key: str, transform_key: str, checked: bool = True
) -> LatentStore:
    """The stored latents of a data set by an encoder, from the folder that holds caches.

    Args:
        root: the folder that was given to `encode_dataset`.
        dataset: as it was opened for encoding (cameras, size); labels may be hidden.
        encoder_key, transform_key: hashes, as they were given to `encode_dataset`.
        checked: see `LatentStore`.

    Raises:
        DataError: if there are none (naming what there is instead), or as `LatentStore`.
    """
    key = LatentKey.of(dataset, encoder_key, transform_key)
    folder = Path(root) / key.folder
    if not (folder / INDEX).is_file():
        raise DataError(
            f"{root}: no latents of {dataset.name} by this encoder ({key.folder}); {_instead(Path(root), key)}; make "
            "them with jepa-actions data encode"
        )
    store = LatentStore(folder, checked=checked)
    check_owner(store.index, key, folder)
    held, lengths = store.episodes(), dataset.lengths()
    if len(held) and (held[-1] >= len(lengths) or (store.lengths()[held] != lengths[held]).any()):
        raise DataError(f"{folder}: episodes have other lengths than those of {dataset.name}; delete it, encode again")
    return store


def check_owner(index: LatentIndex, key: LatentKey, folder: Path) -> None:
    """Raise DataError where a folder holds latents of another encoder, transform or data set than its name says."""
    if index.key != key:
        raise DataError(
            f"{folder}: holds latents of {index.key.folder} (of {index.dataset}), expected {key.folder}; move it away"
        )


def _instead(root: Path, key: LatentKey) -> str:
    """What caches a folder holds, and in what they differ from the one that was looked for."""
    found = []
    for path in sorted(root.glob(f"*/{INDEX}"))[:8]:
        theirs, ours = path.parent.name.split("-"), key.folder.split("-")
        parts = ("encoder", "transform", "data")
        other = [name for i, name in enumerate(parts) if theirs[i : i + 1] != ours[i : i + 1]]
        found.append(f"{path.parent.name} (another {' and '.join(other)})")
    return f"found {', '.join(found)}" if found else "found no latents at all"
