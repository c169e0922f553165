"""Ways to damage a data set. Each takes random numbers and the folder and says which files it changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CHECKSUMS = "meta/checksums.json"
Damage = Callable[[np.random.Generator, Path], tuple[set[str], str]]


def files(root: Path, part: str = "") -> list[str]:
    """Relative paths of the data set's files, without the checksums; `part` is "video", "rows", "tables" or "json"."""
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    kinds = {
        "video": lambda name: name.endswith(".mp4"),
        "rows": lambda name: name.startswith("data/"),
        "tables": lambda name: name.startswith("meta/") and name.endswith(".parquet"),
        "json": lambda name: name.endswith((".json", ".jsonl")),
        "": lambda name: True,
    }
    return [name for name in found if name != CHECKSUMS and kinds[part](name)]


def pick(rng: np.random.Generator, items: list[Any]) -> Any:
    """One of them."""
    return items[int(rng.integers(len(items)))]


def _some_file(rng: np.random.Generator, root: Path) -> str:
    """A file of any kind; each kind as often as another."""
    return str(pick(rng, files(root, pick(rng, [p for p in ("video", "rows", "tables", "json") if files(root, p)]))))


def flip_bits(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """One to eight bits of one file."""
    name = _some_file(rng, root)
    data = bytearray((root / name).read_bytes())
    count = int(rng.integers(1, 9))
    for place in rng.choice(8 * len(data), count, replace=False).tolist():
        data[place // 8] ^= 1 << (place % 8)
    (root / name).write_bytes(data)
    return {name}, f"{count} bits of {name}"


def scramble(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """A stretch of one file replaced by noise, zeros or a repetition of what is before it."""
    name = _some_file(rng, root)
    data = (root / name).read_bytes()
    start = int(rng.integers(len(data)))
    size = int(rng.integers(1, max(2, min(len(data) - start, len(data) // 4))))
    filler = [rng.bytes(size), bytes(size), data[max(start - size, 0) : start].ljust(size, b"\0")][int(rng.integers(3))]
    changed = data[:start] + filler + data[start + size :]
    if changed == data:
        changed = data[:start] + bytes([data[start] ^ 255]) + data[start + 1 :]
    (root / name).write_bytes(changed)
    return {name}, f"{size} bytes of {name} from {start}"


def truncate(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """One file cut anywhere, sometimes at 0."""
    name = _some_file(rng, root)
    data = (root / name).read_bytes()
    size = 0 if rng.random() < 0.1 else int(rng.integers(len(data)))
    (root / name).write_bytes(data[:size])
    return {name}, f"{name} cut from {len(data)} to {size} bytes"


def remove(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """One file gone, or a folder in its place."""
    name = _some_file(rng, root)
    (root / name).unlink()
    if rng.random() < 0.3:
        (root / name).mkdir()
        return {name}, f"{name} is a folder"
    return {name}, f"{name} removed"


def swap(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """Two files of one kind exchanged: between cameras, chunks, episodes."""
    names = files(root, pick(rng, [p for p in ("video", "video", "rows", "tables") if len(files(root, p)) > 1]))
    a, b = (names[int(k)] for k in rng.choice(len(names), 2, replace=False))
    one, two = (root / a).read_bytes(), (root / b).read_bytes()
    (root / a).write_bytes(two)
    (root / b).write_bytes(one)
    return ({a, b} if one != two else set()), f"{a} and {b} exchanged"


def copy_over(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """One file replaced by a copy of another of its kind."""
    names = files(root, pick(rng, [p for p in ("video", "rows", "tables") if len(files(root, p)) > 1]))
    a, b = (names[int(k)] for k in rng.choice(len(names), 2, replace=False))
    changed = (root / a).read_bytes() != (root / b).read_bytes()
    shutil.copyfile(root / a, root / b)
    return ({b} if changed else set()), f"{b} is a copy of {a}"


def edit_json(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """One field, at any depth, of `info.json`, or of a line of a table in JSON lines."""
    names = [name for name in files(root, "json") if "stats" not in name or rng.random() < 0.05]
    name = str(pick(rng, ["meta/info.json"] * 3 + names))
    lines = (root / name).read_text(encoding="utf-8").splitlines() if name.endswith(".jsonl") else []
    which = int(rng.integers(len(lines))) if lines else 0
    value = json.loads(lines[which]) if lines else json.loads((root / name).read_text(encoding="utf-8"))
    before = json.dumps(value)
    said = _edit(rng, value, "")
    if json.dumps(value) == before:
        value["fps" if not lines else "length"] = -7
        said = "a number below 0"
    text = json.dumps(value, indent=None if lines else 4)
    if lines:
        lines[which] = text
        text = "\n".join(lines) + "\n"
    (root / name).write_text(text, encoding="utf-8")
    return {name}, f"{name}: {said}"


WRONG: list[Any] = [
    *(None, "", "x", [], {}, [1], {"a": 1}, True, False),
    *(0, 1, -1, 2, 3, 5, 20, 1 << 31, 1 << 63, 10**400, -(10**9), 0.5, 9.99, 1e300, 1e-300),
    *(float("nan"), float("inf"), -float("inf")),
    *("../../../etc/passwd", "/etc/passwd", "..\\..\\x", "data/../../x", "\0", "a" * 5000, "\ud7ff"),
    *("{chunk_index}", "{0.__class__}", "{file_index:0999999999d}", "{episode_index!r}", "%s", "v9.9", "video", "int8"),
    "videos/{video_key}/../{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    "videos/observation.images.front/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
]


def _edit(rng: np.random.Generator, value: Any, place: str) -> str:
    """Change one thing inside a JSON value, in place."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = pick(rng, keys)
    inner = value[key]
    if isinstance(inner, (dict, list)) and inner and rng.random() < 0.75:
        return _edit(rng, inner, f"{place}.{key}")
    if isinstance(value, dict) and rng.random() < 0.15:
        del value[key]
        return f"{place}.{key} removed"
    if isinstance(inner, (int, float)) and not isinstance(inner, bool) and rng.random() < 0.5:
        value[key] = pick(rng, [inner + 1, inner - 1, -inner, inner * 2, inner * 1000, inner + 0.1, str(inner)])
    else:
        value[key] = pick(rng, WRONG)
    return f"{place}.{key} is {value[key]!r:.60}"


def edit_table(rng: np.random.Generator, root: Path) -> tuple[set[str], str]:
    """One column of a parquet table: of episodes, of tasks, or those columns of the rows that place them."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    tables = files(root, "tables")
    name = str(pick(rng, tables * 2 + files(root, "rows")))
    table = parquet.read_table(root / name)
    columns = [c for c in table.column_names if not c.startswith(("stats/", "meta/"))]
    if name.startswith("data/"):  # a changed action is another action; a changed place is damage
        columns = ["timestamp", "frame_index", "episode_index", "index", "task_index"]
    column = str(pick(rng, columns))
    k = table.column_names.index(column)
    changed, said = _column(rng, table[column].to_pylist())
    if said == "rows in another order":
        order = rng.permutation(len(table))
        order = np.roll(np.arange(len(table)), 1) if (order == np.arange(len(table))).all() else order
        table = table.take(pa.array(order))
    elif said == "rows twice":
        table = pa.concat_tables([table, table.slice(0, max(1, len(table) // 2))])
    elif said == "rows missing":
        table = table.slice(0, len(table) - 1)
    elif changed is None:
        table = table.remove_column(k)
    else:
        try:
            array = pa.array(changed)
        except (pa.ArrowException, OverflowError):
            array = pa.array([str(value) for value in changed])
        table = table.set_column(k, column, array)
    parquet.write_table(table, root / name)
    return {name}, f"{name}, {column}: {said}"


def _column(rng: np.random.Generator, values: list[Any]) -> tuple[list[Any] | None, str]:
    kind = pick(rng, ["one", "one", "one", "all", "type", "missing", "order", "twice", "fewer", "shift"])
    fixed = {"order": "rows in another order", "twice": "rows twice", "fewer": "rows missing"}
    if kind in fixed:
        return values, fixed[kind]
    if kind == "missing":
        return None, "column removed"
    number = bool(values) and isinstance(values[0], (int, float)) and not isinstance(values[0], bool)
    if kind == "type":
        return [str(value) for value in values] if number else list(range(len(values))), "another type"
    if kind == "shift" and number:
        step = pick(rng, [1, -1, 2, 0.1, -0.1, 100])
        return [value + step for value in values], f"{step} added"
    wrong: list[Any] = (
        [None, -1, 0, 1, 2, 1 << 40, 2.5, float("nan"), float("inf"), -0.3, 1e9]
        if number
        else [None, [], "x", "../../x"]
    )
    value = pick(rng, wrong)
    if kind == "all":
        return [value] * len(values), f"{value!r} everywhere"
    k = int(rng.integers(len(values)))
    return [*values[:k], value, *values[k + 1 :]], f"{value!r} in row {k}, not {values[k]!r:.40}"


DAMAGES: list[tuple[str, int, Damage]] = [
    ("bit flips", 26, flip_bits),
    ("scrambled", 10, scramble),
    ("truncated", 16, truncate),
    ("removed", 5, remove),
    ("swapped", 13, swap),
    ("copied over", 5, copy_over),
    ("edited json", 15, edit_json),
    ("edited table", 10, edit_table),
]


def damage(rng: np.random.Generator, root: Path) -> tuple[str, set[str], str]:
    """Damage the data set in one way, and say its name, the files that changed and what was done."""
    weights = np.array([weight for _, weight, _ in DAMAGES], dtype=np.float64)
    before = _content(root)
    while True:  # two files that were the same change nothing when exchanged
        name, _, function = DAMAGES[int(rng.choice(len(DAMAGES), p=weights / weights.sum()))]
        _, said = function(rng, root)
        after = _content(root)
        changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
        if changed:
            return name, changed, said


def _content(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in files(root)}
