"""The demo and its page, from one tiny run."""

import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from known_worlds import KnownWorld, dot_positions, room

from jepa_actions.data import Segment
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation import demo, page, suite
from jepa_actions.evaluation.heads import FitBudget
from jepa_actions.evaluation.page import imagined_rollout, planned_episode, write_page
from jepa_actions.models import WorldModel

TINY = """--data.env.episodes=40 --data.env.heldout_episodes=20 --model.encoder.patch=16 --model.encoder.width=24
--model.encoder.depth=1 --model.pooler.dim=16 --model.dynamics.width=32 --model.inverse.width=32
--model.predictor.width=24 --model.predictor.depth=1 --train.batch_size=8 --train.log_every=5""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The folder, the report and what was printed."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        limits = {"inverse": {"train_limit": 200, "limit": 100, "budget": FitBudget(5, 64, 1e-3, 0.01)}}
        limits |= {"probe": {"limit": 100}, "rollout": {"limit": 50}, "masked": {"limit": 8}}
        for name, limit in limits.items():
            patch.setattr(suite, f"evaluate_{name}", partial(getattr(suite, f"evaluate_{name}"), **limit))
        patch.setattr(demo, "use_all_cores", torch.get_num_threads)
        report = demo.run_demo(out, steps=20, episodes=4, options=TINY)
    return out, report


def test_the_demo_writes_its_report(shown):
    out, report = shown
    saved = json.loads((out / "report.json").read_text())
    assert {"planning", "inverse", "probe", "rollout", "masked", "seconds"} <= set(saved)
    assert saved["planning"]["episodes"] == 4
    assert 0 <= saved["planning"]["oracle"]["success_rate"] <= 1
    assert set(saved["planning"]["floors"]) == {"random", "zero", "straight", "untrained"}
    assert saved["training"] == {
        "seconds": pytest.approx(report["training"]["seconds"]),
        "steps": 20,
        "preset": "laptop",
    }
    assert 0 < saved["training"]["seconds"] < saved["seconds"]
    assert WorldModel.from_pretrained(out / "model").inverse is not None


def test_the_page_is_one_file_with_everything_in_it(shown):
    out, _ = shown
    text = (out / "report.html").read_text()
    assert not re.search(r"https?://", text)
    sources = re.findall(r"""(?:src|href)=["']?([^"'>]{0,30})""", text)
    assert len(sources) == 5
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert "<script" not in text
    assert "<link" not in text


def test_the_page_has_the_numbers_of_its_report(shown, tmp_path):
    out, report = shown
    changed = json.loads(json.dumps(report))
    changed["planning"]["metrics"]["success_rate"] = 0.731
    changed["planning"]["oracle"]["success_rate"] = 0.977
    changed["planning"]["floors"]["random"]["success_rate"] = 0.119
    changed["inverse"]["metrics"]["r2_mean"] = 0.9375
    changed["probe"]["metrics"]["rmse_px_mean"] = 1.234
    (tmp_path / "metrics.jsonl").write_text((out / "metrics.jsonl").read_text())
    model = WorldModel.from_pretrained(out / "model")
    text = write_page(tmp_path, model, suite.data_of(model)[1], changed).read_text()
    for number in ("73%", "98%", "12%", "0.938", "1.23", changed["planning"]["commit"]):
        assert number in text, number


def test_curves_have_every_term_and_stand_a_negative_loss(tmp_path):
    rows = [{"step": s, "masked/total": 0.5 / s, "inverse/total": 0.5 - s, "inverse/r2": 0.1, "x": 1} for s in (1, 2)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    axes = {axis.get_title(): axis for axis in page._curves(tmp_path / "m.jsonl").axes}
    assert set(axes) == {"masked", "inverse", "inverse/r2"}
    assert axes["masked"].get_yscale() == "log"
    assert axes["inverse"].get_yscale() == "linear"
    assert list(axes["inverse"].lines[0].get_ydata()) == [-0.5, -1.5]


def test_the_ablation_is_a_table_where_it_is_at_hand(tmp_path, monkeypatch):
    (tmp_path / "t.json").write_text(
        json.dumps(
            {"note": "a < b", "columns": ["r2"], "rows": [{"recipe": "all", "r2": 0.94}, {"recipe": "-", "r2": None}]}
        )
    )
    monkeypatch.setattr(page, "result_path", lambda name: tmp_path / "t.json")
    assert "a &lt; b" in page._terms()
    assert "<tr><td>all<td>0.94<tr><td>-<td>-" in page._terms()

    def missing(name):
        raise ConfigError("not in this installation")

    monkeypatch.setattr(page, "result_path", missing)
    assert "not in this installation" in page._terms()


def test_a_planned_episode_ends_at_its_goal():
    data = room()

    class Room(KnownWorld):  # the agent passes frames without a camera's name
        history = 1

        def encode(self, frames, *, past_actions=None):
            return super().encode({"image": frames})

        def goal(self, frames):
            return super().goal({"image": frames})

    *frames, goal = planned_episode(Room(data.codec), "two_room/offset25", task=1)
    assert 2 <= len(frames) <= 11
    places = [dot_positions(frame[None, None])[0, 0] for frame in (frames[0], frames[-1], goal)]
    assert (places[0] - places[2]).norm() > 4.5
    assert (places[1] - places[2]).norm() < 5.0
    assert torch.equal(frames[0][1], goal[1]), "another layout"


def test_an_imagined_rollout_shows_no_frame_of_its_own_episode():
    data, asked = room(), []
    real = data.heldout_dataset.read_clips

    def recorded(episodes, frames):
        asked.append((episodes, frames))
        return real(episodes, frames)

    data.heldout_dataset.read_clips = recorded
    imagined, happened = imagined_rollout(KnownWorld(data.codec), data, horizon=4)
    (others, numbers), (own, frames) = asked[-2:]
    assert len(own) == 1
    assert own[0] not in others
    assert len(imagined) == len(happened) == 5
    assert torch.equal(imagined[0], happened[0])
    shown = real(others, numbers)["image"][:, 0]
    assert torch.equal(torch.stack(imagined[1:]), shown)
    assert torch.equal(torch.stack(happened), real(own, frames)["image"][0])
    where = [dot_positions(torch.stack(row)[None])[0] for row in (imagined, happened)]
    assert (where[0] - where[1]).norm(dim=-1).max() < 8, "not the nearest frames of what was imagined"
    assert (where[1][-1] - where[1][0]).norm() > 15, "a clip in which nothing happens"


def test_nearest_frames_come_from_the_same_layout_too():
    data = room()
    per_layout = data.heldout_dataset.same_layout(0, 1)
    assert per_layout, "five episodes share a layout"
    few = [Segment(e, 0, 121) for e in range(5)]
    data.heldout = tuple(few)  # one layout alone
    imagined, _ = imagined_rollout(KnownWorld(data.codec), data, horizon=3)
    assert np.unique([int(frame[1].long().sum()) for frame in imagined]).size == 1


def test_minutes_grow_with_steps_and_slow_machines(monkeypatch):
    monkeypatch.setattr(demo, "measured_gflops", lambda: 80.0)
    fast = demo.estimate_minutes(2500, "laptop")
    assert 5 < fast < 15
    assert demo.estimate_minutes(5000, "laptop") > 1.5 * fast
    monkeypatch.setattr(demo, "measured_gflops", lambda: 40.0)
    assert demo.estimate_minutes(2500, "laptop") == pytest.approx(2 * fast)


def test_the_speed_is_measured():
    assert demo.measured_gflops(64, 2) > 0
