import numpy as np
import pytest
import torch
from known_worlds import ROOM, UNIT, Cart, KnownWorld, cart_positions, dot_positions, opened, room, wander

from jepa_actions.data import Segment
from jepa_actions.errors import DataError
from jepa_actions.evaluation.latents import encode_clips
from jepa_actions.training import whole_episodes


@pytest.fixture(scope="module")
def cart():
    data = opened(Cart(wander()), [Segment(0, 0, 41), Segment(1, 3, 30)], [Segment(2, 0, 41)], block=2)
    return data, KnownWorld(data.codec, cart_positions)


def test_latents_and_actions_belong_to_the_frames_they_name(cart):
    data, model = cart
    found = encode_clips(model, data.dataset, data.train, frames=3)
    assert len(found) == (41 - 4) + (27 - 4)
    for row in range(0, len(found), 7):
        episode, frames = found.episode[row], found.frame[row]
        assert (np.diff(frames) == 2).all()
        expected = torch.from_numpy(data.dataset.positions[episode][frames]).float() / UNIT
        torch.testing.assert_close(found.z[row, :, 0], expected)
        raw = data.codec.decode(found.actions[row])
        torch.testing.assert_close(raw.sum(1), expected.diff(dim=0) * UNIT, atol=1e-4, rtol=0)
    assert found.known.all()
    assert found.positions is None


def test_clips_stay_inside_their_stretches(cart):
    data, model = cart
    found = encode_clips(model, data.dataset, data.train, frames=3)
    inside = found.frame[found.episode == 1]
    assert inside.min() == 3
    assert inside.max() == 29
    assert set(found.episode) == {0, 1}


def test_the_batch_of_the_encoder_changes_nothing_and_no_frame_is_encoded_twice(cart):
    data, model = cart
    shown = []

    def see(images):
        shown.append(len(images))
        return cart_positions(images)

    counted = KnownWorld(data.codec, see)
    one = encode_clips(counted, data.dataset, data.train, frames=3, batch=5)
    assert sum(shown) == 41 + 27
    assert max(shown) <= 5
    torch.testing.assert_close(one.z, encode_clips(model, data.dataset, data.train, frames=3).z)


def test_a_limit_draws_without_replacement_and_by_seed(cart):
    data, model = cart
    few = [encode_clips(model, data.dataset, data.train, frames=2, limit=20, seed=s) for s in (0, 0, 1)]
    rows = [set(zip(f.episode, f.frame[:, 0], strict=True)) for f in few]
    assert len(rows[0]) == 20
    assert rows[0] == rows[1] != rows[2]


def test_two_room_also_gives_the_truth():
    data = room()
    found = encode_clips(KnownWorld(data.codec), data.heldout_dataset, data.heldout[:3], frames=3, limit=40)
    torch.testing.assert_close(found.z[:, :, 0] * UNIT, found.positions, atol=0.05, rtol=0)
    assert torch.equal(found.layout, data.heldout_dataset.behaviour.layouts[found.episode])
    assert data.codec.block == ROOM.block == found.frame[0, 1] - found.frame[0, 0]


def test_what_cannot_be_compared_is_refused(cart):
    data, model = cart
    blind = KnownWorld(data.codec, dot_positions)
    blind.codec = None
    with pytest.raises(DataError, match=r"^cart: this model was trained without actions"):
        encode_clips(blind, data.dataset, data.train, frames=2)
    silent = Cart(wander(2))
    silent.action_names = None
    with pytest.raises(DataError, match=r"^cart: holds no actions for the model's codec \(dx, dy\)"):
        encode_clips(model, silent, whole_episodes(silent), frames=2)
    with pytest.raises(DataError, match="no segment"):
        encode_clips(model, data.dataset, (), frames=2)
