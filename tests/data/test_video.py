"""Any frame by number equals the frame of a decode from the start; damaged files are named."""

import re
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from lerobot_writer import write_video

from jepa_actions.data import VideoFile
from jepa_actions.errors import DataError

# GOP 2 and 30, B frames, MPEG-4, a container without time stamps (raw), and one that states no frame count (Matroska)
FORMATS = [
    ("a.mp4", "libx264", {"g": "2", "bf": "0"}),
    ("b.mp4", "libx264", {"g": "30", "bf": "3"}),
    ("c.mkv", "libx264", {"g": "12", "bf": "2", "x264-params": "open-gop=1"}),
    ("d.avi", "mpeg4", {"g": "12"}),
    ("e.webm", "libvpx-vp9", {"g": "20"}),
    ("f.h264", "libx264", {"g": "10"}),
    ("g.ts", "libx264", {"g": "15", "bf": "2"}),
]


def noise_levels(count):
    return np.random.default_rng(0).integers(20, 230, count).tolist()


def greys(images):
    """Mean of the darker right half, per frame."""
    return images[..., images.shape[-1] // 2 + 2 :].float().mean((-3, -2, -1))


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS, ids=[f[0] for f in FORMATS])
def test_random_access_equals_sequential_decoding(tmp_path, name, codec, options):
    path = tmp_path / name
    levels = noise_levels(75)
    write_video(path, levels, 25, (32, 48), codec, **options)
    video = VideoFile(path)
    assert len(video) == 75
    assert video.image_size == (32, 48)
    everything = video.read(np.arange(75))
    assert everything.shape == (75, 3, 32, 48)
    assert everything.dtype == torch.uint8
    assert (greys(everything) - torch.tensor(levels)).abs().max() < 6, "frame i shows what was written as frame i"
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 75
    rng = np.random.default_rng(1)
    for wanted in [[74], [0], [3, 3, 70, 1], *(rng.integers(0, 75, 5) for _ in range(12))]:
        assert torch.equal(video.read(np.array(wanted)), everything[torch.as_tensor(wanted)])


def test_frames_are_rgb_and_resized_the_same_each_time(tmp_path):
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        image = np.zeros((48, 64, 3), np.uint8)
        image[:, :32, 0] = 255
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")), *stream.encode()):
            container.mux(packet)
    small = VideoFile(path, image_size=(7, 11))
    first = small.read(np.array([0]))
    assert first.shape == (1, 3, 7, 11)
    assert torch.equal(first, VideoFile(path, image_size=(7, 11)).read(np.array([0])))
    assert (first[0, :, :, :4].float().mean((1, 2)) - torch.tensor([254.0, 0, 0])).abs().max() < 4
    assert first[0, :, :, 7:].max() < 4
    large = VideoFile(path, image_size=(96, 128)).read(np.array([0]))
    assert large[0, 0, :, :50].min() > 240
    assert large[0, :, :, 80:].max() < 12


def test_rates_are_noted(tmp_path):
    path = tmp_path / "even.mp4"
    write_video(path, [50] * 20, 30, (32, 32))
    assert VideoFile(path).fps == pytest.approx(30)
    assert not VideoFile(path).variable_rate
    uneven = tmp_path / "uneven.mp4"
    with av.open(str(uneven), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for k in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = k + (10 if k > 5 else 0), Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = VideoFile(uneven)
    assert video.variable_rate
    assert len(video) == 12
    assert np.allclose(np.diff(video.times), [1 / 30] * 5 + [11 / 30] + [1 / 30] * 5, atol=1e-3)
    assert torch.equal(video.read(np.array([7]))[0], video.read(np.arange(12))[7])


def test_what_is_not_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(DataError, match=r"text.mp4: cannot be decoded as video"):
        VideoFile(tmp_path / "text.mp4")
    with pytest.raises(DataError, match=r"absent.mp4: no such video file"):
        VideoFile(tmp_path / "absent.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"sound.mp4: holds no video stream"):
        VideoFile(tmp_path / "sound.mp4")


def test_a_truncated_video_is_refused(tmp_path):
    path = tmp_path / "whole.mp4"
    write_video(path, noise_levels(60), 10, (64, 64))
    content = path.read_bytes()
    (tmp_path / "headless.mp4").write_bytes(content[: len(content) * 2 // 3])  # the index is at the end of the file
    with pytest.raises(DataError, match=r"headless.mp4: cannot be decoded as video"):
        VideoFile(tmp_path / "headless.mp4")
    early_index = tmp_path / "early.mp4"
    with av.open(str(path)) as source, av.open(str(early_index), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = early_index.read_bytes()
    assert len(VideoFile(early_index)) == 60
    start, size = packets(early_index)[40]
    for end in (start + size, start + size // 2):  # between two frames and inside one
        early_index.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"early.mp4: truncated, found 41 of 60 frames"):
            VideoFile(early_index)


def test_damage_inside_a_video_is_refused(tmp_path):
    """Decoders conceal much damage and only mark the frame; some changed bits are valid video, which nobody can see."""
    path = tmp_path / "damaged.mp4"
    write_video(path, noise_levels(60), 10, (64, 64))
    content = path.read_bytes()
    refused = 0
    for start, size in packets(path):
        damaged = bytearray(content)
        damaged[start + size // 2 : start + size // 2 + 4] = b"\xff\x00\xaa\x55"
        path.write_bytes(bytes(damaged))
        try:
            VideoFile(path).read(np.arange(60))
        except DataError as error:
            refused += bool(re.search(r"damaged.mp4: (frame \d+ of 60|cannot be decoded)", str(error)))
        path.write_bytes(content)
    assert refused >= 45


def packets(path):
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_a_seek_that_lands_late_is_made_again(tmp_path):
    """Some containers seek by decoding time and land a keyframe late: then the frames still are the right ones."""
    path = tmp_path / "late.mp4"
    write_video(path, noise_levels(60), 10, (32, 32))
    video = VideoFile(path)
    everything = video.read(np.arange(60))
    index = video._index
    later = index.seek_to[[0, 3, 4, 5, 5, 5]]
    video._index = replace(index, seek_to=later)
    assert torch.equal(video.read(np.array([27, 45])), everything[[27, 45]])


def test_requests_outside_are_refused(tmp_path):
    path = tmp_path / "short.mp4"
    write_video(path, [40] * 5, 10, (32, 32))
    video = VideoFile(path)
    with pytest.raises(DataError, match=r"short.mp4: frame 5 asked for, expected 0 to 4"):
        video.read(np.array([0, 5]))
    with pytest.raises(DataError, match="frame -1 asked for"):
        video.read(np.array([-1]))
    with pytest.raises(DataError, match="image_size \\(0, 4\\)"):
        VideoFile(path, image_size=(0, 4))
