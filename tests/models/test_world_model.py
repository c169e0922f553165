import pytest
import torch
from tiny_world import random_frames, tiny_batch, tiny_codec, tiny_world

from jepa_actions.errors import ShapeError
from jepa_actions.models import DynamicsConfig, EncoderConfig, ImageTransform, InverseConfig, PoolerConfig, WorldModel

MEMORY = {"dynamics": DynamicsConfig(kind="transformer", width=24, depth=2, heads=2, history=3)}
PATCHES = {"pooler": PoolerConfig(kind="patches", dim=24)}
TWO_CAMERAS = {"cameras": ("front", "wrist")}


def lively(model: WorldModel) -> WorldModel:
    """An untrained readout hardly moves the state; make what the dynamics says visible."""
    with torch.no_grad():
        model.dynamics.out.weight.mul_(30)
    return model


@pytest.mark.parametrize("changes", [{}, PATCHES, {"encoder": EncoderConfig((16, 16), 4, 2, 24, 1, 2)}])
def test_a_later_frame_leaves_earlier_states_unchanged(changes):
    model, frames = tiny_world(**changes), random_frames(2, 4, 3, 16, 16)
    later = frames.clone()
    later[:, 2] = 255 - later[:, 2]
    z, changed = (model.encode_frames({"image": x}) for x in (frames, later))
    assert torch.equal(changed[:, [0, 1, 3]], z[:, [0, 1, 3]])
    assert not torch.allclose(changed[:, 2], z[:, 2], atol=1e-3)
    joint, joint_changed = (model.encoder(model.images({"image": x})["image"]) for x in (frames, later))
    assert not torch.allclose(joint[:, 0], joint_changed[:, 0], atol=1e-5)


def test_frames_are_normalised_by_the_models_own_transform():
    transform = ImageTransform(mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 0.25))
    frame = torch.tensor([255, 51, 0], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(1, 1, 3, 16, 16)
    out = tiny_world(image=transform).images({"image": frame})["image"]
    torch.testing.assert_close(out[0, 0, :, 0, 0], torch.tensor([1.0, 0.2, -1.0]))


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (2, 3, 1, 16)),
        (PATCHES, (2, 3, 16, 24)),
        ({"pooler": PoolerConfig(latents=2, dim=8, heads=2)}, (2, 3, 2, 8)),
    ],
)
def test_the_pooler_decides_what_a_state_is(changes, shape):
    model = tiny_world(**changes)
    z = model.encode_frames({"image": random_frames(2, 3, 3, 16, 16)})
    assert tuple(z.shape) == shape
    assert (model.latents, model.dim) == shape[2:]


def test_cameras_lie_side_by_side_in_the_order_of_the_configuration():
    model = tiny_world(**TWO_CAMERAS)
    frames = tiny_batch(cameras=("wrist", "front")).frames
    z = model.encode_frames(frames)
    assert z.shape == (4, 4, 2, 16)
    changed = model.encode_frames(frames | {"wrist": 255 - frames["wrist"]})
    assert torch.equal(changed[:, :, 0], z[:, :, 0])
    assert not torch.allclose(changed[:, :, 1], z[:, :, 1], atol=1e-3)


@pytest.mark.parametrize("changes", [{}, MEMORY, PATCHES], ids=["mlp", "memory", "patches"])
def test_many_candidates_of_many_problems_equal_one_by_one(changes):
    model = lively(tiny_world(**changes))
    frames, past = random_frames(2, 3, 3, 16, 16), torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(2))
    actions = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(3))
    together = model.rollout(model.encode(frames, past_actions=past), actions).z
    assert together.shape == (2, 3, 4, model.latents, model.dim)
    for p in range(2):
        for s in range(3):
            context = model.encode(frames[p : p + 1], past_actions=past[p : p + 1])
            alone = model.rollout(context, actions[p : p + 1, s : s + 1]).z
            torch.testing.assert_close(together[p, s], alone[0, 0], rtol=1e-4, atol=1e-5)


def test_past_frames_and_actions_count_where_there_is_a_history():
    model = lively(tiny_world(**MEMORY))
    frames, past = random_frames(1, 3, 3, 16, 16), torch.ones(1, 2, 2)
    actions = torch.zeros(1, 1, 2, 2)
    z = model.rollout(model.encode(frames, past_actions=past), actions).z
    older = frames.clone()
    older[:, 1] = 255 - older[:, 1]
    for other in (model.encode(older, past_actions=past), model.encode(frames, past_actions=-past)):
        assert not torch.allclose(model.rollout(other, actions).z, z, atol=1e-4)


