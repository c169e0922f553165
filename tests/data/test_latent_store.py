"""Stored latents: what was encoded comes back from the right place, or a line says which file is at fault."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch
from safetensors import safe_open

from jepa_actions.data import ActionCodec, ClipIndex, ClipLoader, Episode
from jepa_actions.data.concat import Concat
from jepa_actions.data.latents.encode import encode_dataset
from jepa_actions.data.latents.index import LatentKey
from jepa_actions.data.latents.store import LatentStore, open_latents
from jepa_actions.data.types import check_clips
from jepa_actions.data.view import Viewable
from jepa_actions.envs.two_room_world import TwoRoomWorld
from jepa_actions.errors import DataError
from jepa_actions.training import WorldDataset, whole_episodes

KEYS = {"encoder_key": "a" * 64, "transform_key": "b" * 64}


class Numbered(Viewable):
    """Frames whose pixels say which they are: red is the episode, green and blue the frame."""

    name, fps, action_names, proprio_names = "numbered", 10.0, None, None

    def __init__(self, lengths: tuple[int, ...], cameras: tuple[str, ...] = ("left", "right"), salt: int = 0) -> None:
        self.cameras, self.salt, self._lengths = cameras, salt, np.array(lengths)

    def image_size(self, camera: str) -> tuple[int, int]:
        return 2, 2

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self) -> np.ndarray:
        return self._lengths.copy()

    def episode(self, i: int) -> Episode:
        return Episode(i, int(self._lengths[i]))

    def read_clips(self, episodes: np.ndarray, frames: np.ndarray) -> dict[str, torch.Tensor]:
        check_clips(self._lengths, episodes, frames, self.name)
        out = {}
        for k, camera in enumerate(self.cameras):
            images = torch.full((*frames.shape, 3, 2, 2), k, dtype=torch.uint8)
            images[:, :, 0] = torch.from_numpy(episodes)[:, None, None, None]
            images[:, :, 1] = torch.from_numpy(frames % 256)[..., None, None]
            images[:, :, 2] = torch.from_numpy(frames // 256 + 10 * k)[..., None, None]
            out[camera] = images
        return out

    def without_labels(self) -> Numbered:
        return self

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([self.salt, self._lengths.tolist(), self.cameras]).encode()).hexdigest()


class Encoder:
    """Tokens of a frame: `n` times its first pixel, with the token's number; counts frames, and may fail."""

    def __init__(self, n: int = 3, fail_at: int | None = None) -> None:
        self.n, self.fail_at, self.frames, self.lock = n, fail_at, 0, Lock()

    def __call__(self, frames):
        first = next(iter(frames.values()))
        with self.lock:
            self.frames += first.shape[1]
        if self.fail_at is not None and self.frames > self.fail_at:
            raise KeyboardInterrupt
        out = {}
        for camera, images in frames.items():
            pixel = images[:, :, None, :, 0, 0].expand(-1, -1, self.n, -1)
            number = torch.arange(self.n)[:, None].expand(*images.shape[:2], -1, -1)
            out[camera] = torch.cat([pixel, number], -1).float()
        return out


