"""Encoding a data set once: shard by shard onto the disk, safe against a crash, and continued where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor

from jepa_actions.data.latents.cache import CHUNK, Chunk, Encode, encoded, frame_chunks, read_ahead
from jepa_actions.data.latents.index import INDEX, LatentIndex, LatentKey, Shard
from jepa_actions.data.latents.shard import WRITING, ShardWriter, Tokens, frame_bytes
from jepa_actions.data.latents.store import LatentStore, check_owner
from jepa_actions.data.types import VideoDataset
from jepa_actions.errors import DataError

SHARD_BYTES = 256 * 2**20  # a shard is closed once it has this much
SHARD_FRAMES = 8192  # or this many frames: no more than that is lost by a kill, but for an episode that is longer
MOST_SHARDS = 1024  # of those that frames alone close, so that the index stays small
LOCK = ".lock"


def encode_dataset(
    dataset: VideoDataset,
    encode: Encode,
    out: str | Path,
    *,
    encoder_key: str,
    transform_key: str,
    episodes: Iterable[int] | None = None,
    shard_bytes: int = SHARD_BYTES,
    shard_frames: int = SHARD_FRAMES,
    on_frames: Callable[[int, int], None] | None = None,
) -> LatentStore:
    """Encode what is not encoded yet, into a folder of `out` that bears the hashes, and open it.

    Memory is bounded by a few chunks of frames and their tokens. A shard's file is moved to its place when it is whole,
    then the index is replaced; what a kill interrupts is made again by the next call, and so are shards that are
    missing or cut. Other processes that encode the same wait for the first, then find it done.

    Args:
        dataset: where frames come from.
        encode: uint8 frames per camera to tokens per camera, without gradient, each frame alone.
        out: the folder that holds caches, of any number of encoders and data sets.
        encoder_key: hash of the encoder's form and weights; another encoder never reads this cache.
        transform_key: hash of what is done to frames before the encoder, and of what is kept of its output.
        episodes: those to encode; by default all. More may be added later.
        shard_bytes, shard_frames: a shard is closed at the first of them; episodes are never cut.
        on_frames: called with the frames encoded and the frames to encode, after every chunk.

    Raises:
        DataError: where the disk has no room (finished shards stay), a token is not a number of float16's range, or the
            folder holds something else.
    """
    from filelock import FileLock

    key = LatentKey.of(dataset, encoder_key, transform_key)
    folder = Path(out) / key.folder
    wanted = range(len(dataset)) if episodes is None else sorted({int(e) for e in episodes})
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(dataset):
        raise DataError(f"{dataset.name}: episodes {list(wanted)[:8]} to encode, expected some of {len(dataset)}")
    if (folder / INDEX).is_file():  # finished: nothing is written, so that a cache may lie where one can only read
        index = _sound(folder, key)
        if index.episodes().issuperset(wanted):
            return LatentStore(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        found = _sound(folder, key) if (folder / INDEX).is_file() else None
        _clear(folder, found)
        held = found.episodes() if found else set()
        missing = [episode for episode in wanted if episode not in held]
        if missing:
            plan = _Plan(dataset, missing, found.chunk if found else CHUNK, shard_bytes, shard_frames)
            with closing(read_ahead(frame_chunks(dataset, missing, plan.chunk))) as frames:
                _encode(plan, folder, key, found, encoded(frames, encode), on_frames)
    finally:
        lock.release()
    return LatentStore(folder)


def _sound(folder: Path, key: LatentKey) -> LatentIndex:
    """The folder's index without the shards that are missing or cut."""
    index = LatentIndex.read(folder)
    check_owner(index, key, folder)
    index.shards = [shard for shard in index.shards if _is_whole(folder / shard.file, shard.size)]
    return index


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _clear(folder: Path, index: LatentIndex | None) -> None:
    """Take away files that an interrupted encoding left."""
    known = {shard.file for shard in index.shards} if index else set()
    for path in [*folder.glob(f"{WRITING}*"), *folder.glob("shard-*.safetensors")]:
        if path.name not in known:
            try:
                path.unlink()
            except OSError as error:
                raise DataError(f"{path}: cannot be taken away ({error.strerror})") from error