def test_a_goal_is_the_state_of_its_image():
    model, frame = tiny_world(), random_frames(3, 3, 16, 16)
    expected = model.encode_frames({"image": frame[:, None]})[:, 0]
    assert torch.equal(model.goal(frame).z, expected)
    assert torch.equal(model.goal({"image": frame}).z, expected)


def test_infer_actions_is_the_inverse_head_with_k():
    model = tiny_world(inverse=InverseConfig(width=24, max_gap=3))
    torch.nn.init.normal_(model.inverse.trunk.out.weight)
    z, goal = model.encode_frames({"image": random_frames(3, 2, 3, 16, 16)}).unbind(1)
    expected = model.inverse(z, goal, torch.tensor([2, 2, 2]))
    assert torch.equal(model.infer_actions(z, goal, 2).mean, expected.mean)
    assert not torch.allclose(model.infer_actions(z, goal, 3).mean, expected.mean, atol=1e-4)
    for k in (0, 4):
        with pytest.raises(ShapeError, match=f"expected k from 1 to the head's max_gap, 3, found {k}"):
            model.infer_actions(z, goal, k)


def test_actions_are_those_of_the_codec():
    model = tiny_world(tiny_codec(block=3))
    assert model.action_dim == 6
    assert torch.equal(model.action_bounds.high, tiny_codec(block=3).model_bounds.high)
    assert model.encode(random_frames(1, 1, 3, 16, 16)).z.shape == (1, 1, 16)


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (torch.zeros(1, 1, 3, 16, 16), r"expected uint8 \(batch, time, 3, 16, 16\), found float32 \(1, 1, 3, 16, 16\)"),
        (random_frames(1, 1, 3, 8, 16), r"found uint8 \(1, 1, 3, 8, 16\)"),
        (random_frames(1, 3, 16, 16), r"found uint8 \(1, 3, 16, 16\)"),
        (random_frames(1, 1, 16, 16, 3), r"found uint8 \(1, 1, 16, 16, 3\)"),
        ({"front": random_frames(1, 1, 3, 16, 16)}, "camera 'image' is missing, found 'front'"),
        ({}, "camera 'image' is missing, found none"),
    ],
)
def test_wrong_frames_are_one_line(frames, text):
    with pytest.raises(ShapeError, match=text) as caught:
        tiny_world().encode(frames)
    assert "\n" not in str(caught.value)


def test_a_goal_of_another_size_or_camera_is_one_line():
    with pytest.raises(
        ShapeError, match=r"^goal\['image'\]: expected uint8 .*, 3, 16, 16\), found uint8 \(1, 1, 3, 32, 32"
    ):
        tiny_world().goal(random_frames(1, 3, 32, 32))
    with pytest.raises(ShapeError, match=r"^goal: camera 'image' is missing, found 'wrist'$"):
        tiny_world().goal({"wrist": random_frames(1, 3, 16, 16)})


def test_several_cameras_want_names():
    with pytest.raises(ShapeError, match="has cameras front, wrist; pass a dict"):
        tiny_world(**TWO_CAMERAS).encode(random_frames(1, 1, 3, 16, 16))


@pytest.mark.parametrize("shape", [None, (2, 1, 2), (2, 3, 2), (2, 2, 4), (1, 2, 2)])
@pytest.mark.parametrize("changes", [{}, MEMORY], ids=["mlp", "memory"])
def test_past_actions_that_do_not_fit_between_the_frames_are_one_line(shape, changes):
    past = None if shape is None else torch.zeros(shape)
    with pytest.raises(ShapeError, match=r"past_actions: .*expected \(2, 2, 2\)") as caught:
        tiny_world(**changes).encode(random_frames(2, 3, 3, 16, 16), past_actions=past)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 3, 4, 2), (2, 4, 2)])
def test_candidates_of_the_wrong_shape_are_one_line(shape):
    model = tiny_world()
    context = model.encode(random_frames(2, 1, 3, 16, 16))
    with pytest.raises(ShapeError, match=r"expected \(2 problems, candidates, horizon, 2\), found \(") as caught:
        model.rollout(context, torch.zeros(shape))
    assert "\n" not in str(caught.value)


def test_a_model_of_video_alone_says_so():
    model = tiny_world(video_only=True)
    z = model.encode_frames({"image": random_frames(2, 2, 3, 16, 16)})
    assert z.shape == (2, 2, 1, 16)
    with pytest.raises(ShapeError, match="no inverse head"):
        model.infer_actions(z[:, 0], z[:, 1], 1)
    for use in (lambda: model.action_dim, lambda: model.encode(random_frames(1, 1, 3, 16, 16))):
        with pytest.raises(ShapeError, match="trained on video without actions"):
            use()
