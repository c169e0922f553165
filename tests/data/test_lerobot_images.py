"""Cameras of dtype "image": PNG or JPEG bytes in the table of rows, beside cameras in video files."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_writer import CAMERAS, edit_column
from PIL import Image

from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.errors import DataError

ROWS = "data/chunk-000/file-000.parquet"
CAMERA = "observation.images.top"


def encoded(image, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def pictures():
    """One per row of the tiny robot."""
    return np.random.default_rng(0).integers(0, 256, (21, 8, 10, 3), dtype=np.uint8)


@pytest.fixture
def filmed(robot, pictures):
    """The tiny robot with a third camera, in row groups of 5."""
    images = pa.array([{"bytes": encoded(image), "path": None} for image in pictures])
    table = pq.read_table(robot / ROWS).append_column(CAMERA, images)
    pq.write_table(table, robot / ROWS, row_group_size=5)
    info = json.loads((robot / "meta" / "info.json").read_text())
    info["features"][CAMERA] = {"dtype": "image", "shape": [8, 10, 3], "names": ["height", "width", "channels"]}
    (robot / "meta" / "info.json").write_text(json.dumps(info))
    return robot


def test_images_are_frames_of_a_camera_like_others(filmed, pictures):
    data = LeRobot(filmed)
    assert data.cameras == (*CAMERAS, CAMERA)
    assert data.image_size(CAMERA) == (8, 10)
    clips = data.read_clips(np.array([1, 0]), np.array([[8, 0, 3], [11, 4, 5]]))
    assert list(clips) == [*CAMERAS, CAMERA]
    expected = torch.from_numpy(pictures[[[20, 12, 15], [11, 4, 5]]]).permute(0, 1, 4, 2, 3)
    assert torch.equal(clips[CAMERA], expected)
    assert data.video_file(1, CAMERA) == ROWS
    alone = LeRobot(filmed, cameras=["top"], image_size=(4, 5), action=None, state=None)
    assert alone.read_clips(np.array([0]), np.array([[2]]))[CAMERA].shape == (1, 1, 3, 4, 5)
    assert alone.without_labels().read_clips(np.array([0]), np.array([[2]]))[CAMERA].shape == (1, 1, 3, 4, 5)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"no picture", "cannot be decoded as an image"),
        (None, "holds no image"),
        (encoded(np.zeros((9, 10, 3), np.uint8)), r"image of \(9, 10\), expected \(8, 10\)"),
        (
            encoded(np.random.default_rng(1).integers(0, 256, (8, 10, 3), np.uint8))[:150],
            "cannot be decoded as an image",
        ),
    ],
)
def test_an_image_that_is_none_names_its_row(filmed, pictures, value, says):
    images = [{"bytes": encoded(image), "path": "there.png"} for image in pictures]
    images[14]["bytes"] = value
    edit_column(filmed / ROWS, CAMERA, pa.array(images))
    data = LeRobot(filmed, cameras=["top"])
    data.read_clips(np.array([1]), np.array([[1]]))
    with pytest.raises(DataError, match=f"{ROWS}: 'observation.images.top' in row 14.* {says}|row 14 {says}"):
        data.read_clips(np.array([1]), np.array([[2]]))


def test_a_column_that_holds_no_images_is_refused(filmed):
    edit_column(filmed / ROWS, CAMERA, pa.array(["a.png"] * 21))
    with pytest.raises(DataError, match=f"column '{CAMERA}' has type string, expected images as bytes"):
        LeRobot(filmed).read_clips(np.array([0]), np.array([[0]]))
    edit_column(filmed / ROWS, CAMERA, None)
    with pytest.raises(DataError, match=f"no column '{CAMERA}'"):
        LeRobot(filmed).read_clips(np.array([0]), np.array([[0]]))