@dataclass(frozen=True)
class _Plan:
    """Which episodes to encode, in what pieces, and where a shard ends."""

    dataset: VideoDataset
    missing: list[int]
    chunk: int  # frames that are encoded at a time and share an origin
    shard_bytes: int
    shard_frames: int

    def total(self) -> int:
        """Frames to encode."""
        return int(self.dataset.lengths()[self.missing].sum())

    def shards(self, tokens: Tokens) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Episodes and their lengths, shard by shard."""
        most = min(max(self.shard_frames, self.total() // MOST_SHARDS), self.shard_bytes // frame_bytes(tokens))
        lengths, begin, frames = self.dataset.lengths(), 0, 0
        for k, episode in enumerate(self.missing):
            frames += int(lengths[episode])
            if frames >= most or k == len(self.missing) - 1:
                chosen = self.missing[begin : k + 1]
                yield tuple(chosen), tuple(lengths[chosen].tolist())
                begin, frames = k + 1, 0


def _encode(
    plan: _Plan,
    folder: Path,
    key: LatentKey,
    index: LatentIndex | None,
    chunks: Iterator[Chunk],
    on_frames: Callable[[int, int], None] | None,
) -> None:
    """Write every planned shard and, after each, the index."""
    first = next(chunks)  # tells what a frame takes
    tokens = {camera: (int(x.shape[1]), int(x.shape[2])) for camera, x in first[2].items()}
    index = index or LatentIndex(key, plan.dataset.name, tokens, plan.chunk)
    _check_room(plan, folder, index)
    chunks, done, total = chain([first], chunks), 0, plan.total()
    for episodes, lengths in plan.shards(tokens):
        shard = Shard(f"shard-{episodes[0]:07d}.safetensors", "", 0, episodes, lengths)
        layout = index.layout(shard)
        with ShardWriter(folder / shard.file, layout) as writer:
            row = 0
            for number in range(layout.chunks):
                episode, start, values = next(chunks)
                place = f"{plan.dataset.name}: episode {episode}, frames from {start} on"
                for camera, (origin, half) in _packed(values, index.tokens, place).items():
                    writer.put(f"origin.{camera}", number, origin)
                    writer.put(f"latents.{camera}", row, half)
                count = len(half)
                row, done = row + count, done + count
                if on_frames is not None:
                    on_frames(done, total)
            digest = writer.finish()
        index.shards.append(Shard(shard.file, digest, layout.size, episodes, lengths))
        index.write(folder)


def _check_room(plan: _Plan, folder: Path, index: LatentIndex) -> None:
    """Raise DataError before anything is encoded that the disk cannot hold."""
    shards = (Shard("", "", 0, episodes, lengths) for episodes, lengths in plan.shards(index.tokens))
    needed, free = sum(index.layout(shard).size for shard in shards), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: the latents of {plan.total()} frames of {plan.dataset.name} take {needed / 2**30:.2f} GiB, "
            f"found {free / 2**30:.2f} GiB free; take fewer episodes or pooled tokens (model.backbone.tokens)"
        )


def _packed(
    tokens: dict[str, Float[Tensor, "t p d"]], expected: Tokens, place: str
) -> dict[str, tuple[Float32[np.ndarray, "1 p d"], Float16[np.ndarray, "t p d"]]]:
    """The first frame's tokens in float32 and all frames' differences from it in float16, per camera. Raises DataError
    where they have another shape than before, or float16 does not hold them."""
    shapes = {camera: tuple(values.shape[1:]) for camera, values in tokens.items()}
    if shapes != expected:
        raise DataError(f"{place}: tokens of {shapes}, expected {expected}, as in the frames before")
    out = {}
    for camera, values in tokens.items():
        values = values.to(torch.float32)
        half = (values - values[:1]).to(torch.float16)
        if not bool(torch.isfinite(half).all()):
            raise DataError(
                f"{place}, camera {camera}: tokens reach {float(values.abs().max()):.3g}, expected numbers whose "
                "differences float16 holds (up to 65504); such latents are kept in memory, in float32 (data.cache "
                "latents without data.latents)"
            )
        out[camera] = values[:1].numpy(), half.numpy()
    return out
