"""Fifty-seven data sets that are right, each in its own way: all must load, read in their place, and pass `check`."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.base import LENGTHS, SIZES, bits_of, labels_of, picture, seen, strip, told, write_base, write_json
from fuzz.cases import Row

from jepa_actions.data import Episode, Provenance, load_dataset
from jepa_actions.data.checks.check import check
from jepa_actions.data.lerobot.writer import LeRobotWriter

Variant = Callable[[Path], None]
ONE = {"front": (64, 96)}
THREE = {"front": (64, 96), "wrist": (32, 64), "top": (64, 128)}
SHORT = (5, 4, 6)


def base(**options: Any) -> Variant:
    """Our writer with other options."""
    return lambda root: (write_base(root, **options), None)[1]


def bare(**options: Any) -> Variant:
    """The same as other software leaves it."""
    return lambda root: (strip(write_base(root, **options)), None)[1]


def edited(change: Callable[[Path], None], **options: Any) -> Variant:
    """As other software leaves it, then changed to something that is as valid."""

    def make(root: Path) -> None:
        strip(write_base(root, lengths=SHORT, **options))
        change(root)

    return make


def info(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """A change to `info.json`."""

    def apply(root: Path) -> None:
        value = json.loads((root / "meta" / "info.json").read_text())
        change(value)
        write_json(root / "meta" / "info.json", value)

    return apply


def tables(pattern: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A change to every parquet file of a pattern."""

    def apply(root: Path) -> None:
        import pyarrow.parquet as parquet

        for path in sorted(root.glob(pattern)):
            parquet.write_table(change(parquet.read_table(path)), path)

    return apply


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    """Several changes."""

    def apply(root: Path) -> None:
        for change in changes:
            change(root)

    return apply


def without(*columns: str) -> Callable[[Any], Any]:
    return lambda table: table.drop_columns([c for c in columns if c in table.column_names])


def retyped(column: str, kind: str) -> Callable[[Any], Any]:
    """A column, or the numbers in its lists, as another type."""
    import pyarrow as pa

    def change(table: Any) -> Any:
        numbers = np.stack(table[column].to_pylist()) if pa.types.is_nested(table.schema.field(column).type) else None
        if numbers is None:
            array = pa.array(table[column].to_numpy()).cast(kind)
        else:
            array = pa.array(numbers.astype(kind).tolist(), pa.list_(pa.from_numpy_dtype(np.dtype(kind))))
        return table.set_column(table.column_names.index(column), column, array)

    return change


def added(column: str, value: Any) -> Callable[[Any], Any]:
    """A further column."""
    import pyarrow as pa

    return lambda table: table.append_column(column, pa.array([value] * len(table)))


def recoded(codec: str, **options: str) -> Callable[[Path], None]:
    """Every video encoded anew, by another codec or with other keyframes."""

    def apply(root: Path) -> None:
        import av

        for path in sorted(root.rglob("*.mp4")):
            target = path.with_suffix(".new.mp4")
            with av.open(str(path)) as source, av.open(str(target), "w") as out:
                stream: Any = None
                for k, frame in enumerate(source.decode(video=0)):
                    if stream is None:
                        rate = source.streams.video[0].average_rate or 10
                        stream = out.add_stream(codec, rate=rate, options=options)
                        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                        stream.codec_context.time_base = 1 / Fraction(rate)
                    fresh = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
                    fresh.pts, fresh.time_base = k, stream.codec_context.time_base
                    out.mux(stream.encode(fresh))
                out.mux(stream.encode())
            target.replace(path)

    return apply


def labelled(change: Callable[[Episode], Episode], **options: Any) -> Variant:
    """Our writer with other labels."""

    def make(root: Path) -> None:
        with LeRobotWriter(root, fps=10, cameras=ONE, **options) as writer:
            for e, length in enumerate(SHORT):
                frames = np.stack([picture(0, e, f, ONE["front"]) for f in range(length)]).transpose(0, 3, 1, 2)
                writer.add_episode({"front": frames}, change(labels_of(e, length)))

    return make


def but(**changes: Any) -> Callable[[Episode], Episode]:
    from dataclasses import replace

    return lambda episode: replace(episode, **{k: v(episode) if callable(v) else v for k, v in changes.items()})


def _seconds(e: Episode) -> np.ndarray:
    return np.arange(e.length - 1, dtype=np.float32)


