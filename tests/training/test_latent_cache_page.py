"""The page about stored latents runs as it is written."""

import re
from dataclasses import replace
from pathlib import Path

import torch
from lerobot_writer import write_lerobot
from tiny_world import TINY

from jepa_actions.data import ActionCodec, load_dataset
from jepa_actions.models import BackboneConfig, PoolerConfig, WorldModel
from jepa_actions.training import whole_episodes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "latent_cache.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    write_lerobot(tmp_path / "my_robot", lengths=(30, 24))
    data = load_dataset(tmp_path / "my_robot")
    config = replace(
        TINY,
        cameras=data.cameras,
        backbone=BackboneConfig("timm:test_vit", "random", image_size=(32, 32)),
        pooler=PoolerConfig(kind="patches", dim=64),
    )
    WorldModel(config, ActionCodec.fit(data, whole_episodes(data), block=1)).save_pretrained(tmp_path / "my_model")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(blocks[0], str(PAGE), "exec"), names)
    assert "54 of 54 frames" in capsys.readouterr().out
    batch, store, cameras = names["batch"], names["store"], len(data.cameras)
    assert names["z"].shape == (30, 4 * cameras, 64)
    assert {tuple(values.shape) for values in names["clips"].values()} == {(2, 3, 4, 64)}
    assert batch.actions.shape[:2] == (8, 3)
    for camera in data.cameras:
        found = store.read(batch.episode.numpy(), batch.frame.numpy())[camera]
        assert torch.equal(batch.tokens[camera], found)
