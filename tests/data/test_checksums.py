"""Checksums: every file that is missing, extra, of other size or content is named, by `verify` and by the reader."""

import hashlib
import json
import os

import numpy as np
import pytest
from lerobot_writer import CAMERAS

from jepa_actions.data.lerobot.checksums import CHECKSUMS, seal, verify
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.errors import DataError

ROWS = "data/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"


@pytest.fixture
def sealed(robot):
    (robot / "meta" / "stats.json").write_text("{}")
    (robot / "README.md").write_text("about")
    (robot / ".DS_Store").write_text("not a file of the data set")
    seal(robot)
    return robot


def flip(path, at=0.5, bit=0):
    """One bit, somewhere in a file."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)


def test_every_file_is_in_it(sealed):
    content = json.loads((sealed / CHECKSUMS).read_text())
    files = {str(p.relative_to(sealed)) for p in sealed.rglob("*") if p.is_file()} - {CHECKSUMS, ".DS_Store"}
    assert content["algorithm"] == "sha256"
    assert set(content["files"]) == files
    assert content["files"][ROWS] == {
        "sha256": hashlib.sha256((sealed / ROWS).read_bytes()).hexdigest(),
        "size": (sealed / ROWS).stat().st_size,
    }
    assert verify(sealed) == []
    assert seal(sealed) == content, "sealed again, the same"


def test_every_damage_is_named_at_once(sealed):
    flip(sealed / ROWS)
    (sealed / VIDEO).write_bytes((sealed / VIDEO).read_bytes()[:-1])
    (sealed / "README.md").unlink()
    (sealed / "videos" / "more.mp4").write_bytes(b"")
    found = {(problem.file, problem.kind) for problem in verify(sealed)}
    assert found == {(ROWS, "checksum"), (VIDEO, "checksum"), ("README.md", "missing"), ("videos/more.mp4", "extra")}
    assert all(problem.fatal and problem.file in problem.message for problem in verify(sealed))


FILES = ["meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet", ROWS]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
def test_a_flipped_bit_in_a_table_is_named_at_opening(sealed, name, at):
    flip(sealed / name, at)
    with pytest.raises(DataError, match=f"{name}: damaged, sha256 .* expected .* as in meta/checksums.json"):
        LeRobot(sealed)
    if name == "meta/stats.json":
        LeRobot(sealed, verify=False)


def test_a_flipped_bit_in_a_video_is_named_on_first_use(sealed):
    flip(sealed / VIDEO, 0.3)
    data = LeRobot(sealed)
    with pytest.raises(DataError, match=f"{VIDEO}: damaged, sha256"):
        data.read_clips(np.array([0]), np.array([[0]]))
    other = LeRobot(sealed, cameras=["wrist"]).read_clips(np.array([0]), np.array([[0]]))
    assert other[CAMERAS[1]].shape == (1, 1, 3, 32, 48)


def test_size_and_absence_of_any_file_are_seen_at_opening(sealed):
    (sealed / VIDEO).write_bytes((sealed / VIDEO).read_bytes() + b"\0")
    with pytest.raises(DataError, match=rf"{VIDEO}: \d+ bytes, expected \d+ as in"):
        LeRobot(sealed)
    (sealed / VIDEO).unlink()
    with pytest.raises(DataError, match=f"{VIDEO}: missing, expected"):
        LeRobot(sealed)


def test_a_file_that_was_not_sealed_is_not_used(sealed):
    content = json.loads((sealed / CHECKSUMS).read_text())
    del content["files"][VIDEO]
    (sealed / CHECKSUMS).write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"{VIDEO}: not in meta/checksums.json"):
        LeRobot(sealed).read_clips(np.array([0]), np.array([[0]]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "damaged, expected algorithm 'sha256' and files"),
        ('{"algorithm": "md5", "files": {}}', "damaged, expected algorithm"),
        ('{"algorithm": "sha256", "files": {"a": 1}}', "entry of 'a' is 1, expected sha256 and size"),
        ('{"algorithm": "sha256", "files": {"a": {"sha256": "00", "size": 1}}}', "entry of 'a'"),
        ('{"algorithm": "sha256", "files": {"../a": {}}}', "path '../a', expected one inside the data set"),
        ('{"algorithm": "sha256", "files": {"/etc/passwd": {}}}', "path '/etc/passwd', expected one inside"),
    ],
)
def test_damaged_checksums_are_named(sealed, text, says):
    (sealed / CHECKSUMS).write_text(text)
    for function in (LeRobot, verify):
        with pytest.raises(DataError, match=f"{CHECKSUMS}: {says}"):
            function(sealed)


def test_what_cannot_be_hashed_is_refused(robot, tmp_path):
    with pytest.raises(DataError, match="expected the checksums of the data set"):
        verify(robot)
    with pytest.raises(DataError, match="no folder meta in it"):
        seal(tmp_path / "nothing")
    os.mkfifo(robot / "meta" / "pipe")
    with pytest.raises(DataError, match="pipe: missing or not a plain file"):
        seal(robot)


def test_a_link_that_leads_back_does_not_hang(robot):
    (robot / "videos" / "loop").symlink_to(robot)
    assert len(seal(robot)["files"]) == 6
