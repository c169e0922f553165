"""stable-worldmodel's HDF5: which row's action is whose, pictures by number, and files that contradict themselves."""

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

from jepa_actions.data import ActionCodec, ClipIndex, ClipLoader, Segment, VideoDataset  # noqa: E402
from jepa_actions.data.sources.hdf5 import Hdf5Dataset, hdf5_file, looks_like_hdf5  # noqa: E402
from jepa_actions.errors import DataError  # noqa: E402

LENGTHS = (7, 5, 9)
TOTAL = sum(LENGTHS)


def collected(**changes):
    """Columns as `World.collect` writes them: an episode's last action and its first reward are NaN."""
    rng = np.random.default_rng(0)
    stops = np.cumsum(LENGTHS)
    starts = stops - LENGTHS
    row = np.arange(TOTAL)
    action = np.stack([row, -row], axis=1).astype(np.float32)
    action[stops - 1] = np.nan
    reward = row.astype(np.float32)
    reward[starts] = np.nan
    columns = {
        "pixels": rng.integers(0, 256, (TOTAL, 24, 32, 3), dtype=np.uint8),
        "goal": rng.integers(0, 256, (TOTAL, 24, 32, 3), dtype=np.uint8),
        "action": action,
        "reward": reward,
        "proprio": rng.normal(size=(TOTAL, 3)),
        "state": rng.normal(size=(TOTAL, 4)).astype(np.float32),
        "step_idx": np.concatenate([np.arange(n) for n in LENGTHS]),
        "ep_len": np.array(LENGTHS, np.int32),
        "ep_offset": starts,
        "instruction": [f"reach {e}" for e, n in enumerate(LENGTHS) for _ in range(n)],
    }
    return {name: value for name, value in {**columns, **changes}.items() if value is not None}


def write(path, columns, **options):
    with h5py.File(path, "w", libver="latest") as file:
        for name, value in columns.items():
            kind = {"dtype": h5py.string_dtype()} if isinstance(value, list) else {}
            chunks = (1, *value.shape[1:]) if isinstance(value, np.ndarray) and value.ndim else None
            file.create_dataset(name, data=value, chunks=chunks, **kind, **(options if chunks else {}))
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "reach.h5", collected())


def test_rows_become_episodes(path):
    data, columns = Hdf5Dataset(path), collected()
    assert isinstance(data, VideoDataset)
    assert (data.name, data.cameras, data.lengths().tolist(), data.fps) == ("reach", ("pixels",), list(LENGTHS), 1.0)
    assert data.image_size("pixels") == (24, 32)
    assert (data.action_names, data.proprio_names[-1]) == (("action_0", "action_1"), "proprio_2")
    episode = data.episode(1)
    assert episode.actions[:, 0].tolist() == [7, 8, 9, 10]  # the action taken from rows 7 to 10; row 11 has none
    assert episode.rewards.tolist() == [8, 9, 10, 11]  # what those actions earned is written one row later
    np.testing.assert_array_equal(episode.proprio, columns["proprio"][7:12].astype(np.float32))
    np.testing.assert_array_equal(episode.simulator_state, columns["state"][7:12].astype(np.float64))
    assert episode.text == "reach 1"
    clips = data.read_clips(np.array([2, 0, 2]), np.array([[8, 0, 3], [6, 5, 6], [0, 1, 2]]))["pixels"]
    rows = np.array([[20, 12, 15], [6, 5, 6], [12, 13, 14]])
    np.testing.assert_array_equal(clips.numpy(), columns["pixels"][rows].transpose(0, 1, 4, 2, 3))


