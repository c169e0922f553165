import json
from pathlib import Path

import pytest
import torch
from known_worlds import ROOM, room
from tiny_world import tiny_codec, tiny_world

from jepa_actions.errors import CheckpointError, ConfigError, DataError
from jepa_actions.evaluation import suite
from jepa_actions.evaluation.suite import data_of, evaluate_all, table, untrained_like, write_json
from jepa_actions.models import EncoderConfig, WorldModel

REPORT = {
    "metrics": {"success_rate": 0.91, "r2": {"dx": 0.875}},
    "floors": {"random": {"success_rate": 0.123}, "mean": {"r2": {"dx": -0.5}}},
    "references": {"true_state": {"r2": {"dx": 0.99}}},
    "oracle": {"success_rate": 0.984},
    "ci95": {"success_rate": (0.832, 0.956)},
}


def test_the_table_has_floors_beside_metrics():
    lines = table({"planning": REPORT}).splitlines()
    (success,) = (line for line in lines if " success_rate " in line)
    assert success.split()[0] == "planning"
    assert "0.91 [0.832, 0.956]" in success
    assert "random 0.123, oracle 0.984" in success
    (dx,) = (line for line in lines if " r2.dx " in line)
    assert "0.875" in dx
    assert "mean -0.5, true_state 0.99" in dx
    assert "oracle" not in dx


def test_reports_without_floors_or_intervals_are_printed_too():
    assert "0.5" in table({"x": {"metrics": {"a": 0.5, "note": "text"}}}).splitlines()[1]


def described(**env):
    model = tiny_world(tiny_codec(block=5), encoder=EncoderConfig(image_size=(64, 64), patch=16, width=24, heads=2))
    model.extra["recipe"] = {
        "data": json.loads(json.dumps(ROOM, default=lambda o: vars(o)))
        | {"env": vars(ROOM.env) | {"episodes": 6, "heldout_episodes": 3} | env}
    }
    return model


def test_the_recipe_of_a_model_opens_its_data():
    config, data = data_of(described())
    assert config.block == 5
    assert config.action.ball
    assert len(data.dataset) == 6
    assert len(data.heldout_dataset) == 3
    assert data.codec.bounds.kind == "ball"


def test_other_data_than_the_recipe_s(tmp_path):
    with pytest.raises(DataError, match=rf"^{tmp_path}: no data set, found nothing; expected a LeRobot"):
        data_of(described(), str(tmp_path))


@pytest.mark.parametrize("extra", [{}, {"recipe": None}, {"recipe": {"model": {}}}, {"recipe": "two_room"}])
def test_a_model_without_a_recipe_is_one_line(extra):
    model = tiny_world()
    model.extra = extra
    with pytest.raises(ConfigError, match=r"^this model's config.json carries no recipe[^\n]*$"):
        data_of(model)


def test_a_damaged_recipe_names_its_field():
    model = described()
    model.extra["recipe"]["data"]["blok"] = 5
    with pytest.raises(CheckpointError, match=r"extra\.recipe\.data: unknown field 'blok' \(did you mean 'block'\?\)"):
        data_of(model)


def test_an_untrained_model_has_the_form_and_not_the_weights():
    model = described()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = untrained_like(model), untrained_like(model), untrained_like(model, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert one.config == model.config
    assert one.codec is model.codec
    assert one.extra == model.extra
    assert not one.training
    frames = {"image": torch.randint(0, 256, (2, 1, 3, 64, 64), dtype=torch.uint8)}
    z = [m.encode_frames(frames) for m in (one, two, other)]
    assert torch.equal(z[0], z[1])
    assert not torch.allclose(z[0], z[2])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(one.encode_frames(frames), z[0]), "the copy shares weights with the model"


def test_evaluations_run_by_name_and_only_those(monkeypatch):
    called = []
    for name in suite.EVALUATIONS:
        monkeypatch.setattr(
            suite, f"evaluate_{name}", lambda *a, name=name, **k: called.append((name, k)) or {"metrics": {}}
        )
    reports = evaluate_all(described(), ROOM, room(), ["masked", "planning", "probe"], episodes=7, seeds=2)
    assert list(reports) == [name for name, _ in called] == ["masked", "planning", "probe"]
    assert called[1][1]["episodes"] == 7
    assert called[1][1]["seeds"] == 2
    assert called[1][1]["untrained"].config == called[2][1]["untrained"].config
    expected = r"^evaluation: expected one of planning, inverse, probe, rollout, masked, found 'invers'$"
    with pytest.raises(ConfigError, match=expected):
        evaluate_all(described(), ROOM, room(), ["invers"])


def test_reports_are_written_where_asked(tmp_path):
    write_json(REPORT, tmp_path / "a" / "b.json")
    assert json.loads((tmp_path / "a" / "b.json").read_text())["oracle"] == REPORT["oracle"]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/b\.json: cannot be written: "):
        write_json(REPORT, tmp_path / "file" / "b.json")


def test_a_model_of_an_earlier_release_is_evaluated_on_its_own_split():
    released = WorldModel.from_pretrained(Path(__file__).resolve().parents[2] / "checkpoints" / "two_room")
    recipe = released.extra["recipe"]["data"]
    assert "rotation" not in recipe["action"]  # a field that came later
    recipe["env"] |= {"episodes": 4, "heldout_episodes": 3}
    config, data = data_of(released)
    assert config.action.rotation == "additive"
    assert config.block == 5
    assert len(data.heldout_dataset) == 3
    del recipe["path"]  # has no default
    with pytest.raises(CheckpointError, match=r"extra\.recipe\.data: field 'path' is missing"):
        data_of(released)
