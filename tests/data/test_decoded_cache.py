"""A decoded cache reads as its source does, frame for frame and label for label, or says which file is wrong."""

import json
import pickle
import threading
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from jepa_actions.data import load_dataset
from jepa_actions.data.decoded import writer as decoded_cache_writer
from jepa_actions.data.decoded.cache import DecodedCache
from jepa_actions.data.decoded.writer import LABELS, MARKER, write_decoded_cache
from jepa_actions.data.types import Episode, Provenance, VideoDataset
from jepa_actions.data.video.clip_memory import new_clips
from jepa_actions.data.view import DatasetView
from jepa_actions.errors import DataError, ShapeError


class Labelled(DatasetView):
    """The frames of a data set with labels of every kind, each missing in some episode."""

    action_names, proprio_names = ("dx", "dy"), ("x", "y", "z")

    def __init__(self, dataset):
        super().__init__(dataset)
        rng = np.random.default_rng(0)
        first, second = (int(length) for length in dataset.lengths())
        mixed = np.where(np.arange(first - 1) < 3, int(Provenance.TRUE), int(Provenance.PSEUDO))
        self.episodes = [
            Episode(
                index=0,
                length=first,
                actions=rng.normal(size=(first - 1, 2)).astype(np.float32),
                rewards=rng.normal(size=first - 1).astype(np.float32),
                text="pick up the ü",
                provenance=mixed,
                labeller="inverse/1",
                times=np.arange(first) / 10 + rng.uniform(0, 0.01, first),
                seed=2**40,
                dataset="elsewhere",
            ),
            Episode(
                index=7,
                length=second,
                actions=rng.normal(size=(second - 1, 2)).astype(np.float32),
                proprio=rng.normal(size=(second, 3)).astype(np.float32),
                action_mask=rng.random(second - 1) > 0.5,
                provenance=Provenance.LATENT,
                labeller="latent/2",
                simulator_state=rng.normal(size=(second, 5)),
            ),
        ]

    def episode(self, i):
        return self.episodes[i]

    def over(self, dataset):
        return dataset

    def facts(self):
        return "labelled"


def assert_same(found, expected):
    for field in fields(Episode):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert type(a) is type(b), field.name
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


@pytest.fixture(scope="module")
def source(tiny_robot):
    return Labelled(load_dataset(tiny_robot, image_size=(24, 32)))


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """Read only."""
    return write_decoded_cache(source, tmp_path_factory.mktemp("cache") / "decoded")


@pytest.fixture
def cache(source, tmp_path):
    """A cache to damage."""
    return write_decoded_cache(source, tmp_path / "decoded")


def requests(lengths, seed):
    rng = np.random.default_rng(seed)
    episodes = rng.integers(0, len(lengths), 5)
    consecutive = rng.integers(0, lengths[episodes] - 3)[:, None] + np.arange(4)
    scattered = rng.integers(0, lengths[episodes][:, None], (5, 6))
    return [(episodes, consecutive), (episodes, scattered)]


def test_frames_are_those_of_the_source(source, written):
    cache = DecodedCache(written)
    assert isinstance(cache, VideoDataset)
    assert (cache.name, cache.cameras, cache.fps) == (source.name, source.cameras, source.fps)
    assert cache.lengths().tolist() == source.lengths().tolist()
    for seed in range(3):
        for episodes, frames in requests(source.lengths(), seed):
            expected, found = source.read_clips(episodes, frames), cache.read_clips(episodes, frames)
            assert list(found) == list(expected)
            assert all(torch.equal(found[camera], expected[camera]) for camera in expected)
    nothing = cache.read_clips(np.zeros(0, np.int64), np.zeros((0, 4), np.int64))
    assert all(images.shape == (0, 4, 3, 24, 32) for images in nothing.values())
    for camera, file in json.loads((written / MARKER).read_text())["cameras"].items():
        mapped = np.load(written / file["file"], mmap_mode="r", allow_pickle=False)
        everything = source.read_clips(np.array([1]), np.arange(source.lengths()[1])[None])[camera][0]
        assert (mapped[source.lengths()[0] :] == everything.permute(0, 2, 3, 1).numpy()).all()


def test_labels_are_those_of_the_source(source, written):
    cache = DecodedCache(written)
    assert (cache.action_names, cache.proprio_names) == (("dx", "dy"), ("x", "y", "z"))
    for i in range(2):
        assert_same(cache.episode(i), source.episode(i))
    with pytest.raises(DataError, match="episode 2 asked for, expected 0 to 1"):
        cache.episode(2)


def test_what_is_hidden_is_not_there(source, written):
    bare = DecodedCache(written).without_labels()
    assert (bare.action_names, bare.proprio_names) == (None, None)
    for i in range(2):
        true = source.episode(i)
        hidden = {"actions": None, "proprio": None, "rewards": None, "action_mask": None, "simulator_state": None}
        hidden |= {"seed": None, "labeller": None, "provenance": Provenance.TRUE}
        assert_same(bare.episode(i), replace(true, **hidden))
    held = pickle.dumps(bare)
    assert source.episode(0).actions[0].tobytes() not in held
    assert source.episode(0).actions[0].tobytes() in pickle.dumps(DecodedCache(written))
    assert bare.fingerprint() != DecodedCache(written).fingerprint()
    assert len(DecodedCache(written).with_labels(1, 0).shown) == 1


