"""The loop on the data that people have: few labels, video alone, bad episodes, streams, stored latents."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot_writer import write_lerobot, write_video
from test_train_recordings import recipe
from tiny_world import TINY

from jepa_actions.errors import ConfigError, DataError
from jepa_actions.models import EncoderConfig, WorldModel
from jepa_actions.objectives import ForwardConfig, InverseLossConfig
from jepa_actions.training import LabelsConfig, ObjectivesConfig, SplitConfig, StreamConfig, train

FRONT = "observation.images.front"
ONE = replace(
    TINY, cameras=(FRONT,), encoder=EncoderConfig(image_size=(16, 24), patch=8, tubelet=2, width=24, depth=1, heads=2)
)
CONTROL = ObjectivesConfig(masked=None, forward=ForwardConfig(), inverse=InverseLossConfig())


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("robot") / "robot", lengths=(16, 12, 14, 13), cameras=[FRONT])


def rows(run: Path):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def same_weights(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_few_labels_and_video_alone_train_together_and_the_model_tells(robot, tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", range(20, 220, 10), 10, (32, 48))
    settings = recipe(
        robot,
        tmp_path,
        video=(str(tmp_path / "videos"),),
        label=LabelsConfig(episodes=1, fraction=0.5),
        workers=2,
        split=SplitConfig(kind="episode", fraction=0.25),
    )
    settings = replace(settings, model=ONE)
    train(settings, quiet=True)
    assert all(np.isfinite(v) for row in rows(tmp_path / "run") for v in row.values())
    told = WorldModel.from_pretrained(tmp_path / "run" / "model").extra["data"]["labelled"]
    assert (told["episodes"], told["of"]) == (1, 3)
    again = replace(settings, out=str(tmp_path / "again"), data=replace(settings.data, workers=1))
    assert same_weights(train(again, quiet=True), WorldModel.from_pretrained(tmp_path / "run" / "model"))


def test_bad_episodes_are_left_out_only_when_asked_and_counted(robot, tmp_path):
    import shutil

    bad = Path(shutil.copytree(robot, tmp_path / "bad"))
    path = bad / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    actions = np.array(table["action"].to_pylist(), np.float32)
    actions[20] = np.nan  # in episode 1
    column = pa.FixedSizeListArray.from_arrays(pa.array(actions.ravel()), 2)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
    settings = replace(recipe(bad, tmp_path), model=ONE)
    with pytest.raises(DataError, match=r"action of episode 1, row 4, dimension 0 \(dx\): found nan"):
        train(settings, quiet=True)
    train(replace(settings, data=replace(settings.data, skip_bad=True)), quiet=True)
    (skipped,) = WorldModel.from_pretrained(tmp_path / "run" / "model").extra["data"]["skipped"][str(bad)]
    assert skipped["episode"] == 1


def test_stored_latents_train_what_latents_made_on_the_fly_train(robot, tmp_path):
    start = train(replace(recipe(robot, tmp_path / "first", labels=False), model=ONE, objectives=ObjectivesConfig()))
    start.save_pretrained(tmp_path / "encoder")
    settings = replace(recipe(robot, tmp_path / "fly"), model=ONE, objectives=CONTROL, init=str(tmp_path / "encoder"))
    settings = replace(settings, train=replace(settings.train, freeze_encoder=True, log_every=1))
    train(settings, quiet=True)
    store = replace(settings.data, cache="latents", latents=str(tmp_path / "latents"))
    for out in ("stored", "again"):  # the second one finds them
        train(replace(settings, out=str(tmp_path / out), data=store), quiet=True)
    for one, two in zip(rows(tmp_path / "fly/run"), rows(tmp_path / "stored/run"), strict=True):
        assert abs(one["loss"] - two["loss"]) < 2e-3 * max(1.0, abs(one["loss"]))
    assert [r["loss"] for r in rows(tmp_path / "stored/run")] == [r["loss"] for r in rows(tmp_path / "again/run")]
    assert len(list((tmp_path / "latents").glob("*/*.safetensors"))) > 0
    learns = replace(settings, data=store, train=replace(settings.train, freeze_encoder=False))
    with pytest.raises(ConfigError, match="the encoder learns, so its latents change"):
        train(replace(learns, name="learns"), quiet=True)
    with pytest.raises(ConfigError, match=r"expected data\.cache latents with it"):
        train(replace(settings, name="none", data=replace(store, cache="none")), quiet=True)


def parquet(folder: Path, split: str, count: int) -> None:
    rng = np.random.default_rng(count)
    cells, actions = [], []
    for k in range(count):
        write_video(folder / "tmp.mp4", [20 + 12 * k + 5 * i for i in range(12)], 10, (32, 48))
        cells.append({"bytes": (folder / "tmp.mp4").read_bytes(), "path": None})
        actions.append(rng.normal(size=(11, 2)).tolist())
    (folder / "tmp.mp4").unlink()
    pq.write_table(pa.table({"video": cells, "action": actions}), folder / f"{split}-00000-of-00001.parquet")


def test_a_stream_trains_resumes_exactly_and_is_evaluated_on_another_split(tmp_path):
    (tmp_path / "shards").mkdir()
    parquet(tmp_path / "shards", "train", 5)
    parquet(tmp_path / "shards", "validation", 2)
    stream = StreamConfig(shuffle=3, fit_episodes=3, heldout="validation", heldout_episodes=2)
    settings = recipe(tmp_path / "shards", tmp_path / "a", stream=stream)
    settings = replace(settings, model=replace(ONE, cameras=("video",)))
    whole = train(settings, quiet=True)
    assert whole.codec is not None
    again = replace(settings, out=str(tmp_path / "b"))
    train(again, stop_after=2, quiet=True)
    assert same_weights(whole, train(again, resume=True, quiet=True))
    with pytest.raises(ConfigError, match=r"data\.pad: found True, not possible with data.stream"):
        train(replace(settings, data=replace(settings.data, pad=True)), restart=True, quiet=True)
    with pytest.raises(ConfigError, match=r"data\.scene_clips: found 2, not possible with data.stream"):
        train(replace(settings, data=replace(settings.data, scene_clips=2)), restart=True, quiet=True)
