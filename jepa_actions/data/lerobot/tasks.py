"""The texts of a LeRobot data set's tasks, by number: `meta/tasks.parquet`, or `meta/tasks.jsonl` before v3.0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jepa_actions.data.lerobot.meta import VERSION, Info, listed, required
from jepa_actions.data.lerobot.tables import read_table, texts, whole_numbers
from jepa_actions.data.lerobot.v21 import read_lines, whole
from jepa_actions.errors import DataError

MOST_TASKS = 10_000_000


def tasks_file(info: Info) -> str:
    """Its path, relative to the data set."""
    return "meta/tasks.parquet" if info.version == VERSION else "meta/tasks.jsonl"


def read_tasks(root: Path, info: Info) -> dict[int, str | None]:
    """Task text by `task_index`; `None` where it is empty. Raises DataError for an index that comes twice."""
    path = required(root / tasks_file(info), "table of tasks", info.version)
    tasks: dict[int, str | None] = {}
    for index, text in _table(path) if info.version == VERSION else _lines(path):
        if index in tasks:
            raise DataError(f"{path}: task_index {index} a second time, expected each once")
        tasks[index] = text if text is not None and text.strip() else None
    return tasks


def _table(path: Path) -> Iterator[tuple[int, str | None]]:
    table = read_table(path, most=MOST_TASKS)
    names = [name for name in table.column_names if name != "task_index"]
    if table.column_names.count("task_index") != 1 or len(names) != 1:
        raise DataError(f"{path}: columns {listed(table.column_names)}, expected task_index and the text")
    return zip(whole_numbers(path, table, "task_index").tolist(), texts(path, table, names[0]), strict=True)


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    for k, row in read_lines(path):
        text = row.get("task")
        if text is not None and not isinstance(text, str):
            raise DataError(f"{path}: line {k}: task is {text!r:.40}, expected text")
        yield whole(path, k, row, "task_index"), text
