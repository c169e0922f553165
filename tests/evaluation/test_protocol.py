from dataclasses import replace

import pytest
import yaml

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.protocol import BehaviourSettings, load_protocol

OFFSET = {
    "name": "mine",
    "version": 1,
    "env": "two_room",
    "sampler": "offset",
    "offset": 10,
    "budget": 20,
    "success_radius": 4,
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
        assert protocol.success_radius == 4.5


def test_published_protocols_never_change():
    """A changed task is another protocol: raise `version`, and only then this hash."""
    assert load_protocol("two_room/offset25").hash[:16] == "be6ca790730a315c"
    assert load_protocol("two_room/cross_room").hash[:16] == "0cf4db082b4007e6"


def test_hash_depends_on_every_field_and_not_on_the_file(tmp_path):
    protocol = load_protocol(write(tmp_path))
    reordered = tmp_path / "other.yaml"
    reordered.write_text(yaml.safe_dump(dict(reversed(OFFSET.items()))))
    assert load_protocol(reordered).hash == protocol.hash
    changes = [
        {"budget": 21},
        {"seed_base": 1},
        {"exclude_solved": False},
        {"behaviour": BehaviourSettings(crossing_rate=0.1)},
    ]
    hashes = {replace(protocol, **change).hash for change in changes}
    assert len(hashes | {protocol.hash}) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgit": 3}, "unknown key 'budgit', nearest known key is 'budget'"),
        ({"behaviour": {"step": 3}}, "behaviour: found unknown key 'step', nearest known key is 'steps'"),
        ({"budget": "long"}, "budget: found 'long', expected int"),
        ({"budget": True}, "budget: found True, expected int"),
        ({"behaviour": 3}, "behaviour: found int, expected keys and values"),
        ({"version": ...}, "found no version"),
        ({"sampler": "corner"}, "sampler: found 'corner', expected offset or cross_room"),
        ({"layouts": "test"}, "layouts: found 'test'"),
        ({"offset": 121}, "offset: found 121, expected 1 to 120"),
        ({"offset": ...}, "offset: found None, expected 1 to 120"),
        ({"sampler": "cross_room"}, "offset: found 10, expected none"),
        ({"budget": 0}, "budget: found 0"),
        ({"success_radius": 0}, "success_radius: found 0.0"),
    ],
)
def test_bad_values_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_protocol(write(tmp_path, **change))


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
