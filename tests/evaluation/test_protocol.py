from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from jepa_actions.envs import Distractors
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.protocol import BehaviourSettings, PlanningProtocol, load_protocol

PUBLISHED = sorted((Path(__file__).parents[2] / "eval" / "protocols").rglob("*.yaml"))

OFFSET = {
    "name": "mine",
    "version": 1,
    "env": "two_room",
    "sampler": "offset",
    "offset": 10,
    "budget": 20,
    "tolerance": 4,
}


def write(tmp_path, **change):
    values = {key: value for key, value in (OFFSET | change).items() if value is not ...}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_published_protocols_load_by_name():
    offset, cross = load_protocol("two_room/offset25"), load_protocol("two_room/cross_room")
    assert (offset.name, offset.sampler, offset.offset, offset.budget) == ("two_room/offset25", "offset", 25, 50)
    assert (cross.name, cross.sampler, cross.offset, cross.budget) == ("two_room/cross_room", "cross_room", None, 200)
    for protocol in (offset, cross):
        assert protocol.layouts == "heldout"
        assert protocol.exclude_solved
        assert protocol.tolerance == 4.5
        assert protocol.rule == "ever"


def test_published_protocols_never_change():
    """A changed task is another protocol: raise `version`, and only then this hash."""
    assert load_protocol("two_room/offset25").hash[:16] == "284eeb1bf9d790e6"
    assert load_protocol("two_room/cross_room").hash[:16] == "d0d5935cf6b661b6"


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_published_protocol_has_its_name_and_pins_its_hash(path):
    protocol = load_protocol(path)
    assert protocol.name == f"{path.parent.name}/{path.stem}"
    assert protocol.env == path.parent.name
    assert yaml.safe_load(path.read_text())["hash"] == protocol.hash
    assert load_protocol(protocol.name) == protocol


def test_a_file_that_was_changed_after_its_hash_was_pinned_is_refused(tmp_path):
    pinned = load_protocol(write(tmp_path)).hash
    assert load_protocol(write(tmp_path, hash=pinned)).hash == pinned, "the hash is no part of what is hashed"
    with pytest.raises(ConfigError, match=rf"mine\.yaml, hash: found '{pinned}', expected '[0-9a-f]{{64}}'"):
        load_protocol(write(tmp_path, hash=pinned, budget=21))


def test_hash_depends_on_every_field_and_not_on_the_file(tmp_path):
    protocol = load_protocol(write(tmp_path))
    reordered = tmp_path / "other.yaml"
    reordered.write_text(yaml.safe_dump(dict(reversed(OFFSET.items()))))
    assert load_protocol(reordered).hash == protocol.hash
    changes = {
        "name": "yours",
        "version": 2,
        "env": "point_maze",
        "sampler": "stitched",
        "offset": 11,
        "budget": 21,
        "tolerance": 4.5,
        "rule": "end",
        "hold": 2,
        "route_valid": True,
        "layouts": "train",
        "episodes": 99,
        "exclude_solved": False,
        "seed_base": 1,
        "behaviour": BehaviourSettings(crossing_rate=0.1),
        "floors": ("zero",),
        "distractors": Distractors(),
    }
    assert set(changes) == {field.name for field in fields(PlanningProtocol)}
    beside = {
        "sampler": {"offset": None, "behaviour": BehaviourSettings(episodes_per_layout=2)},
        "hold": {"rule": "held"},
    }
    hashes = {replace(protocol, **{key: value}, **beside.get(key, {})).hash for key, value in changes.items()}
    assert len(hashes | {protocol.hash}) == len(changes) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgit": 3}, "unknown key 'budgit', nearest known key is 'budget'"),
        ({"behaviour": {"step": 3}}, "behaviour: found unknown key 'step', nearest known key is 'steps'"),
        ({"budget": "long"}, "budget: found 'long', expected int"),
        ({"budget": True}, "budget: found True, expected int"),
        ({"behaviour": 3}, "behaviour: found int, expected keys and values"),
        ({"version": ...}, "found no version"),
        ({"sampler": "corner"}, "sampler: found 'corner', expected offset or stitched or cross_room"),
        ({"layouts": "test"}, "layouts: found 'test'"),
        ({"offset": 121}, "offset: found 121, expected 1 to 120"),
        ({"offset": ...}, "offset: found None, expected 1 to 120"),
        ({"sampler": "cross_room"}, "offset: found 10, expected none"),
        ({"budget": 0}, "budget: found 0"),
        ({"tolerance": 0}, "tolerance: found 0.0, expected a positive number"),
        ({"success_radius": 4}, "unknown key 'success_radius'"),
        ({"rule": "always"}, "rule: found 'always', expected ever or end or held"),
        ({"hold": 3}, "hold: found 3, expected 1, or more with rule held"),
        ({"route_valid": 1}, "route_valid: found 1, expected bool"),
        ({"floors": ["randm"]}, r"floors: found \('randm',\), expected some of random, zero, straight"),
        ({"floors": "random"}, "floors: found 'random', expected a list of names"),
        ({"episodes": 0}, "episodes: found 0"),
        ({"distractors": 3}, "distractors: found int, expected keys and values"),
        ({"distractors": {"noice": 3}}, "distractors: .*noice.*did you mean noise"),
        ({"distractors": {"noise": "much"}}, "distractors: noise: expected float, found 'much'"),
        ({"distractors": {"noise": -3}}, r"distractors: .*Distractors\.noise: found -3.0, expected 0 to 128"),
        ({"sampler": "stitched", "offset": ...}, r"behaviour\.episodes_per_layout: found 1, expected at least 2"),
    ],
)
def test_bad_values_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_protocol(write(tmp_path, **change))


def test_a_file_says_what_the_room_shows_and_null_is_the_plain_room(tmp_path):
    plain, dotted = load_protocol(write(tmp_path)), {"moving_dot": True, "floor": [10, 20, 30]}
    assert load_protocol(write(tmp_path, distractors=None)).hash == plain.hash
    found = load_protocol(write(tmp_path, distractors=dotted))
    assert found.distractors == Distractors(moving_dot=True, floor=(10, 20, 30))
    assert found.hash != plain.hash


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_protocol(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not YAML") as error:
        load_protocol(broken)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="two_room/offset25"):
        load_protocol("two_room/offset52")
