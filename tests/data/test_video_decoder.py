"""Decoders that stay open: what they decode, what they must never share, and that none of it changes a frame."""

import multiprocessing
import pickle
import threading

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation
from lerobot_writer import write_video

from jepa_actions.data.video import decoder as video_decoder
from jepa_actions.data.video import index as video_index
from jepa_actions.data.video.clip_memory import new_clips
from jepa_actions.data.video.decoder import OPEN_AT_MOST, Decoder
from jepa_actions.data.video.file import VideoFile, gather_cameras, gather_clips
from jepa_actions.data.video.parallel import side_by_side
from jepa_actions.errors import DataError, ShapeError

LEVELS = np.random.default_rng(0).integers(20, 230, 60).tolist()


@pytest.fixture(scope="module")
def short_gop(tmp_path_factory):
    """Key frames every two, and an encoder that holds frames back, as lerobot writes them."""
    path = tmp_path_factory.mktemp("video") / "short.mp4"
    write_video(path, LEVELS, 10, (32, 48), "libx264", g="2", bf="2", sc_threshold="0")
    return path


@pytest.fixture(scope="module")
def long_gop(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    write_video(path, LEVELS, 10, (32, 48), "libx264", g="60", bf="2", sc_threshold="0")
    return path


class Counted:
    """A codec that counts the packets it decodes."""

    def __init__(self, codec):
        self.codec, self.packets = codec, 0

    def decode(self, packet):
        self.packets += packet is not None
        return self.codec.decode(packet)

    def flush_buffers(self):
        self.codec.flush_buffers()


def counting(path):
    decoder = Decoder(path, video_index.scan(path))
    decoder._codec = Counted(decoder._codec)
    return decoder


def test_no_packet_is_decoded_that_the_frames_do_not_need(short_gop, long_gop):
    decoder = counting(short_gop)
    for wanted, needed in ((range(20, 36), 16), ([2, 10, 40], 3), ([43], 2), (range(44, 48), 4), ([0], 1)):
        before = decoder._codec.packets
        assert [frame.pts for frame in decoder.frames(list(wanted))] == decoder.index.pts[list(wanted)].tolist()
        assert decoder._codec.packets - before == needed
    decoder = counting(long_gop)
    for start in range(0, 60, 12):  # reads in a row go on from where the last one ended
        for _ in decoder.frames(list(range(start, start + 12))):
            pass
    assert decoder._codec.packets == 60


def test_a_frame_that_clips_share_is_decoded_once(short_gop, monkeypatch):
    taken = []
    whole = Decoder.frames
    monkeypatch.setattr(Decoder, "frames", lambda self, wanted: taken.extend(wanted) or whole(self, wanted))
    video = VideoFile(short_gop)
    clips = np.array([np.arange(5, 21), np.arange(8, 24), np.arange(5, 21)])
    images = gather_clips([video] * 3, clips)
    assert sorted(taken) == list(range(5, 24))
    assert torch.equal(images[1], video.read(clips[1]))
    assert torch.equal(images[2], images[0])


def test_a_file_is_opened_once(short_gop, monkeypatch):
    video = VideoFile(short_gop)
    opened = []
    whole = video_decoder.open_video
    monkeypatch.setattr(video_decoder, "open_video", lambda path: opened.append(path) or whole(path))
    for start in (30, 2, 17, 40):
        gather_clips([video], np.arange(start, start + 8)[None], threads=1)
    assert len(opened) == 1


def test_open_decoders_are_bounded_and_go_with_their_files(short_gop):
    videos = [VideoFile(short_gop) for _ in range(OPEN_AT_MOST + 5)]
    for video in videos:
        video.read(np.array([3]))
    assert len(video_decoder._idle.decoders) == OPEN_AT_MOST
    kept = videos[-1]._owner
    videos[:-1], video = [], None
    VideoFile(short_gop).read(np.array([3]))
    assert kept in video_decoder._idle.decoders.values()
    assert len(video_decoder._idle.decoders) <= 2


def test_the_number_of_threads_changes_nothing(short_gop, long_gop):
    files = [VideoFile(path, image_size=(24, 24)) for path in (short_gop, long_gop)]
    frames = np.random.default_rng(1).integers(0, 60, (6, 9))
    clips = {"a": (files * 3, frames), "b": (files[:1] * 6, frames)}
    alone = gather_cameras(clips, threads=1)
    for threads in (2, 5, None):
        together = gather_cameras(clips, threads=threads)
        assert all(torch.equal(alone[camera], together[camera]) for camera in clips)


def test_threads_read_one_file_at_a_time(short_gop):
    video = VideoFile(short_gop)
    everything = video.read(np.arange(60))
    wrong = []

    def work(seed):
        for wanted in np.random.default_rng(seed).integers(0, 60, (12, 5)):
            if not torch.equal(video.read(wanted), everything[torch.from_numpy(wanted)]):
                wrong.append(wanted)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _read_in_a_child(video, frames, answers):
    images = video.read(frames).numpy()  # torch's own threads do not survive a fork
    answers.put((int(images.sum()), len(video_decoder._of_parents)))


def test_a_forked_process_opens_its_own(short_gop):
    video = VideoFile(short_gop)
    frames = np.arange(3, 50)
    mine = video.read(frames)
    here = list(video_decoder._idle.decoders)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    children = [context.Process(target=_read_in_a_child, args=(video, frames, answers)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
        child.kill()
    assert [child.exitcode for child in children] == [0, 0]
    assert [answers.get() for _ in children] == [(int(mine.numpy().sum()), 1)] * 2
    assert list(video_decoder._idle.decoders) == here
    assert torch.equal(video.read(frames), mine)


def test_a_pickled_file_opens_its_own(short_gop):
    video = VideoFile(short_gop, image_size=(16, 16))
    first = video.read(np.array([7, 3]))
    copy = pickle.loads(pickle.dumps(video))
    assert copy._owner != video._owner
    assert torch.equal(copy.read(np.array([7, 3])), first)


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "again.mp4"
    write_video(path, [40] * 20, 10, (32, 32))
    old = VideoFile(path)
    assert old.read(np.array([5]))[..., 20:].float().mean() < 60
    write_video(path, [180] * 20, 10, (32, 32))
    assert VideoFile(path).read(np.array([5]))[..., 20:].float().mean() > 150


def test_a_decoder_that_failed_is_not_used_again(tmp_path):
    path = tmp_path / "damaged.mp4"
    write_video(path, LEVELS, 10, (64, 64), "libx264", g="4")
    truth = VideoFile(path).read(np.arange(60))
    with av.open(str(path)) as container:
        start, size = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][20]
    content = bytearray(path.read_bytes())
    content[start + 5 : start + size] = b"\xff" * (size - 5)
    path.write_bytes(bytes(content))
    video = VideoFile(path)
    for _ in range(3):
        assert torch.equal(video.read(np.arange(4, 12)), truth[4:12])
        with pytest.raises(DataError, match=r"damaged.mp4: (frame \d+ of 60|cannot be decoded)"):
            video.read(np.arange(18, 24))
    assert torch.equal(video.read(np.arange(40, 60)), truth[40:])


def test_bytes_are_those_of_to_rgb_or_of_a_bit_exact_resize(short_gop):
    with av.open(str(short_gop)) as container:
        frames = list(container.decode(video=0))
    wanted = [0, 1, 33]
    own = VideoFile(short_gop).read(np.array(wanted)).permute(0, 2, 3, 1).numpy()
    assert all((own[k] == frames[i].to_rgb().to_ndarray()).all() for k, i in enumerate(wanted))
    exact = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    for size, method in (
        ((20, 30), Interpolation.AREA),
        ((64, 96), Interpolation.BILINEAR),
        ((32, 48), Interpolation.BILINEAR),
    ):
        resized = VideoFile(short_gop, image_size=size).read(np.array(wanted)).permute(0, 2, 3, 1).numpy()
        for k, i in enumerate(wanted):
            rgb = frames[i].reformat(*size[::-1], "rgb24", interpolation=method | exact, threads=1)
            assert (resized[k] == rgb.to_ndarray()).all()


def test_frames_are_written_to_tensors_that_are_given(short_gop):
    video = VideoFile(short_gop)
    frames = np.arange(12).reshape(2, 6)
    out = new_clips((2, 6), (32, 48))
    assert gather_clips([video, video], frames, out=out) is out
    assert torch.equal(out, gather_clips([video, video], frames))
    with pytest.raises(ShapeError, match=r"out is torch.uint8 \(2, 6, 3, 32, 48\), channels not last"):
        gather_clips([video, video], frames, out=torch.empty(2, 6, 3, 32, 48, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"expected torch.uint8 \(2, 6, 3, 32, 48\)"):
        gather_clips([video, video], frames, out=new_clips((2, 5), (32, 48)))


def test_no_clips_are_no_frames(short_gop):
    assert gather_clips([], np.zeros((0, 4), np.int64)).shape == (0, 4, 3, 1, 1)
    assert VideoFile(short_gop).read(np.zeros(0, np.int64)).shape == (0, 3, 32, 48)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libsvtav1"), ("v.mp4", "libvpx-vp9")])
def test_the_table_of_an_mp4_says_what_its_packets_say(tmp_path, name, codec, monkeypatch):
    path = tmp_path / name
    write_video(path, LEVELS, 25, (64, 64), codec, g="6")
    quick = video_index.scan(path)
    with av.open(str(path)) as container:
        read_packets = sum(1 for _ in container.demux(video=0))
    assert read_packets > 60
    monkeypatch.setattr(video_index, "_from_table", lambda *_: None)
    slow = video_index.scan(path)
    for field in ("pts", "position", "keyframes", "seek_to", "times"):
        assert (getattr(quick, field) == getattr(slow, field)).all()
    assert (quick.fps, quick.size, quick.stamped) == (slow.fps, slow.size, slow.stamped)
    monkeypatch.undo()
    monkeypatch.setattr(video_index, "_from_packets", lambda *_: pytest.fail("the table was not used"))
    assert len(VideoFile(path)) == 60


def test_a_job_that_fails_stops_the_others():
    done = []

    def fail():
        raise DataError("here")

    with pytest.raises(DataError, match="here"):
        side_by_side([fail, *(lambda: done.append(1) for _ in range(500))], threads=1)
    assert not done
    with pytest.raises(DataError, match="here"):
        side_by_side([lambda: done.append(1)] * 5 + [fail] * 2, threads=3)
    side_by_side([lambda: done.append(2)] * 7)
    assert done.count(2) == 7