def test_the_fingerprint_follows_the_source(source, written, tiny_robot):
    cache = DecodedCache(written)
    assert cache.is_current(source)
    assert not cache.is_current(Labelled(load_dataset(tiny_robot, image_size=(24, 30))))
    assert cache.fingerprint() == DecodedCache(written).fingerprint()
    assert cache.fingerprint() != source.fingerprint()
    assert cache.fingerprint() != DecodedCache(written, cameras=("wrist",)).fingerprint()


def test_clips_are_written_to_tensors_that_are_given(source, written):
    cache = DecodedCache(written)
    episodes, frames = requests(source.lengths(), 5)[0]
    out = {camera: new_clips(frames.shape, (24, 32)) for camera in cache.cameras}
    found = cache.read_clips(episodes, frames, out=out)
    assert all(found[camera] is out[camera] for camera in cache.cameras)
    assert all(torch.equal(out[camera], images) for camera, images in cache.read_clips(episodes, frames).items())
    with pytest.raises(ShapeError, match=r"out has no 'observation.images.wrist'"):
        cache.read_clips(episodes, frames, out={cache.cameras[0]: out[cache.cameras[0]]})
    with pytest.raises(ShapeError, match=r"expected torch.uint8 \(5, 4, 3, 24, 32\)"):
        cache.read_clips(episodes, frames, out={camera: new_clips((5, 3), (24, 32)) for camera in cache.cameras})


def test_threads_and_pickled_copies_read_the_same(source, written):
    cache = DecodedCache(written)
    copy = pickle.loads(pickle.dumps(cache))
    wrong = []

    def work(seed):
        for episodes, frames in requests(source.lengths(), seed):
            for reader in (cache, copy):
                found, expected = reader.read_clips(episodes, frames), source.read_clips(episodes, frames)
                wrong.extend(c for c in expected if not torch.equal(found[c], expected[c]))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_damaged_cache_is_refused(cache):
    frames = cache / "frames-1.npy"
    content = frames.read_bytes()
    DecodedCache(cache).verify()
    for damaged, message in (
        (content[:-1], rf"frames-1.npy: {len(content) - 1} bytes, expected {len(content)}; is it truncated"),
        (content + b"x", r"frames-1.npy: \d+ bytes, expected"),
        (b"x" + content[1:], r"frames-1.npy: does not begin as a .npy file of uint8 \(21, 24, 32, 3\)"),
    ):
        frames.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            DecodedCache(cache)
    frames.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"frames-1.npy: damaged, its sha256 is"):
        DecodedCache(cache).verify()
    frames.write_bytes(content)
    opened = DecodedCache(cache)
    frames.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"frames-1.npy: ends at byte \d+, expected more"):
        opened.read_clips(np.array([1]), np.arange(9)[None])
    frames.unlink()
    with pytest.raises(DataError, match=r"frames-1.npy: cannot be opened"):
        DecodedCache(cache)


def test_damaged_labels_and_facts_are_refused(cache):
    labels, marker = (cache / LABELS).read_bytes(), (cache / MARKER).read_text()
    for damaged in (labels[:-4], labels[:20], b""):
        (cache / LABELS).write_bytes(damaged)
        with pytest.raises(DataError, match=r"labels.safetensors: cannot be read"):
            DecodedCache(cache)
    (cache / LABELS).write_bytes(labels)
    facts = json.loads(marker)
    for change in (
        {"version": 2},
        {"format": "something"},
        {"cameras": None},
        {"cameras": {"a": {"file": "frames-0.npy"}}},
        {"cameras": {"a": {"file": "frames-0.npy", "image_size": ["x", 3]}}},
        {"fps": "fast"},
        {"sha256": []},
        {"episodes": {}},
        {"episodes": {**facts["episodes"], "text": ["one"]}},
    ):
        (cache / MARKER).write_text(json.dumps({**facts, **change}))
        with pytest.raises(DataError, match=str(cache)):
            DecodedCache(cache)
    for text in (marker[:-30], "[]", "\0"):
        (cache / MARKER).write_text(text)
        with pytest.raises(DataError, match=MARKER):
            DecodedCache(cache)


def test_it_is_written_whole_or_not_at_all(source, written, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="decoded: exists already, expected a new folder"):
        write_decoded_cache(source, written)

    class Failing(Labelled):
        def read_clips(self, episodes, frames):
            if episodes[0] == 1:
                raise DataError("b.mp4: frame 3 is damaged")
            return super().read_clips(episodes, frames)

    with pytest.raises(DataError, match=r"b.mp4: frame 3"):
        write_decoded_cache(Failing(source.dataset), tmp_path / "other")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(decoded_cache_writer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"0.0 GB free, expected .* for 21 decoded frames"):
        write_decoded_cache(source, tmp_path / "other")


def test_the_number_of_workers_changes_nothing(source, written, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded_cache_writer, "CHUNK", 5)
    steps = []
    other = write_decoded_cache(source, tmp_path / "o", workers=4, progress=lambda done, all: steps.append((done, all)))
    for name in ("frames-0.npy", "frames-1.npy", LABELS, MARKER):
        assert (other / name).read_bytes() == (written / name).read_bytes()
    assert steps == [(5, 21), (10, 21), (12, 21), (17, 21), (21, 21)]
