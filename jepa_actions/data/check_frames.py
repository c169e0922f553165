"""Every frame decoded once: what cannot be decoded, what never changes, and a digest of what is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import local

import numpy as np

from jepa_actions.data.problems import Problem
from jepa_actions.data.types import VideoDataset
from jepa_actions.errors import JepaActionsError

CHUNK = 32  # frames decoded at a time
FROZEN = 10  # an episode of at least so many frames whose picture never changes is reported


@dataclass
class FrameCheck:
    """What decoding found: problems, and a digest of the frames of every episode and camera that decodes."""

    problems: list[Problem] = field(default_factory=list)
    digests: dict[tuple[int, str], str] = field(default_factory=dict)

    def frames(self, cameras: Collection[str]) -> dict[int, str]:
        """One digest per episode of which every camera decodes."""
        return {
            i: "+".join(self.digests[i, camera] for camera in cameras)
            for i in sorted({episode for episode, _ in self.digests})
            if all((i, camera) in self.digests for camera in cameras)
        }


def check_frames(
    opened: Callable[[str], VideoDataset],
    cameras: Collection[str],
    *,
    file_of: Callable[[int, str], str] = lambda _i, _camera: "",
    skip: Collection[int] = (),
    threads: int = 1,
) -> FrameCheck:
    """Decode every frame of every episode but those of `skip`.

    Fatal: an episode that does not decode. Warnings: a camera whose picture does not change in an episode of at least
    10 frames, two cameras that show the same.

    Args:
        opened: a reader of one camera; called once per thread and camera, since readers keep their decoders.
        cameras: names of the cameras.
        file_of: the video file of an episode and camera, for the reports.
        skip: episodes to leave out.
        threads: of decoding.
    """
    found = FrameCheck()
    mine = local()

    def reader(camera: str) -> VideoDataset:
        kept: dict[str, VideoDataset] = mine.__dict__.setdefault("readers", {})
        if camera not in kept:
            kept[camera] = opened(camera)
        return kept[camera]

    def work(task: tuple[str, list[int]]) -> FrameCheck:
        camera, episodes = task
        part = FrameCheck()
        for i in episodes:
            _one(part, reader(camera), i, camera, file_of(i, camera))
        return part

    count = len(opened(next(iter(cameras))))
    numbers = [i for i in range(count) if i not in skip]
    runs = [run.tolist() for run in np.array_split(numbers, max(1, min(len(numbers), 4 * threads))) if len(run)]
    with ThreadPoolExecutor(threads) as pool:  # a run is read in order, so that decoders go on where they stand
        for part in pool.map(work, [(camera, run) for camera in cameras for run in runs]):
            found.problems += part.problems
            found.digests |= part.digests
    found.problems += _same_cameras(found, list(cameras), file_of)
    return found


def _one(part: FrameCheck, dataset: VideoDataset, i: int, camera: str, file: str) -> None:
    length, digest, first, changes = int(dataset.lengths()[i]), hashlib.blake2b(digest_size=16), None, False
    for start in range(0, length, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, length))
        try:
            images = dataset.read_clips(np.array([i]), numbers[None])[camera][0]
        except JepaActionsError as error:
            part.problems.append(Problem(i, file, camera, f"episode {i}: {error}", True, "frames"))
            return
        pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
        digest.update(repr(pixels.shape[1:]).encode())
        digest.update(pixels.data)
        sample = pixels[:, ::8, ::8].astype(np.int16)
        first = sample[0] if first is None else first
        changes = changes or bool((np.abs(sample - first) > 2).any())
    part.digests[i, camera] = digest.hexdigest()
    if not changes and length >= FROZEN:
        message = f"episode {i}: camera {camera} shows the same picture in all {length} frames"
        part.problems.append(Problem(i, file, camera, message, False, "frames"))


def _same_cameras(found: FrameCheck, cameras: list[str], file_of: Callable[[int, str], str]) -> list[Problem]:
    problems, seen = [], dict[tuple[int, str], str]()
    for (i, camera), digest in sorted(found.digests.items(), key=lambda item: (item[0][0], cameras.index(item[0][1]))):
        other = seen.setdefault((i, digest), camera)
        if other != camera:
            message = f"episode {i}: cameras {other} and {camera} show the same frames"
            problems.append(Problem(i, file_of(i, camera), camera, message, False, "duplicate"))
    return problems
