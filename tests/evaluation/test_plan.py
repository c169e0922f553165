from dataclasses import replace

import numpy as np
import pytest
import torch
from known_worlds import BALL, UNIT, KnownWorld
from PIL import Image
from tiny_world import random_frames, tiny_codec, tiny_world

from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs import TwoRoomConfig, render
from jepa_actions.errors import DataError, PlanningError, ShapeError
from jepa_actions.evaluation.plan import plan, read_pictures
from jepa_actions.models import DynamicsConfig, PoolerConfig
from jepa_actions.planning import VJEPA2_AC, CEMConfig

QUICK = CEMConfig(samples=32, elites=8, iterations=3)
FRAME, GOAL = random_frames(3, 16, 16), random_frames(3, 16, 16, seed=1)


def test_the_plan_leads_to_the_goal_in_raw_units():
    places = torch.tensor([[30.0, 30.0], [38.0, 24.0]])
    frame, goal = render(places, torch.tensor([50.0, 50.0]), torch.tensor([20.0, 20.0]), TwoRoomConfig())
    found = plan(KnownWorld(BALL), frame, goal, horizon=3)
    assert found["names"] == ["dx", "dy"]
    actions = torch.tensor(found["actions"])
    assert actions.shape == (15, 2)
    assert (actions.norm(dim=-1) <= 1.8 + 1e-4).all()
    torch.testing.assert_close(actions.sum(0), places[1] - places[0], atol=1.5, rtol=0)
    assert found["cost"] < found["cost_of_zero_actions"] / 10
    rest = ((places[1] - places[0]) / UNIT).square().mean()
    assert found["cost_of_zero_actions"] == pytest.approx(float(rest), rel=0.05)


def test_actions_stay_inside_a_box_and_a_seed_decides():
    model = tiny_world(tiny_codec(block=2))
    one, same, other = (plan(model, FRAME, GOAL, horizon=4, planner=QUICK, seed=s) for s in (3, 3, 4))
    actions = np.array(one["actions"])
    assert actions.shape == (8, 2)
    assert (np.abs(actions) <= np.array([3.0, 1.0]) + 1e-4).all()
    assert one == same
    assert one["actions"] != other["actions"]


def test_real_time_ends_the_search_and_says_so():
    model = tiny_world(tiny_codec(block=2))
    cut = plan(model, FRAME, GOAL, horizon=2, planner=CEMConfig(samples=64, iterations=100_000), timeout_ms=100)
    assert cut["timed_out"] is True
    assert cut["cost"] < cut["cost_of_zero_actions"]
    none = plan(model, FRAME, GOAL, horizon=2, planner=QUICK, timeout_ms=0)
    assert (none["timed_out"], none["cost"]) == (True, None)
    assert none["actions"] == model.codec.decode(torch.zeros(2, 4)).flatten(0, 1).tolist(), "the mean action"
    enough = plan(model, FRAME, GOAL, horizon=2, planner=QUICK, timeout_ms=60_000)
    assert enough == plan(model, FRAME, GOAL, horizon=2, planner=QUICK) | {"timed_out": False}
    with pytest.raises(PlanningError, match=r"^timeout_ms: found -1, expected at least 0$"):
        plan(model, FRAME, GOAL, timeout_ms=-1)


def test_several_cameras_are_all_looked_at():
    model = tiny_world(cameras=("front", "wrist"))
    pictures = {"front": FRAME, "wrist": GOAL}
    first = plan(model, pictures, {"front": FRAME, "wrist": FRAME}, planner=QUICK)
    assert first != plan(model, pictures, {"front": FRAME, "wrist": FRAME.flip(-1)}, planner=QUICK)
    with pytest.raises(ShapeError, match=r"^pictures: this model has cameras front, wrist; pass a dict of them$"):
        plan(model, FRAME, pictures)
    with pytest.raises(ShapeError, match=r"^frames: camera 'wrist' is missing, found 'front'$"):
        plan(model, {"front": FRAME}, pictures)
    with pytest.raises(ShapeError, match=r"^goal: camera 'wrist' is missing, found 'front'$"):
        plan(model, pictures, {"front": FRAME})


@pytest.mark.parametrize(
    ("frame", "goal"), [(FRAME, random_frames(3, 16, 24)), (FRAME.float(), GOAL), (FRAME[:1], GOAL)]
)
def test_pictures_of_another_form_are_refused(frame, goal):
    place = r"^frames\['image'\]" if goal is GOAL else r"^goal\['image'\]"
    with pytest.raises(ShapeError, match=rf"{place}: expected uint8 \(batch, time, 3, 16, 16\), found "):
        plan(tiny_world(), frame, goal, planner=QUICK)