def images(root: Path) -> None:
    """Pictures as PNG inside the table of rows, as LeRobot does without video."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as parquet
    from PIL import Image

    for path in sorted(root.glob("data/*/*.parquet")):
        table = parquet.read_table(path)
        cells = []
        for e, f in zip(table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True):
            out = io.BytesIO()
            Image.fromarray(picture(0, e, f, ONE["front"])).save(out, "PNG")
            cells.append({"bytes": out.getvalue(), "path": f"frame_{f:06d}.png"})
        parquet.write_table(table.append_column(FRONT, pa.array(cells)), path)
    for path in root.rglob("*.mp4"):
        path.unlink()
    info(lambda value: value["features"][FRONT].update(dtype="image"))(root)
    info(lambda value: value.update(video_path=None))(root)


FEATURES, ACTION, FRONT = "features", "action", "observation.images.front"
ROWS, EPISODES = "data/*/*.parquet", "meta/episodes/*/*.parquet"
VARIANTS: list[tuple[str, Variant]] = [
    ("as written", base()),
    ("v2.1", base(version="v2.1")),
    ("AV1", base(codec="av1")),
    ("v2.1 in AV1", base(version="v2.1", codec="av1")),
    ("without checksums", bare()),
    ("v2.1 without checksums", bare(version="v2.1")),
    *((f"{fps:g} fps", base(fps=fps, lengths=SHORT)) for fps in (1, 3, 5, 15, 20, 29.97, 50, 60, 100)),
    ("12.5 fps without checksums", bare(fps=12.5)),
    ("one camera", base(sizes=ONE, lengths=SHORT)),
    ("three cameras", base(sizes=THREE, lengths=SHORT)),
    ("three cameras, v2.1", bare(sizes=THREE, lengths=SHORT, version="v2.1")),
    ("small frames", base(sizes={"front": (16, 16)}, lengths=SHORT)),
    ("wide frames", base(sizes={"front": (32, 640)}, lengths=SHORT)),
    ("tall frames", base(sizes={"front": (480, 64)}, lengths=SHORT)),
    ("large frames", base(sizes={"front": (480, 640)}, lengths=SHORT)),
    ("one episode", base(lengths=(20,))),
    ("episodes of one frame", base(lengths=(1, 3, 1, 1))),
    ("episodes of two frames, v2.1", bare(lengths=(2, 2, 3), version="v2.1")),
    ("thirty episodes", base(sizes=ONE, lengths=tuple(range(2, 32)))),
    ("a long episode", base(sizes=ONE, lengths=(63, 3))),
    ("no labels", base(labels=False)),
    ("no labels, v2.1", bare(labels=False, version="v2.1")),
    ("no actions", labelled(but(actions=None))),
    ("no state", labelled(but(proprio=None))),
    ("rewards", labelled(but(rewards=_seconds))),
    ("a simulator's state", labelled(but(simulator_state=lambda e: np.ones((e.length, 4)), seed=7))),
    ("partly labelled", labelled(but(action_mask=lambda e: np.arange(e.length - 1) % 2 == 0))),
    ("pseudo actions", labelled(but(provenance=Provenance.PSEUDO, labeller="head"))),
    ("no text", labelled(but(text=None))),
    ("mpeg4", edited(recoded("mpeg4", g="5"))),
    ("B frames", edited(recoded("libx264", g="12", bf="3"))),
    ("one keyframe", edited(recoded("libx264", g="250", bf="0"))),
    ("only keyframes", edited(recoded("libx264", g="1"))),
    ("names as a dict", edited(info(lambda v: v[FEATURES][ACTION].update(names={"motors": ["a", "b", "c"]})))),
    ("no names", edited(info(lambda v: v[FEATURES][ACTION].update(names=None)))),
    ("channels first", edited(info(lambda v: _channels_first(v[FEATURES][FRONT])))),
    ("a further column of rows", edited(tables(ROWS, added("subtask", "reach")))),
    ("a further column of episodes", edited(tables(EPISODES, added("operator", 3)))),
    ("further fields", edited(info(lambda v: v.update(hours=1, note={"by": "us"})))),
    ("no stats", edited(lambda root: (root / "meta" / "stats.json").unlink())),
    ("actions as float64", edited(tables(ROWS, retyped(ACTION, "float64")))),
    ("actions as int64", edited(tables(ROWS, retyped(ACTION, "int64")))),
    ("times as float64", edited(tables(ROWS, retyped("timestamp", "float64")))),
    ("indices as int32", edited(tables(ROWS, retyped("frame_index", "int32")))),
    ("no index column", edited(tables(ROWS, without("index")))),
    ("no ends of videos", edited(tables(EPISODES, without("videos/observation.images.front/to_timestamp")))),
    ("pictures in the rows", edited(images, sizes=ONE)),
    ("one split", edited(info(lambda v: v.update(splits={"train": "0:2", "val": "2:3"})))),
    ("fps as a float", edited(info(lambda v: v.update(fps=10.0)))),
]


def _channels_first(feature: dict[str, Any]) -> None:
    height, width, channels = feature["shape"]
    feature.update(shape=[channels, height, width], names=["channels", "height", "width"])


def run_variant(number: int, folder: Path) -> Row:
    """Write, check and read variant `number`."""
    name, make = VARIANTS[number]
    row = Row(number, "valid", False, "none", name, [])
    root = folder / f"valid{number}"
    try:
        make(root)
        row.faults += [problem.message for problem in check(root) if problem.fatal]
        dataset = load_dataset(root)
        for i, length in enumerate(dataset.lengths().tolist()):
            row.faults += _episode(dataset, i, length)
    except Exception:
        row.faults.append(" | ".join(traceback.format_exc().strip().splitlines()[-3:]))
    row.outcome = "same" if not row.faults else "not loaded"
    return row


def _episode(dataset: Any, i: int, length: int) -> list[str]:
    episode = dataset.episode(i)
    wanted: Sequence[tuple[int, Any]] = ((0, episode.actions), (1, episode.proprio))
    faults = [
        f"episode {i}: row {k} is {told(kind, values[k])}"
        for kind, values in wanted
        if values is not None
        for k in range(len(values))
        if (kind == 1 or episode.labelled()[k]) and told(kind, values[k]) != (i, k)
    ]
    order = list(THREE) if len(dataset.cameras) == 3 else list(SIZES)
    for name, clips in dataset.read_clips(np.array([i]), np.arange(length)[None]).items():
        camera = order.index(name.removeprefix("observation.images."))
        for k, image in enumerate(clips[0].permute(0, 2, 3, 1).numpy()):
            if seen(image) != (camera, i, k):
                faults.append(f"episode {i}: camera {name}: frame {k} shows {seen(image)}, {bits_of(camera, i, k)}")
    return faults[:5]


__all__ = ["LENGTHS", "VARIANTS", "run_variant"]
