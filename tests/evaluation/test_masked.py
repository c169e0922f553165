import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from known_worlds import ROOM, room
from torch import nn
from torch.nn import functional as F

from jepa_actions.errors import DataError
from jepa_actions.evaluation import masked
from jepa_actions.evaluation.masked import evaluate_masked
from jepa_actions.models import MASK_KINDS, EncoderConfig, Mask, nearest_visible, take_tokens
from jepa_actions.training import OpenData

GRID = (8, 8)


class Patches(nn.Module):
    """Features of a patch: its mean red, its mean green, its row and its column; no learning anywhere.

    `answer` makes the prediction from (all features, mask's visible, target, kind).
    """

    def __init__(self, answer) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            encoder=EncoderConfig(image_size=(64, 64), patch=8, width=24, heads=2), cameras=("image",)
        )
        self.answer, self.seen = answer, []

    def masked_parts(self):
        return self.encoder, self.predictor

    def images(self, frames):
        return {name: image.float() / 255 for name, image in frames.items()}

    def encoder(self, images, visible=None):
        cells = images.unfold(3, 8, 8).unfold(4, 8, 8).mean((-1, -2)) * 8  # (b, t, c, rows, columns)
        row = torch.linspace(-1, 1, 8)[:, None].expand(8, 8).expand(*cells.shape[:2], 1, 8, 8)
        tokens = torch.cat([cells, row, row.transpose(-1, -2)], 2).permute(0, 1, 3, 4, 2).flatten(1, 3)
        if visible is None:
            self.whole = tokens
            return tokens
        return take_tokens(tokens, visible)

    def predictor(self, tokens, visible, target, kind):
        self.seen.append((kind, visible, target))
        assert tokens.shape[1] == visible.shape[1], "the predictor gets visible tokens alone"
        return self.answer(F.layer_norm(self.whole, (5,)), visible, target, kind)


def perfect(features, visible, target, kind):
    return take_tokens(features, target)


def copy_nearest(features, visible, target, kind):
    return take_tokens(features, visible.gather(1, nearest_visible(visible, target, kind, GRID)))


@pytest.fixture(scope="module")
def data():
    return room()


@pytest.fixture(scope="module")
def report(data):
    return evaluate_masked(Patches(perfect), data, ROOM, limit=24)


def test_a_perfect_prediction_has_no_error_and_the_floors_do(report):
    assert report["metrics"]["error"] == dict.fromkeys(MASK_KINDS, 0.0)
    for floor in ("mean_feature", "nearest_visible"):
        assert set(report["floors"][floor]["error"]) == set(MASK_KINDS)
        assert min(report["floors"][floor]["error"].values()) > 0.005
        for kind in MASK_KINDS:
            low, high = report["ci95"][f"margin_over_{floor}"][kind]
            assert 0 < low < report["floors"][floor]["error"][kind] < high


def test_copying_the_nearest_visible_feature_is_that_floor(data):
    found = evaluate_masked(Patches(copy_nearest), data, ROOM, limit=24)
    assert found["metrics"]["error"] == found["floors"]["nearest_visible"]["error"]
    assert found["metrics"]["error_agent"] == found["floors"]["nearest_visible"]["error_agent"]
    assert set(map(tuple, found["ci95"]["margin_over_nearest_visible"].values())) == {(0.0, 0.0)}


def test_agent_patches_are_apart_and_hard_the_rest_is_wall_and_easy_in_the_future(report):
    nearest = report["floors"]["nearest_visible"]
    assert report["metrics"]["error_agent"]["future"] == 0.0
    assert nearest["error_agent"]["future"] > 5 * nearest["error_rest"]["future"]
    assert nearest["error_rest"]["future"] < nearest["error"]["future"] < nearest["error_agent"]["future"]


def test_the_report_names_what_it_saw(report):
    assert json.loads(json.dumps(report))["clips"] == 24
    assert report["metrics"]["feature_width"] == 5
    assert 1 < report["metrics"]["effective_rank_of_targets"] <= 5
    assert report["data"] == "env:two_room"