def test_no_actions_and_no_horizon_are_refused():
    with pytest.raises(ShapeError, match="no action codec: it was trained on video without actions"):
        plan(tiny_world(video_only=True), FRAME, GOAL)
    with pytest.raises(PlanningError, match=r"horizon: found 0, expected at least 1 model step \(a block\)"):
        plan(tiny_world(), FRAME, GOAL, horizon=0)


@pytest.fixture
def picture(tmp_path):
    def write(name="a.png", size=(16, 16), mode="RGB"):
        pixels = random_frames(*size, 3).numpy()
        Image.fromarray(pixels).convert(mode).save(tmp_path / name)
        return str(tmp_path / name), torch.from_numpy(pixels).permute(2, 0, 1)

    return write


def test_a_picture_is_read_as_rgb(picture):
    file, pixels = picture()
    assert torch.equal(read_pictures(tiny_world(), [file])["image"], pixels)
    assert torch.equal(read_pictures(tiny_world(), [f"image={file}"])["image"], pixels)
    assert read_pictures(tiny_world(), [picture("grey.png", mode="L")[0]])["image"].shape == (3, 16, 16)


def test_an_equals_sign_in_a_file_s_name_is_no_camera(picture):
    file, pixels = picture("lr=1.png")
    assert torch.equal(read_pictures(tiny_world(), [file])["image"], pixels)


def test_one_picture_per_camera(picture):
    model, (a, one), (b, _) = tiny_world(cameras=("front", "wrist")), picture("a.png"), picture("b.png", mode="L")
    found = read_pictures(model, [f"wrist={b}", f"front={a}"])
    assert torch.equal(found["front"], one)
    assert torch.equal(found["wrist"], read_pictures(tiny_world(), [b])["image"])
    assert not torch.equal(found["wrist"], one)
    for files, message in [
        ([f"front={a}"], r"expected one for each camera \(front, wrist\), found front$"),
        ([f"front={a}", f"wirst={b}"], r"expected one for each camera \(front, wrist\), found front, wirst$"),
        ([a, f"front={b}", f"wrist={b}"], r"camera 'front' is given twice"),
    ]:
        with pytest.raises(ShapeError, match=message):
            read_pictures(model, files)


def test_a_file_at_fault_is_named(picture, tmp_path):
    model, (wide, _) = tiny_world(), picture("wide.png", (16, 24))
    with pytest.raises(ShapeError, match=rf"^{wide}: expected 16x16 pixels, found 16x24$"):
        read_pictures(model, [wide])
    whole = (tmp_path / "wide.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.png").write_bytes(whole[:33] + b"\x00\x00\x00\x04\x01\x02\x03\x04" + whole[41:])
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("cut.png", "broken.png", "text.png", "missing.png", "."):
        with pytest.raises(DataError, match=r"not a picture that can be read[^\n]*$") as caught:
            read_pictures(model, [str(tmp_path / name)])
        assert str(caught.value).startswith(str(tmp_path / name))


def test_a_published_planner_brings_its_bounds_and_a_reading_of_the_robot(tmp_path):
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    ones = np.ones(7, np.float32)
    box = ActionBounds("box", low=(-9.0,) * 7, high=(9.0,) * 7)
    codec = ActionCodec(names, 1, 0 * ones, 0.5 * ones, box, source="proprio_difference", angles=(3, 4, 5))
    dynamics = DynamicsConfig(kind="ac", width=24, depth=1, heads=2, proprio=7)
    model = tiny_world(codec, pooler=PoolerConfig(kind="patches", dim=24), dynamics=dynamics)
    few = replace(VJEPA2_AC, planner=replace(VJEPA2_AC.cem, samples=20, elites=5, iterations=2))
    found = plan(model, FRAME, GOAL, planner=few, proprio=[0.1] * 7)
    action = np.array(found["actions"])
    assert action.shape == (1, 7)
    assert (np.abs(action) <= np.array(VJEPA2_AC.high) + 1e-5).all()
    assert plan(model, FRAME, GOAL, planner=few, proprio=[0.9] * 7) != found
    assert len(plan(model, FRAME, GOAL, planner=few, horizon=2, proprio=[0.1] * 7)["actions"]) == 2
    with pytest.raises(ShapeError, match=r"^proprio: expected \(1, 1, 7\), the proprio of every frame, found none$"):
        plan(model, FRAME, GOAL, planner=few)


def test_a_published_planner_for_another_robot_is_refused():
    with pytest.raises(
        PlanningError, match=r"^planner: its bounds are for 7 raw dimensions, found the model's 2: dx, dy$"
    ):
        plan(tiny_world(), FRAME, GOAL, planner=VJEPA2_AC)
