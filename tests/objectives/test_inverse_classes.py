"""Inverse dynamics of a mixed codec, through the model, its objective and its folder."""

import numpy as np
import torch
from tiny_world import TINY, random_frames, tiny_world

from jepa_actions.data import ActionBounds, ActionCodec, Batch
from jepa_actions.models import WorldModel
from jepa_actions.objectives import InverseLossConfig
from jepa_actions.objectives.inverse import Inverse
from jepa_actions.objectives.views import Views

ONES = np.ones(2, np.float32)


def codec(classes, block=2):
    low, high = (0.0 if k else -2.0 for k in classes), (k - 1.0 if k else 2.0 for k in classes)
    box = ActionBounds("box", low=tuple(low), high=tuple(high))
    return ActionCodec(("dx", "gripper"), block, 0 * ONES, ONES, box, classes=classes)


def batch(made, rows=6, frames=3):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(rows, frames - 1, made.block, 2, generator=generator)
    picks = [torch.randint(0, k, numbers.shape[:-1], generator=generator) if k else None for k in made.classes]
    raw = torch.stack([numbers[..., d] if p is None else p.float() for d, p in enumerate(picks)], dim=-1)
    known = torch.ones(rows, frames - 1, dtype=torch.bool)
    known[0] = False
    return Batch(
        frames={"image": random_frames(rows, frames, 3, 16, 16)},
        episode=torch.arange(rows),
        frame=torch.arange(frames).repeat(rows, 1),
        actions=made.encode(raw).masked_fill(~known[..., None], 0.0),
        action_mask=known,
        provenance=torch.zeros(rows, frames - 1, dtype=torch.int64),
    )


def run(made):
    model, clips = tiny_world(made).train(), batch(made)
    loss, logs = Inverse(InverseLossConfig())(model, Views(model, clips), torch.Generator().manual_seed(0))
    loss.backward()
    return model, clips, logs


def test_classes_are_scored_by_accuracy_and_numbers_by_r2():
    model, clips, logs = run(codec((0, 3)))
    assert set(logs) == {"k1", "accuracy", "r2"}
    q = model.inverse(*(z.flatten(0, 1) for z in _states(model, clips)), torch.ones(12, dtype=torch.int64))
    right = q.correct(clips.actions.flatten(0, 1)).float().mean(-1)[clips.action_mask.flatten()]
    torch.testing.assert_close(logs["accuracy"], right.mean())
    assert set(run(codec((4, 3)))[2]) == {"k1", "accuracy"}
    assert set(run(codec((0, 0)))[2]) == {"k1", "r2"}


def _states(model, clips):
    z = model.encode_frames(clips.frames)
    return z[:, :-1], z[:, 1:]


def test_a_model_of_classes_is_saved_and_plans_in_them(tmp_path):
    made = codec((0, 3))
    model = tiny_world(made)
    model.save_pretrained(tmp_path)
    back = WorldModel.from_pretrained(tmp_path)
    assert back.codec.to_dict() == made.to_dict()
    assert back.config == TINY.resolved()
    clips = batch(made)
    context = model.encode(clips.frames["image"][:2, :1])
    actions = model.action_bounds.project(torch.randn(2, 5, 3, model.action_dim))
    one, other = (m.rollout(context, actions).z for m in (model, back))
    assert torch.equal(one, other)
    other_class = actions.clone()
    other_class[..., 1:4] = actions[..., 1:4].roll(1, -1)
    assert not torch.equal(model.rollout(context, other_class).z, one), "the class counts"
