"""Small data sets in which every frame and every row says where it belongs."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jepa_actions.data import Episode
from jepa_actions.data.lerobot.writer import LeRobotWriter

LENGTHS = (12, 9, 15, 7, 14, 10)  # their sums over the files differ, so that files of one camera differ in length
SIZES = {"front": (64, 96), "wrist": (32, 64)}
FPS = 10.0
ROWS, COLUMNS = 4, 8  # blocks of a picture, one bit each


def bits_of(camera: int, episode: int, frame: int) -> np.ndarray:
    """32 bits: camera, episode, frame and a checksum of 16 bits."""
    number = (camera << 13) | (episode << 8) | frame
    check = zlib.crc32(number.to_bytes(2, "little")) & 0xFFFF
    return np.array([(((check << 16) | number) >> k) & 1 for k in range(32)], dtype=np.uint8)


def picture(camera: int, episode: int, frame: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3): dark and bright blocks."""
    blocks = np.where(bits_of(camera, episode, frame) > 0, 215, 40).astype(np.uint8).reshape(ROWS, COLUMNS)
    grey = np.kron(blocks, np.ones((size[0] // ROWS, size[1] // COLUMNS), dtype=np.uint8))
    return np.repeat(grey[:, :, None], 3, axis=2)


def seen(image: np.ndarray) -> tuple[int, int, int] | None:
    """Camera, episode and frame that a picture (H, W, 3) says it is; `None` where it says nothing clearly."""
    height, width = image.shape[:2]
    grey = image.mean(axis=2)[: height // ROWS * ROWS, : width // COLUMNS * COLUMNS]
    blocks = grey.reshape(ROWS, height // ROWS, COLUMNS, width // COLUMNS).mean(axis=(1, 3)).ravel()
    value = sum(int(block > 127) << k for k, block in enumerate(blocks))
    number = value & 0xFFFF
    place = (number >> 13, (number >> 8) & 31, number & 255)
    return place if value >> 16 == zlib.crc32(number.to_bytes(2, "little")) & 0xFFFF else None


def row_of(kind: int, episode: int, row: int) -> np.ndarray:
    """(3,): a row of labels: its place and two checks of it. `kind` 0 is an action, 1 a state."""
    place = 64 * episode + row
    check = zlib.crc32(bytes([kind, episode, row]))
    return np.array([place, check % 997, check % 1009], dtype=np.float32)


def told(kind: int, values: np.ndarray) -> tuple[int, int] | None:
    """Episode and row that a row of labels says it is."""
    if len(values) < 1 or not 0 <= values[0] < 64 * 32 or values[0] != int(values[0]):
        return None
    episode, row = divmod(int(values[0]), 64)
    return (episode, row) if np.array_equal(values, row_of(kind, episode, row)) else None


def labels_of(episode: int, length: int) -> Episode:
    """The labels of one episode."""
    return Episode(
        episode,
        length,
        actions=np.stack([row_of(0, episode, row) for row in range(length)])[:-1],
        proprio=np.stack([row_of(1, episode, row) for row in range(length)]),
        text=f"task of episode {episode}",
    )


def write_base(
    root: Path,
    *,
    version: str = "v3.0",
    codec: str = "h264",
    lengths: Sequence[int] = LENGTHS,
    sizes: dict[str, tuple[int, int]] = SIZES,
    fps: float = FPS,
    labels: bool = True,
) -> Path:
    """As our writer leaves it: about two episodes to a file, two files to a chunk, checksums, labelled videos."""
    with LeRobotWriter(
        root,
        fps=fps,
        cameras=sizes,
        action_names=("place", "check_a", "check_b") if labels else None,
        proprio_names=("place", "check_a", "check_b") if labels else None,
        version=version,  # type: ignore[arg-type]
        codec=codec,  # type: ignore[arg-type]
        data_mb=0.0006,
        video_mb=0.005,
        chunk_files=2,
    ) as writer:
        for e, length in enumerate(lengths):
            frames = {
                name: np.stack([picture(c, e, f, size) for f in range(length)]).transpose(0, 3, 1, 2)
                for c, (name, size) in enumerate(sizes.items())
            }
            known = labels_of(e, length) if labels else Episode(e, length, text=f"task of episode {e}")
            writer.add_episode(frames, known)
    return root


def strip(root: Path) -> Path:
    """As other software leaves it: no checksums of files or pages, no labels in the videos."""
    import av
    import pyarrow.parquet as parquet

    (root / "meta" / "checksums.json").unlink(missing_ok=True)
    for path in sorted(root.rglob("*.parquet")):
        parquet.write_table(parquet.read_table(path), path)
    for path in sorted(root.rglob("*.mp4")):
        bare = path.with_suffix(".bare.mp4")
        with av.open(str(path)) as source, av.open(str(bare), "w") as out:
            stream = source.streams.video[0]
            copy = out.add_stream_from_template(stream, opaque=True)
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
        bare.replace(path)
    return root


BASES: dict[str, dict[str, str]] = {"ours": {}, "ours_av1": {"codec": "av1"}, "ours_v21": {"version": "v2.1"}}


def make_bases(folder: Path, names: Sequence[str] = tuple(BASES)) -> dict[str, Path]:
    """The data sets that are damaged: ours and others', in both versions, h264 and AV1."""
    bases = {}
    for name in names:
        bases[name] = write_base(folder / name, **BASES[name])  # type: ignore[arg-type]
        other = name.replace("ours", "plain")
        bases[other] = strip(Path(shutil.copytree(bases[name], folder / other)))
    return bases


def write_json(path: Path, value: object) -> None:
    """As LeRobot writes it."""
    path.write_text(json.dumps(value, indent=4), encoding="utf-8")