def test_where_the_missing_action_is_says_whose_actions_are(tmp_path):
    """Older files hold the action that led to a row: then the first one is missing."""
    columns = collected()
    actions = np.roll(columns["action"], 1, axis=0)
    entered = Hdf5Dataset(write(tmp_path / "entered.h5", collected(action=actions)))
    left = Hdf5Dataset(write(tmp_path / "left.h5", columns))
    plain = Hdf5Dataset(
        write(tmp_path / "plain.h5", collected(action=np.float32(np.arange(TOTAL)), reward=np.arange(TOTAL)))
    )
    for i in range(3):
        np.testing.assert_array_equal(entered.episode(i).actions, left.episode(i).actions)
        np.testing.assert_array_equal(plain.episode(i).actions[:, 0], left.episode(i).actions[:, 0])
        np.testing.assert_array_equal(plain.episode(i).rewards, plain.episode(i).actions[:, 0])


def test_whole_number_actions_whose_missing_one_was_cast(tmp_path):
    actions = np.arange(TOTAL, dtype=np.int64)
    actions[np.cumsum(LENGTHS) - LENGTHS] = np.iinfo(np.int64).min
    data = Hdf5Dataset(write(tmp_path / "discrete.h5", collected(action=actions)))
    assert data.episode(0).actions[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_pictures_of_any_layout_are_cameras(tmp_path):
    columns = collected()
    grey = columns["pixels"][..., :1]
    first = columns["pixels"].transpose(0, 3, 1, 2)
    several = write(tmp_path / "several.h5", collected(**{"pixels": None, "pixels.top": first, "pixels.grey": grey}))
    data = Hdf5Dataset(several)
    assert data.cameras == ("pixels.grey", "pixels.top")
    clips = data.read_clips(np.array([0]), np.arange(3)[None])
    np.testing.assert_array_equal(clips["pixels.top"][0].numpy(), first[:3])
    np.testing.assert_array_equal(clips["pixels.grey"][0, :, 2].numpy(), grey[:3, ..., 0])
    assert Hdf5Dataset(several, cameras=["goal"]).cameras == ("goal",)
    with pytest.raises(DataError, match=r"no camera 'state', expected a uint8 column of pictures: goal, pixels.grey"):
        Hdf5Dataset(several, cameras=["state"])
    small = Hdf5Dataset(several, image_size=(6, 8)).read_clips(np.array([0]), np.arange(3)[None])["pixels.top"][0]
    wanted = first[:3].reshape(3, 3, 6, 4, 8, 4).mean((3, 5))
    assert small.shape == (3, 3, 6, 8)
    assert np.abs(small.numpy() - wanted).max() < 1.5  # the mean over each area


def test_threads_processes_and_pickles_read_the_same(path):
    data = Hdf5Dataset(path)
    wanted = data.read_clips(np.array([2]), np.arange(9)[None])["pixels"]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(data.read_clips, np.array([2]), np.arange(9)[None]) for _ in range(64)]
        assert all(torch.equal(one.result()["pixels"], wanted) for one in asked)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again.read_clips(np.array([2]), np.arange(9)[None])["pixels"], wanted)


def test_it_trains(path):
    data = Hdf5Dataset(path)
    segments = [Segment(i, 0, n) for i, n in enumerate(LENGTHS)]
    codec = ActionCodec.fit(data, segments, block=2)
    batch = ClipLoader(data, ClipIndex(segments, frames=2, block=2), codec, batch_size=4, seed=0).batch(0)
    assert batch.action_mask.all()
    assert torch.isfinite(batch.actions).all()
    bare = data.without_labels()
    episode = bare.episode(0)
    assert (episode.actions, episode.proprio, episode.simulator_state, bare.action_names) == (None, None, None, None)
    assert len({data.fingerprint(), bare.fingerprint(), Hdf5Dataset(path, image_size=(8, 8)).fingerprint()}) == 3


