"""Damaged data sets: a few of the five hundred of `eval/data_fuzz.py`, and that its judge sees what it should."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from lerobot_writer import edit_column, rows_column

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "eval"))  # where the script finds its modules

from fuzz.base import bits_of, picture, row_of, seen, told  # noqa: E402
from fuzz.cases import Reading, Row, make_case, prepare, run_case  # noqa: E402
from fuzz.damage import damage  # noqa: E402
from fuzz.valid import VARIANTS, run_variant  # noqa: E402


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return prepare(tmp_path_factory.mktemp("bases"), ["ours"])


@pytest.mark.parametrize("case", range(8))
def test_damaged_data_sets_are_named_or_refused_and_never_shifted(case: int, bases: dict[str, Path], tmp_path: Path):
    row, root = make_case(1, case, bases, tmp_path)
    assert run_case(row, root).faults == [], row


@pytest.mark.parametrize("name", ["v2.1", "one camera", "episodes of one frame", "mpeg4", "no actions", "no text"])
def test_valid_data_sets_load(name: str, tmp_path: Path):
    number = [variant for variant, _ in VARIANTS].index(name)
    assert run_variant(number, tmp_path).faults == []


def test_a_case_is_the_same_every_time(bases: dict[str, Path], tmp_path: Path):
    first = [make_case(0, k, bases, tmp_path / "a")[0] for k in range(6)]
    assert first == [make_case(0, k, bases, tmp_path / "b")[0] for k in range(6)]
    assert first != [make_case(9, k, bases, tmp_path / "c")[0] for k in range(6)]


def test_every_damage_changes_a_file_that_it_names(bases: dict[str, Path], tmp_path: Path):
    kinds = set()
    for k in range(40):
        root = Path(shutil.copytree(bases["plain"], tmp_path / str(k)))
        kind, changed, _ = damage(np.random.default_rng(k), root)
        kinds.add(kind)
        for name in changed:
            assert not (root / name).is_file() or (root / name).read_bytes() != (bases["plain"] / name).read_bytes()
    assert len(kinds) == 8


def test_pictures_and_rows_say_what_they_are():
    size = (64, 96)
    noise = np.random.default_rng(0).integers(-30, 31, (*size, 3))
    for place in ((0, 0, 0), (1, 5, 14), (2, 31, 199)):
        assert seen(np.clip(picture(*place, size) + noise, 0, 255)) == place
        assert told(0, row_of(0, place[1], 7)) == (place[1], 7)
    assert len({bits_of(c, e, f).tobytes() for c in range(3) for e in range(8) for f in range(60)}) == 3 * 8 * 60
    assert seen(noise.astype(np.uint8)) is None
    assert told(0, row_of(1, 2, 7)) is None


def test_the_judge_sees_rows_and_frames_that_are_out_of_place(bases: dict[str, Path], tmp_path: Path):
    moved = Path(shutil.copytree(bases["plain"], tmp_path / "moved"))
    path = sorted(moved.glob("data/*/*.parquet"))[0]
    actions = np.stack(parquet.read_table(path)["action"].to_pylist())
    edit_column(path, "action", rows_column(np.roll(actions, 1, axis=0)))  # no reader can see this
    found = Reading()
    found.read(moved, tolerant=False)
    assert any("is that of" in shift for shift in found.shifts)
    found = Reading()
    found._judge("front", [(0, 0, k) for k in range(4)], [(0, 0, 0), (0, 0, 2), (0, 0, 3), None])
    assert found.shifts
    found = Reading()
    found._judge("front", [(0, 0, k) for k in range(4)], [(0, 0, 0), (0, 0, 0), (0, 0, 2), None])
    assert (found.shifts, found.frozen, found.changed) == ([], 1, 2)


def test_the_judge_sees_a_damaged_file_that_is_not_named(bases: dict[str, Path], tmp_path: Path):
    row, root = make_case(1, 0, bases, tmp_path)
    wrong = Row(row.case, row.base, True, row.damage, row.said, [*row.files, "meta/info.json"])
    assert any(fault.startswith("unnamed") for fault in run_case(wrong, root).faults)


@pytest.mark.slow
def test_five_hundred_damaged_data_sets_and_all_valid_ones(tmp_path: Path):
    out = tmp_path / "fuzz.json"
    command = [sys.executable, str(REPOSITORY / "eval" / "data_fuzz.py"), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert len(json.loads(out.read_text())["rows"]) == 500 + len(VARIANTS)