def expected(episodes: np.ndarray, frames: np.ndarray, camera: int, n: int = 3) -> np.ndarray:
    parts = np.broadcast_arrays(episodes[:, None], frames % 256, frames // 256 + 10 * camera)
    first = np.broadcast_to(np.stack(parts, -1)[:, :, None], (*frames.shape, n, 3))
    return np.concatenate([first, np.broadcast_to(np.arange(n)[:, None], (*frames.shape, n, 1))], -1)


def some_clips(lengths, count=64, frames=5, seed=0):
    draw = np.random.default_rng(seed)
    episodes = draw.integers(0, len(lengths), count)
    return episodes, draw.integers(0, np.array(lengths)[episodes][:, None], (count, frames))


LENGTHS = (70, 1, 130, 64, 9)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A cache of two cameras in two shards; read only."""
    out = tmp_path_factory.mktemp("latents")
    return encode_dataset(Numbered(LENGTHS), Encoder(), out, **KEYS, shard_frames=100).folder


@pytest.fixture
def cache(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "root" / written.name))


class TestWhatIsRead:
    @pytest.mark.parametrize("n", [1, 3], ids=["pooled", "patches"])
    @pytest.mark.parametrize("shard_frames", [1, 100, 10_000])
    def test_is_the_frames_that_were_asked_for(self, n, shard_frames, tmp_path):
        data, encoder = Numbered(LENGTHS), Encoder(n)
        store = encode_dataset(data, encoder, tmp_path, **KEYS, shard_frames=shard_frames)
        assert len(list(store.folder.glob("shard-*"))) == {1: 5, 100: 2, 10_000: 1}[shard_frames]
        assert encoder.frames == sum(LENGTHS)
        episodes, frames = some_clips(LENGTHS)
        found = store.read(episodes, frames)
        assert list(found) == ["left", "right"]
        for k, camera in enumerate(found):
            assert found[camera].dtype == torch.float32
            np.testing.assert_array_equal(found[camera].numpy(), expected(episodes, frames, k, n))
        whole = store.latents_of(2)["right"]
        np.testing.assert_array_equal(whole, expected(np.array([2]), np.arange(130)[None], 1, n)[0])

    def test_is_float16_and_any_safetensors_reader_opens_it(self, written):
        with safe_open(written / "shard-0000000.safetensors", "pt") as file:
            assert sorted(file.keys()) == ["latents.left", "latents.right", "origin.left", "origin.right"]
            tokens, origin = (file.get_tensor(f"{name}.left") for name in ("latents", "origin"))
        assert tokens.dtype == torch.float16
        assert tokens.shape == (70 + 1 + 130, 3, 4)
        assert origin.dtype == torch.float32
        assert origin.shape == (2 + 1 + 3, 3, 4), "one for every 64 frames"
        assert (origin[4, 0] + tokens[71 + 64, 0]).tolist() == [2, 64, 0, 0]

    def test_rounding_is_that_of_the_difference_from_frames_nearby(self, tmp_path):
        """Tokens around 1 that change by a hundredth: float16 alone would be wrong by 2e-4."""
        drift = torch.randn(300, 4, 8, generator=torch.Generator().manual_seed(0)).mul(0.01)
        tokens = 1 + torch.arange(300)[:, None, None] / 100 + drift
        at = iter(tokens.split([64] * 4 + [44]))
        store = encode_dataset(
            Numbered((300,), cameras=("left",)), lambda _: {"left": next(at)[None]}, tmp_path, **KEYS
        )
        found = store.latents_of(0)["left"]
        near = (tokens[:64] - tokens[:1]).abs().max()
        assert (found[:64] - tokens[:64]).abs().max() <= near * 2**-11
        assert (found - tokens).abs().mean() < 0.3 * (tokens.half().float() - tokens).abs().mean()

    def test_may_be_several_threads_that_read_and_few_shards_that_are_mapped(self, written, monkeypatch):
        monkeypatch.setattr("jepa_actions.data.latents.store.MAPPED", 1)
        store = LatentStore(written)

        def read(seed):
            episodes, frames = some_clips(LENGTHS, seed=seed)
            return np.array_equal(store.read(episodes, frames)["right"], expected(episodes, frames, 1))

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(40)))
        assert len(store._maps) == 1

    def test_does_not_depend_on_hidden_labels(self):
        class Labelled(Numbered):
            action_names = ("a",)

            def episode(self, i):
                return Episode(i, int(self._lengths[i]), actions=np.zeros((int(self._lengths[i]) - 1, 1), np.float32))

        data, more = Labelled(LENGTHS), Numbered((5, 6))
        few, fewer = data.with_labels(2, seed=0), data.with_labels(1, seed=1)
        one = LatentKey.of(data, "a" * 64, "b" * 64)
        assert one == LatentKey.of(few, "a" * 64, "b" * 64)
        assert one != LatentKey.of(more, "a" * 64, "b" * 64)
        both = [LatentKey.of(Concat([part], video=[more]), "a" * 64, "b" * 64) for part in (few, fewer)]
        assert both[0] == both[1]
        assert both[0] != one

    def test_batches_of_a_loader(self, tmp_path):
        room = WorldDataset(TwoRoomWorld(), TwoRoomWorld().behaviour(4, steps=30, seed=0))
        codec = ActionCodec.fit(room, whole_episodes(room), block=5)
        index = ClipIndex(whole_episodes(room), frames=3, block=5)

        def encode(frames):
            return {"image": frames["image"].float().mean(2).unfold(3, 32, 32).mean(-1).transpose(2, 3)}

        store = encode_dataset(room, encode, tmp_path, **KEYS)
        plain = ClipLoader(room, index, codec, batch_size=4, seed=1).batch(2)
        batch = ClipLoader(room, index, codec, batch_size=4, seed=1, latents=store).batch(2)
        assert batch.frames == {}
        torch.testing.assert_close(batch.tokens["image"], encode(plain.frames)["image"], rtol=1e-3, atol=1e-3)
        assert torch.equal(batch.actions, plain.actions)

    def test_a_frame_or_an_episode_that_is_not_there(self, written):
        store = LatentStore(written)
        with pytest.raises(DataError, match="frame 70 of episode 0 asked for, expected 0 to 69"):
            store.read(np.array([0]), np.array([[70]]))
        for number in (5, -1):
            with pytest.raises(DataError, match=f"episode {number} is not among the 5 that are encoded"):
                store.latents_of(number)

    def test_takes_little_memory_to_write_and_to_read(self, tmp_path):
        """100 MB of latents, 50 times what a chunk has."""
        data, peak = Numbered((1600,) * 2, cameras=("left",)), 0

        def anonymous() -> int:
            status = Path("/proc/self/status").read_text()
            return int(status.partition("RssAnon:")[2].split()[0]) // 1024

        def look(done, total):
            nonlocal peak
            peak = max(peak, anonymous())

        def encode(frames):
            return {"left": torch.ones(1, frames["left"].shape[1], 128, 128)}

        before = anonymous()
        store = encode_dataset(data, encode, tmp_path, **KEYS, on_frames=look)
        assert sum(file.stat().st_size for file in store.folder.glob("shard-*")) > 100e6
        for seed in range(30):
            store.read(*some_clips(data.lengths(), count=8, frames=4, seed=seed))
            look(0, 0)
        assert peak - before < 60


class TestAnother:
    @pytest.mark.parametrize("part", ["encoder", "transform", "data"])
    def test_encoder_transform_or_data_set_never_reads_it(self, part, cache):
        keys = KEYS if part == "data" else KEYS | {f"{part}_key": "c" * 64}
        data = Numbered(LENGTHS, salt=int(part == "data"))
        assert open_latents(cache.parent, Numbered(LENGTHS), **KEYS).folder == cache
        with pytest.raises(DataError, match=rf"no latents of numbered .*found {cache.name} \(another {part}\); make"):
            open_latents(cache.parent, data, **keys)
        encoder = Encoder()
        store = encode_dataset(data, encoder, cache.parent, **keys)
        assert store.folder != cache
        assert encoder.frames == sum(LENGTHS)

    def test_folder_renamed_to_another_name(self, cache):
        keys = KEYS | {"encoder_key": "c" * 64}
        name = cache.name.replace("a" * 12, "c" * 12)
        cache.rename(cache.parent / name)
        for use in (open_latents, lambda root, data, **k: encode_dataset(data, Encoder(), root, **k)):
            with pytest.raises(DataError, match=f"{name}: holds latents of {cache.name} .*, expected {name}"):
                use(cache.parent, Numbered(LENGTHS), **keys)

    def test_folder_without_latents(self, tmp_path):
        with pytest.raises(DataError, match="found no latents at all; make them with jepa-actions data encode"):
            open_latents(tmp_path, Numbered(LENGTHS), **KEYS)

    def test_key_that_is_no_hash(self, tmp_path):
        with pytest.raises(DataError, match=r"encoder key: expected a hash in hexadecimal digits, found '\.\./x'"):
            encode_dataset(Numbered(LENGTHS), Encoder(), tmp_path, encoder_key="../x", transform_key="b" * 64)


class TestInterrupted:
    @pytest.mark.parametrize("at", [0, 64, 205, 270])
    def test_goes_on_where_it_stopped(self, at, written, tmp_path):
        data, encoder = Numbered(LENGTHS), Encoder(fail_at=at)
        with pytest.raises(KeyboardInterrupt):
            encode_dataset(data, encoder, tmp_path, **KEYS, shard_frames=100)
        folder = tmp_path / written.name
        kept = [file.name for file in sorted(folder.iterdir()) if file.name not in ("index.json", ".lock")]
        assert kept == (["shard-0000000.safetensors"] if at > 201 else [])
        encoder = Encoder()
        store = encode_dataset(data, encoder, tmp_path, **KEYS, shard_frames=100)
        assert encoder.frames == sum(LENGTHS) - (201 if kept else 0)
        for file in written.iterdir():
            assert (store.folder / file.name).read_bytes() == file.read_bytes(), file.name
        encode_dataset(data, encoder, tmp_path, **KEYS)
        assert encoder.frames <= sum(LENGTHS), "nothing is left to do"

    def test_a_killed_process_leaves_nothing_in_the_way(self, written, tmp_path):
        code = f"""
            import os, sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from test_latent_store import *
            class Killed(Encoder):
                def __call__(self, frames):
                    if self.frames > 205:
                        os._exit(9)
                    return super().__call__(frames)
            encode_dataset(Numbered(LENGTHS), Killed(), {str(tmp_path)!r}, **KEYS, shard_frames=100)
        """
        assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 9
        folder = tmp_path / written.name
        assert [file.name for file in folder.glob(".writing-*")]
        (folder / "shard-0000003.safetensors").write_bytes(b"moved to its place, but not yet in the index")
        store = encode_dataset(Numbered(LENGTHS), Encoder(), tmp_path, **KEYS, shard_frames=1000)
        assert sorted(file.name for file in folder.iterdir() if file.name != ".lock") == [
            "index.json",
            "shard-0000000.safetensors",
            "shard-0000003.safetensors",
        ]
        store.verify()
        episodes, frames = some_clips(LENGTHS)
        np.testing.assert_array_equal(store.read(episodes, frames)["left"], expected(episodes, frames, 0))

    def test_several_at_once_encode_once(self, tmp_path):
        data, encoder = Numbered(LENGTHS), Encoder()
        with ThreadPoolExecutor(3) as pool:
            stores = list(pool.map(lambda _: encode_dataset(data, encoder, tmp_path, **KEYS), range(3)))
        assert encoder.frames == sum(LENGTHS)
        for store in stores:
            store.verify()

    def test_a_full_disk_keeps_what_is_finished(self, tmp_path):
        data = Numbered((100,) * 4)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = 100 * 2 * 3 * 4 * 2
        encode_dataset(data, Encoder(), tmp_path, **KEYS, episodes=[0], shard_frames=100)
        try:  # a file that may not grow is what a full disk is: a write that fails
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size, before[1]))
            with pytest.raises(DataError, match=r"shard-0000001.* no space left .*finished shards stay") as e:
                encode_dataset(data, Encoder(), tmp_path, **KEYS, shard_frames=300)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "\n" not in str(e.value)
        encoder = Encoder()
        store = encode_dataset(data, encoder, tmp_path, **KEYS)
        assert encoder.frames == 300
        store.verify()

    def test_what_the_disk_cannot_hold_is_said_before_it_is_made(self, tmp_path):
        def encode(frames):
            return {c: torch.zeros(1).expand(1, images.shape[1], 1, 10**12) for c, images in frames.items()}

        with pytest.raises(DataError, match=r"latents of 274 frames of numbered take \d+\.\d\d GiB, found .* GiB free"):
            encode_dataset(Numbered(LENGTHS), encode, tmp_path, **KEYS)

    def test_more_episodes_may_come_later(self, tmp_path, monkeypatch):
        data, encoder = Numbered(LENGTHS), Encoder()
        store = encode_dataset(data, encoder, tmp_path, **KEYS, episodes=[3, 0])
        assert store.episodes().tolist() == [0, 3]
        with pytest.raises(DataError, match="episode 1 is not among the 2 that are encoded"):
            store.latents_of(1)
        monkeypatch.setattr("jepa_actions.data.latents.encode.CHUNK", 7)  # as another release may have it
        store = encode_dataset(data, encoder, tmp_path, **KEYS)
        assert encoder.frames == sum(LENGTHS)
        episodes, frames = some_clips(LENGTHS)
        np.testing.assert_array_equal(store.read(episodes, frames)["left"], expected(episodes, frames, 0))

    @pytest.mark.parametrize("episodes", [[], [5], [-1, 0]])
    def test_episodes_that_are_not_there(self, episodes, tmp_path):
        with pytest.raises(DataError, match="expected some of 5"):
            encode_dataset(Numbered(LENGTHS), Encoder(), tmp_path, **KEYS, episodes=episodes)

    def test_numbers_that_float16_does_not_hold(self, tmp_path):
        def encode(frames):
            return {camera: 7e4 * tokens for camera, tokens in Encoder()(frames).items()}

        with pytest.raises(DataError, match=r"numbered: episode 0, frames from 0 on, camera left: tokens reach 4.41e"):
            encode_dataset(Numbered(LENGTHS), encode, tmp_path, **KEYS)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


SHARD = "shard-0000003.safetensors"


class TestDamaged:
    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda f: f.write_bytes(f.read_bytes()[:-1]), r"\d+ bytes, expected \d+"),
            (lambda f: f.write_bytes(f.read_bytes() + b"x"), r"\d+ bytes, expected \d+"),
            (Path.unlink, "cannot be read"),
            (lambda f: (f.unlink(), f.mkdir()), r"\d+ bytes, expected \d+"),
        ],
        ids=["cut", "longer", "missing", "folder"],
    )
    def test_in_size_is_named_when_the_cache_is_opened(self, damage, why, cache):
        damage(cache / SHARD)
        with pytest.raises(DataError, match=rf"{SHARD}: {why}"):
            LatentStore(cache)

    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda f: flip(f, -1), "its contents do not have the sha256"),
            (lambda f: flip(f, 2), r"is not the shard that the index says: a header of \d+ bytes, expected"),
            (lambda f: flip(f, 30), "is not the shard that the index says: "),
            (lambda f: f.write_bytes(bytes(f.stat().st_size)), "is not the shard that the index says"),
        ],
        ids=["last bit", "header length", "header", "zeros"],
    )
    def test_inside_is_named_when_it_is_first_read(self, damage, why, cache):
        damage(cache / SHARD)
        store = LatentStore(cache)
        assert store.latents_of(2)["left"].shape == (130, 3, 4), "other shards are sound"
        with pytest.raises(DataError, match=rf"{SHARD}: {why}") as e:
            store.latents_of(3)
        assert "\n" not in str(e.value)
        with pytest.raises(DataError, match=SHARD):
            store.latents_of(3)
        with pytest.raises(DataError, match=SHARD):
            store.verify()

    def test_shards_of_another_cache_or_another_place(self, cache, tmp_path):
        other = encode_dataset(
            Numbered(LENGTHS, salt=1), Encoder(), tmp_path / "other", **KEYS, shard_frames=100
        ).folder
        shutil.copy(other / SHARD, cache / SHARD)
        with pytest.raises(DataError, match=rf"{SHARD}: is not the shard .*expected __metadata__"):
            LatentStore(cache).latents_of(3)
        even = encode_dataset(Numbered((50, 50, 50)), Encoder(), tmp_path / "even", **KEYS, shard_frames=50).folder
        a, b = (even / f"shard-000000{k}.safetensors" for k in (0, 2))
        c = a.rename(even / "aside")
        b.rename(a)
        c.rename(b)
        with pytest.raises(DataError, match=r"shard-0000000.*found {.*'first_episode': '2'}"):
            LatentStore(even).latents_of(0)

    def test_verify_names_every_damaged_shard(self, cache):
        for file in ("shard-0000000.safetensors", SHARD):
            flip(cache / file, -5)
        with pytest.raises(DataError, match=rf"shard-0000000.*; .*{SHARD}"):
            LatentStore(cache).verify()

    def test_unchecked_reads_what_is_there(self, cache):
        flip(cache / SHARD, -1)
        assert LatentStore(cache, checked=False).latents_of(3)["left"].shape == (64, 3, 4)

    def test_shard_is_made_anew_alone(self, cache, written):
        (cache / SHARD).unlink()
        encoder = Encoder()
        encode_dataset(Numbered(LENGTHS), encoder, cache.parent, **KEYS)
        assert encoder.frames == 73
        assert (cache / SHARD).read_bytes() == (written / SHARD).read_bytes()

    @pytest.mark.parametrize("seed", range(40))
    def test_bit_of_the_index_is_named(self, seed, cache):
        index = cache / "index.json"
        flip(index, int(np.random.default_rng(seed).integers(index.stat().st_size)))
        with pytest.raises(DataError, match=r"index\.json: "):
            LatentStore(cache)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (b"", "not valid JSON"),
            (b"\xff", "not valid JSON"),
            (b"[]", "expected format 'jepa_actions latents'"),
            (b'{"format": "jepa_actions latents", "format_version": 2}', "format_version 2, this release reads 1"),
            (b'{"format": "jepa_actions latents", "format_version": 1}', "do not have the sha256"),
        ],
    )
    def test_index_is_named(self, text, why, cache):
        (cache / "index.json").write_bytes(text)
        with pytest.raises(DataError, match=rf"index\.json: .*{why}"):
            LatentStore(cache)
        with pytest.raises(DataError, match=rf"index\.json: .*{why}"):
            encode_dataset(Numbered(LENGTHS), Encoder(), cache.parent, **KEYS)

    def test_data_of_other_lengths(self, cache):
        data = Numbered(LENGTHS)
        print_before = data.fingerprint()
        data._lengths[0] += 1
        data.fingerprint = lambda: print_before
        with pytest.raises(DataError, match="episodes have other lengths than those of numbered"):
            open_latents(cache.parent, data, **KEYS)