def test_compressed_with_blosc(tmp_path):
    plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    path = write(tmp_path / "packed.h5", collected(), **plugin.Blosc(cname="lz4"))
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'hdf5plugin' else find(n, *a)  # as if not installed\n"
        "from jepa_actions.data.sources.hdf5 import Hdf5Dataset\n"
        "try: Hdf5Dataset(sys.argv[1])\n"
        "except ValueError as error: print(error)\n"
        "importlib.util.find_spec = find\n"
        "print(Hdf5Dataset(sys.argv[1]).episode(0).text)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert "is compressed with blosc (HDF5 filter 32001), which needs the package hdf5plugin" in told
    assert told.splitlines()[1] == "reach 0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ep_len": None}, r"no column 'ep_len', found action, ep_offset, goal"),
        ({"ep_len": np.array([7, 5])}, r"ep_offset has 3 entries, expected 2 as ep_len"),
        ({"ep_len": np.array([7, 0, 9])}, r"episode 1 has ep_len 0"),
        ({"ep_len": np.array([7.0, 5, 9])}, r"ep_len is float64 \(3,\), expected whole numbers"),
        (
            {"ep_offset": np.array([0, 6, 12])},
            r"ep_offset of episode 1 is 6, expected at least 7, where episode 0 ends",
        ),
        ({"ep_offset": np.array([0, 7, 13])}, r"pixels has 21 rows, expected at least 22"),
        ({"action": np.zeros((TOTAL - 1, 2))}, r"action has 20 rows, expected at least 21"),
        ({"action": ["left"] * TOTAL}, r"action is object \(21,\), expected numbers"),
        ({"reward": np.zeros((TOTAL, 2))}, r"reward has shape \(21, 2\), expected one value per step"),
        ({"pixels": None, "goal": None}, r"cameras \[\], expected each column of pictures once; found action float32"),
        ({"pixels": np.zeros((TOTAL, 8, 8, 4), np.uint8), "goal": None}, r"expected each column of pictures once"),
    ],
)
def test_what_contradicts_itself_is_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        Hdf5Dataset(write(tmp_path / "bad.h5", collected(**changes)))


def test_found_when_an_episode_is_read(tmp_path):
    columns = collected()
    columns["action"][9, 1] = np.inf
    data = Hdf5Dataset(write(tmp_path / "inf.h5", columns))
    with pytest.raises(DataError, match=r"inf.h5: episode 1: action, row 2, dimension 1 \(action_1\): found inf"):
        data.episode(1)
    shifted = write(tmp_path / "shifted.h5", collected(ep_offset=np.array([0, 7, 12]), ep_len=np.array([6, 5, 9])))
    assert Hdf5Dataset(shifted).episode(0).length == 6
    shifted = write(tmp_path / "shifted.h5", collected(ep_offset=np.array([1, 8, 13]), ep_len=np.array([7, 5, 8])))
    with pytest.raises(DataError, match=r"step_idx of episode 0 \(rows 1 to 7\) does not rise by one"):
        Hdf5Dataset(shifted).episode(0)


def test_damaged_files(path, tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(DataError, match=r"text.h5: cannot be read as HDF5"):
        Hdf5Dataset(tmp_path / "text.h5")
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        cut = tmp_path / "cut.hdf5"
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=r"cut.hdf5"):
            Hdf5Dataset(cut)
    rng = np.random.default_rng(0)
    for _ in range(60):  # flipped bytes: read the same, or say so; never another exception
        data = bytearray(whole)
        for at in rng.integers(0, len(whole), 8):
            data[at] ^= 1 << int(rng.integers(8))
        cut.write_bytes(data)
        try:
            read = Hdf5Dataset(cut)
            for i in range(len(read)):
                read.episode(i)
            read.read_clips(np.array([0]), np.arange(3)[None])
        except DataError as error:
            assert "cut.hdf5" in str(error)  # noqa: PT017 - both outcomes are right


def test_it_is_recognised(path, tmp_path):
    assert looks_like_hdf5(path)
    (tmp_path / "folder").mkdir()
    assert not looks_like_hdf5(tmp_path / "folder")
    shutil.copy(path, tmp_path / "folder" / "one.hdf5")
    assert hdf5_file(tmp_path / "folder") == tmp_path / "folder" / "one.hdf5"
    assert len(Hdf5Dataset(tmp_path / "folder")) == 3
    shutil.copy(path, tmp_path / "folder" / "two.h5")
    with pytest.raises(DataError, match=r"folder: no HDF5 file"):
        Hdf5Dataset(tmp_path / "folder")
