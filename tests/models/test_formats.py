"""Model folders as every earlier format version's own release wrote them, with what it answered (`formats/v1` to `v5`).

They were written by the package of the commits 84a3135, 61556e6, d64d5b0, 0419436 and 2cd1200.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from jepa_actions.errors import CheckpointError
from jepa_actions.models import WorldModel
from jepa_actions.models.migrations import FORMAT_VERSION, MIGRATIONS, migrations_from
from jepa_actions.models.serialize import read_config
from jepa_actions.models.share import verify_folder

FORMATS = Path(__file__).parent / "formats"
OLD = range(1, FORMAT_VERSION)


def answers(model: WorldModel) -> dict[str, torch.Tensor]:
    frames = (torch.arange(2 * 2 * 3 * 16 * 16) % 251).to(torch.uint8).view(2, 2, 3, 16, 16)
    with torch.no_grad():
        context = model.encode(frames, past_actions=torch.ones(2, 1, 4))
        rollout = model.rollout(context, torch.full((2, 3, 2, 4), 0.5))
        belief = model.infer_actions(context.z, context.z.flip(0), 1)
    return {"z": context.z, "rollout": rollout.z, "inverse": belief.mean}


@pytest.mark.parametrize("version", OLD)
def test_an_old_model_answers_what_its_own_release_answered(version):
    folder = FORMATS / f"v{version}"
    assert json.loads((folder / "config.json").read_text())["format_version"] == version
    found, expected = answers(WorldModel.from_pretrained(folder)), json.loads((folder / "answers.json").read_text())
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, torch.tensor(expected[name]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("version", OLD)
def test_an_old_model_has_nothing_to_verify_and_says_so(version):
    found = verify_folder(FORMATS / f"v{version}")
    assert not found.ok
    assert not found.failed
    assert [f"format_version {version}" in line for line in found.missing] == [False, True]


@pytest.mark.parametrize("version", OLD)
def test_an_old_model_saved_again_is_todays_and_answers_the_same(version, tmp_path):
    model = WorldModel.from_pretrained(FORMATS / f"v{version}")
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["format_version"] == FORMAT_VERSION
    assert verify_folder(tmp_path).ok
    again = answers(WorldModel.from_pretrained(tmp_path))
    for name, tensor in answers(model).items():
        assert torch.equal(tensor, again[name])


def test_every_format_has_one_named_migration():
    assert [step.to for step in MIGRATIONS] == list(range(2, FORMAT_VERSION + 1))
    assert len({step.name for step in MIGRATIONS}) == len(MIGRATIONS)
    assert [step.to for step in migrations_from(4)] == list(range(5, FORMAT_VERSION + 1))
    assert migrations_from(FORMAT_VERSION) == ()


@pytest.mark.parametrize("version", OLD)
def test_the_fields_of_each_format_are_those_that_its_release_wrote(version):
    """Migrations add what was missing and change nothing that was there."""
    saved = json.loads((FORMATS / f"v{version}" / "config.json").read_text())
    today = read_config(FORMATS / f"v{version}")
    added = {field for step in migrations_from(version) for field in step.added}

    def walk(old, new, where=""):
        for key in old.keys() | new.keys():
            place = f"{where}.{key}" if where else key
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                walk(old[key], new[key], place)
            elif key not in old:
                assert place in added
            else:
                assert new[key] == old[key], place

    walk(saved, today)


def test_a_later_field_in_an_old_format_is_refused(tmp_path):
    shutil.copytree(FORMATS / "v5", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text()) | {"golden": True}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="golden: not part of format_version 5"):
        WorldModel.from_pretrained(tmp_path / "model")
