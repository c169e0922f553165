"""Every frame decoded once: what cannot be decoded, what never changes, and a digest of what is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

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
    dataset: VideoDataset,
    *,
    one_camera: Callable[[str], VideoDataset] | None = None,
    file_of: Callable[[int, str], str] = lambda _i, _camera: "",
    skip: Collection[int] = (),
    threads: int = 1,
) -> FrameCheck:
    """Decode every frame of every episode but those of `skip`.

    Fatal: an episode that does not decode. Warnings: a camera whose picture does not change in an episode of at least
    10 frames, two cameras that show the same.

    Args:
        dataset: any data set; several threads read it.
        one_camera: the same data set with one camera only, to tell which of several does not decode.
        file_of: the video file of an episode and camera, for the reports.
        skip: episodes to leave out.
        threads: that read episodes side by side.
    """
    found = FrameCheck()

    def work(episodes: list[int]) -> FrameCheck:
        part = FrameCheck()
        for i in episodes:
            if not _one(part, dataset, i, dataset.cameras, file_of) and one_camera is not None:
                part.problems.pop()  # which of the cameras it is follows
                for camera in dataset.cameras:
                    _one(part, one_camera(camera), i, (camera,), file_of)
        return part

    numbers = [i for i in range(len(dataset)) if i not in skip]
    runs = [run.tolist() for run in np.array_split(numbers, max(1, min(len(numbers), 4 * threads))) if len(run)]
    with ThreadPoolExecutor(threads) as pool:  # a run is read in order, so that decoders go on where they stand
        for part in pool.map(work, runs):
            found.problems += part.problems
            found.digests |= part.digests
    found.problems += _same_cameras(found, dataset.cameras, file_of)
    return found


def _one(
    part: FrameCheck,
    dataset: VideoDataset,
    i: int,
    cameras: tuple[str, ...],
    file_of: Callable[[int, str], str],
) -> bool:
    """Decode one episode; whether it does decode."""
    length = int(dataset.lengths()[i])
    digests = {camera: hashlib.blake2b(digest_size=16) for camera in cameras}
    first: dict[str, np.ndarray] = {}
    moving: set[str] = set()
    for start in range(0, length, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, length))
        try:
            clips = dataset.read_clips(np.array([i]), numbers[None])
        except JepaActionsError as error:
            camera = cameras[0] if len(cameras) == 1 else ""
            file = file_of(i, camera) if camera else ""
            part.problems.append(Problem(i, file, camera, f"episode {i}: {error}", True, "frames"))
            return False
        for camera, images in clips.items():
            pixels = np.ascontiguousarray(images[0].permute(0, 2, 3, 1).numpy())
            digests[camera].update(repr(pixels.shape[1:]).encode())
            digests[camera].update(pixels.data)
            sample = pixels[:, ::8, ::8].astype(np.int16)
            if (np.abs(sample - first.setdefault(camera, sample[0])) > 2).any():
                moving.add(camera)
    for camera, digest in digests.items():
        part.digests[i, camera] = digest.hexdigest()
        if camera not in moving and length >= FROZEN:
            message = f"episode {i}: camera {camera} shows the same picture in all {length} frames"
            part.problems.append(Problem(i, file_of(i, camera), camera, message, False, "frames"))
    return True


def _same_cameras(found: FrameCheck, cameras: Sequence[str], file_of: Callable[[int, str], str]) -> list[Problem]:
    problems, seen = [], dict[tuple[int, str], str]()
    for (i, camera), digest in sorted(found.digests.items(), key=lambda item: (item[0][0], cameras.index(item[0][1]))):
        other = seen.setdefault((i, digest), camera)
        if other != camera:
            message = f"episode {i}: cameras {other} and {camera} show the same frames"
            problems.append(Problem(i, file_of(i, camera), camera, message, False, "duplicate"))
    return problems