def test_every_kind_hides_what_it_says_and_shows_something(data):
    model = Patches(perfect)
    evaluate_masked(model, data, ROOM, limit=16)
    assert {kind for kind, _, _ in model.seen} == set(MASK_KINDS)
    for kind, visible, target in model.seen:
        assert visible.numel()
        assert not set(visible[0].tolist()) & set(target[0].tolist())
        if kind == "future":
            assert visible[0].max() // 64 < target[0].min() // 64


def test_the_nearest_visible_by_hand():
    visible = torch.tensor([[0, 1, 2, 3, 4, 5]])  # frame 0 whole, frame 1 upper row, of three frames of 2x2
    target = torch.tensor([[6, 8, 11]])
    # future: the latest at that place: place 2 at frame 0, place 0 at frame 1, place 3 at frame 0
    assert visible[0, nearest_visible(visible, target, "future", (2, 2))[0]].tolist() == [2, 4, 3]
    visible = torch.tensor([[0, 5, 9, 14]])  # tubes on 1x5: places 0 and 4 at frames 0 and 1 (and 2: 14)
    target = torch.tensor([[1, 8, 6]])
    # tube: the nearest place at that time
    assert visible[0, nearest_visible(visible, target, "long", (1, 5))[0]].tolist() == [0, 9, 5]


@pytest.mark.parametrize(
    ("kind", "visible", "target", "nearest"),
    [("future", [0, 1], [2, 3], [0, 1]), ("short", [1, 3], [0, 2], [1, 3])],
)
def test_the_floors_compare_with_the_nearest_feature(kind, visible, target, nearest):
    """Two frames of 1x2. The floor may know the visible tokens alone; the one beside it has seen the whole clip."""
    generator = torch.Generator().manual_seed(0)
    features = F.layer_norm(torch.randn(1, 4, 6, generator=generator), (6,))
    alone = torch.randn(1, 4, 6, generator=generator)
    model = SimpleNamespace(
        config=SimpleNamespace(encoder=EncoderConfig(image_size=(4, 8), patch=4, width=24, heads=2)),
        masked_parts=lambda: (
            lambda images, seen: take_tokens(alone, seen),
            lambda tokens, seen, target, kind: torch.ones(1, 2, 6),
        ),
    )
    mask = Mask(kind, torch.tensor([visible]), torch.tensor([target]))
    rows = masked._compare(model, torch.zeros(1), features, mask, None, np.array([0]))
    for name, answers in [
        ("model", torch.ones(2, 6)),
        ("nearest_visible", F.layer_norm(alone[0, nearest], (6,))),
        ("nearest_visible_full_clip", features[0, nearest]),
    ]:
        torch.testing.assert_close(rows.errors[name][0], (answers - features[0, target]).abs().mean(-1))


def test_agent_patches_are_where_the_dot_is(data):
    episodes, frames = np.arange(8), np.stack([np.array([0, 30, 60, 90])] * 8)
    found = masked._agent_patches(data, episodes, frames, Patches(perfect)).view(8, 4, 8, 8)
    red = data.heldout_dataset.read_clips(episodes, frames)["image"][:, :, 0]
    lit = red.unfold(2, 8, 8).unfold(3, 8, 8).amax((-1, -2))
    assert found[lit > 80].all(), "a patch that shows the dot is not marked"
    assert (lit[found] > 0).float().mean() > 0.9, "patches without the dot are marked"
    assert found.sum((-1, -2)).min() >= 1
    assert found.sum((-1, -2)).max() <= 4


def test_recordings_have_no_agent_patches_and_something_must_be_held_out(data):
    model = Patches(perfect)
    model.config.encoder = EncoderConfig(image_size=(64, 64), patch=8, tubelet=2, width=24, heads=2)
    assert masked._agent_patches(data, np.arange(1), np.zeros((1, 4), int), model) is None
    empty = OpenData(data.dataset, data.train, data.heldout_dataset, (), data.codec)
    with pytest.raises(DataError, match="nothing is held out"):
        evaluate_masked(model, empty, ROOM)
