"""The loop on recordings: two cameras, patches, the motion head, pose changes; and clips of which few are labelled."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot_writer import CAMERAS, write_lerobot
from tiny_world import TINY

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.latents import encode_clips
from jepa_actions.evaluation.rollout import evaluate_rollout
from jepa_actions.models import DynamicsConfig, EncoderConfig, InverseConfig, MotionConfig, PoolerConfig, WorldModel
from jepa_actions.objectives import ForwardConfig, InverseLossConfig, MaskedConfig
from jepa_actions.training import (
    ActionConfig,
    DataConfig,
    ObjectivesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
    open_data,
    train,
)

ROBOT = replace(
    TINY,
    cameras=CAMERAS,
    encoder=EncoderConfig(image_size=(16, 24), patch=8, tubelet=2, width=24, depth=1, heads=2),
    pooler=PoolerConfig(kind="patches", dim=24),
    dynamics=DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, history=2),
    inverse=InverseConfig(kind="motion", motion=MotionConfig(radius=1, pool=(1, 1), match_dim=8, hidden=16, scene=4)),
)


def recipe(root: Path, out: Path, **data) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(**{"path": str(root), "split": SplitConfig(kind="tail", fraction=0.25), **data}),
        out=str(out),
        model=ROBOT,
        objectives=ObjectivesConfig(
            masked=MaskedConfig(share=0.5), forward=ForwardConfig(target="ema"), inverse=InverseLossConfig()
        ),
        train=OptimConfig(steps=4, batch_size=4, log_every=2, checkpoint_every=2),
    )


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("robot") / "robot", lengths=(16, 12))


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_two_cameras_and_the_motion_head_train_end_to_end_and_resume_exactly(robot, tmp_path, cache):
    action = ActionConfig(source="proprio_difference", angles=(2,))
    settings = recipe(robot, tmp_path / "a", cache=cache, action=action)
    model = train(settings, quiet=True)
    last = [json.loads(line) for line in (tmp_path / "a/run/metrics.jsonl").read_text().splitlines()][-1]
    assert last["step"] == 4
    assert all(np.isfinite(value) for value in last.values())
    assert model.latents == 2 * 6
    assert model.codec is not None
    assert model.codec.names == ("x", "y", "yaw")
    again = replace(settings, out=str(tmp_path / "b"))  # the head's dropout, too, is a function of seed and step
    train(again, stop_after=2, quiet=True)
    resumed = train(again, resume=True, quiet=True)
    for (name, one), two in zip(model.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_every_part_of_the_model_learned_something(robot, tmp_path):
    settings = recipe(robot, tmp_path)
    settings = replace(settings, train=replace(settings.train, steps=2, weight_decay=0.0))
    torch.manual_seed(settings.seed)
    model = train(settings, quiet=True)
    still = replace(settings, out=str(tmp_path / "still"), train=replace(settings.train, lr=0.0))
    untrained = train(still, quiet=True).state_dict()
    for part in ("encoder.patch_embed", "encoder.blocks", "predictor", "dynamics", "inverse.trunk"):
        moved = [
            not torch.equal(value, untrained[name])
            for name, value in model.state_dict().items()
            if name.startswith(part) and name.endswith("weight")
        ]
        assert moved
        assert all(moved), part


def test_video_without_actions_pretrains_and_refuses_forward_dynamics(tmp_path):
    root = write_lerobot(tmp_path / "video", with_actions=False)
    settings = recipe(root, tmp_path)
    with pytest.raises(ConfigError, match=r"objectives\.forward needs actions, but .*video has no actions"):
        train(settings, quiet=True)
    model = train(replace(settings, objectives=ObjectivesConfig()), quiet=True)
    assert model.inverse is None


def test_episodes_with_unknown_actions_train_beside_labelled_ones(tmp_path):
    """Actions of the second episode are marked unknown and absurd; only the mask keeps them out."""
    found = []
    for wild in (0.0, 1e6):
        rng = np.random.default_rng(0)
        actions = [rng.normal(size=(n, 2)).astype(np.float32) for n in (16, 12)]
        actions[1][:] = wild
        valid = [np.ones(16), np.zeros(12)]
        root = write_lerobot(tmp_path / f"robot-{wild}", lengths=(16, 12), actions=actions, action_valid=valid)
        settings = recipe(root, tmp_path / f"out-{wild}")
        found.append(train(replace(settings, data=replace(settings.data, path=str(root))), quiet=True).state_dict())
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_a_recording_of_another_camera_is_one_line(robot, tmp_path):
    settings = recipe(robot, tmp_path)
    settings = replace(settings, model=replace(ROBOT, cameras=("observation.images.top",)))
    with pytest.raises(ValueError, match=r"observation\.images\.top") as caught:
        train(settings, quiet=True)
    assert "\n" not in str(caught.value)


def test_the_saved_model_opens_and_reads_actions_between_frames(robot, tmp_path):
    train(recipe(robot, tmp_path), quiet=True)
    model = WorldModel.from_pretrained(tmp_path / "run" / "model")
    frames = {camera: torch.randint(0, 256, (1, 2, 3, 16, 24), dtype=torch.uint8) for camera in CAMERAS}
    z = model.encode_frames(frames)
    raw = model.codec.decode(model.infer_actions(z[:, 0], z[:, 0], 1).mean)
    assert raw.shape == (1, 1, 2)
    torch.testing.assert_close(raw, torch.zeros_like(raw), atol=1e-5, rtol=0)


def ac_recipe(root: Path, out: Path, proprio: int = 3, **optim) -> TrainConfig:
    settings = recipe(root, out, action=ActionConfig(source="proprio_difference", angles=(2,)))
    model = replace(
        ROBOT,
        pooler=PoolerConfig(kind="patches", dim=24, normalise=True),
        dynamics=DynamicsConfig(kind="ac", width=24, depth=1, heads=2, proprio=proprio, normalise=True),
    )
    forward = ForwardConfig(metric="l1", target="ema", rollout_steps=2, rollout_first=True, detach=True)
    return replace(
        settings,
        model=model,
        objectives=replace(settings.objectives, forward=forward),
        train=replace(settings.train, **optim),
    )


def test_the_ac_predictor_trains_with_proprio_and_is_evaluated_with_it(robot, tmp_path):
    settings = ac_recipe(robot, tmp_path, gradient_checkpointing=True)
    model = train(settings, quiet=True)
    data = open_data(settings.data, model.config.image_size, model.config.cameras)
    report = evaluate_rollout(model, data, horizon=2)
    assert list(report["metrics"]["latent_error"]) == ["1", "2"]
    test = encode_clips(model, data.heldout_dataset, data.heldout, frames=3)
    raw = model.codec.decode(test.actions)[:, :, 0]
    moved = test.proprio[:, 1:] - test.proprio[:, :-1]
    torch.testing.assert_close(raw[..., :2], moved[..., :2], atol=1e-5, rtol=1e-4)


def test_proprio_that_the_data_does_not_have_is_named(robot, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.dynamics\.proprio is 7, but .* has 3: x, y, yaw$"):
        train(ac_recipe(robot, tmp_path, proprio=7), quiet=True)


def test_a_frozen_encoder_stays_as_it_was(robot, tmp_path):
    settings = ac_recipe(robot, tmp_path / "a", freeze_encoder=True)
    settings = replace(settings, objectives=replace(settings.objectives, masked=None))
    longer = replace(settings, out=str(tmp_path / "b"), train=replace(settings.train, steps=6))
    one, other = (train(s, quiet=True).state_dict() for s in (settings, longer))
    same = {name: torch.equal(value, other[name]) for name, value in one.items()}
    assert all(equal for name, equal in same.items() if name.startswith("encoder."))
    assert not any(equal for name, equal in same.items() if name.startswith("dynamics.") and name.endswith("weight"))
