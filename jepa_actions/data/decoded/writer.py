"""Decode a data set once and keep the frames uncompressed (read back by `DecodedCache`)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from jepa_actions.data.decoded.episode_store import pack
from jepa_actions.data.types import VideoDataset
from jepa_actions.errors import DataError

MARKER = "decoded_cache.json"
LABELS = "labels.safetensors"
FORMAT, VERSION = "jepa-actions decoded cache", 1
CHUNK = 64  # frames decoded at a time


def write_decoded_cache(
    dataset: VideoDataset,
    out: str | Path,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write every frame and label of `dataset` to the new folder `out`, which `DecodedCache` opens.

    Frames are stored as the data set gives them: to store them smaller, open it with `image_size`. The folder appears
    whole or not at all.

    Args:
        dataset: any data set with a fingerprint.
        out: a folder that does not exist, or is empty.
        workers: chunks of frames decoded ahead, each by a thread.
        progress: called with the number of frames written and of all.

    Raises:
        DataError: where `out` holds something, the disk is too small, or the data set cannot be read.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists already, expected a new folder")
    place = out.parent
    temporary = place / f".{out.name}.{os.getpid()}.partial"
    try:
        place.mkdir(parents=True, exist_ok=True)
        _check_space(dataset, place)
        temporary.mkdir()
        try:
            _write(dataset, temporary, workers, progress)
            os.replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
    return out


def _check_space(dataset: VideoDataset, place: Path) -> None:
    frames = int(dataset.lengths().sum())
    needed = sum(frames * 3 * int(np.prod(dataset.image_size(camera))) for camera in dataset.cameras)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DataError(
            f"{place}: {free / 1e9:.1f} GB free, expected {needed / 1e9:.1f} GB for {frames} decoded frames; open the "
            "data set with a smaller image_size"
        )


def _write(dataset: VideoDataset, folder: Path, workers: int, progress: Callable[[int, int], None] | None) -> None:
    from safetensors.numpy import save

    lengths = dataset.lengths()
    total, done = int(lengths.sum()), 0
    names = {camera: f"frames-{number}.npy" for number, camera in enumerate(dataset.cameras)}
    with ExitStack() as stack:
        files = {camera: _Hashed(stack.enter_context((folder / name).open("wb"))) for camera, name in names.items()}
        for camera, file in files.items():
            file.write(npy_header((total, *dataset.image_size(camera), 3)))
        for clips in _decoded(dataset, lengths, max(workers, 1)):
            for camera, file in files.items():
                file.write(np.ascontiguousarray(clips[camera][0].permute(0, 2, 3, 1).numpy()).data)
            done += next(iter(clips.values())).shape[1]
            if progress is not None:
                progress(done, total)
        hashes = {names[camera]: file.hash.hexdigest() for camera, file in files.items()}
    arrays, words = pack([dataset.episode(i) for i in range(len(dataset))], dataset.name)
    labels = save(arrays)
    (folder / LABELS).write_bytes(labels)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": dataset.name,
        "fps": dataset.fps,
        "action_names": dataset.action_names,
        "proprio_names": dataset.proprio_names,
        "source_fingerprint": dataset.fingerprint(),
        "cameras": {
            camera: {"file": name, "image_size": list(dataset.image_size(camera))} for camera, name in names.items()
        },
        "sha256": {**hashes, LABELS: hashlib.sha256(labels).hexdigest()},
        "episodes": words,
    }
    (folder / MARKER).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _decoded(dataset: VideoDataset, lengths: np.ndarray, workers: int) -> Iterator[dict[str, Tensor]]:
    """All frames in order, a chunk at a time, `workers` chunks decoded ahead."""
    ahead: deque[Future[dict[str, Tensor]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for episode, length in enumerate(lengths.tolist()):
                for start in range(0, length, CHUNK):
                    frames = np.arange(start, min(start + CHUNK, length))[None]
                    ahead.append(pool.submit(dataset.read_clips, np.array([episode]), frames))
                    if len(ahead) > workers:
                        yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for chunk in ahead:
                chunk.cancel()


class _Hashed:
    """A file and the hash of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        self.hash.update(content)
        self.file.write(content)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """How a `.npy` file of uint8 of this shape begins."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
