"""Where a step goes: parts add up, a slow part shows, and nothing is left behind."""

import json
import time

import pytest
from tiny_world import tiny_recipe

from jepa_actions.errors import ConfigError
from jepa_actions.training import Ema
from jepa_actions.training.step_clock import PARTS
from jepa_actions.training.step_profile import NAMES, profile, profile_table, write_profile

SLOW = 0.05


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The profile of a recipe whose EMA sleeps."""
    out = tmp_path_factory.mktemp("profile")
    update = Ema.update

    def slow(self, step):
        time.sleep(SLOW)
        update(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ema, "update", slow)
        return out, profile(tiny_recipe(out, log_every=10, checkpoint_every=100), 8, quiet=True)


def test_parts_add_up_to_the_step(found):
    report = found[1]
    assert set(report["milliseconds"]) == set(PARTS) == set(NAMES)
    assert sum(report["milliseconds"].values()) == pytest.approx(report["step_ms"])
    assert sum(report["share"].values()) == pytest.approx(1.0)
    assert report["steps"] == 8
    for part in ("data", "forward", "backward", "clip", "optimiser", "meters", "row", "checkpoint"):
        assert report["milliseconds"][part] > 0.0


def test_a_slow_part_shows_and_counts_as_the_loops(found):
    report = found[1]
    assert report["milliseconds"]["ema"] > 0.9e3 * SLOW  # how much more, a busy machine decides
    compute = sum(report["share"][part] for part in ("data", "forward", "backward", "optimiser"))
    assert report["loop_overhead"] == pytest.approx(1.0 - compute)
    assert report["loop_overhead"] > report["share"]["ema"]


def test_rare_parts_are_shared_among_the_steps_between(found):
    report = found[1]
    for part, every in (("meters", 10), ("row", 10), ("checkpoint", 100)):
        assert report["every"][part] == every
        assert report["milliseconds"][part] == pytest.approx(report["once_ms"][part] / every)


def test_the_table_and_the_json_say_the_same_and_no_run_is_left(found):
    out, report = found
    lines = profile_table(report).splitlines()
    assert {line[:22].strip() for line in lines[1:-3]} == set(NAMES.values())
    assert lines[-2].endswith(f"{report['loop_overhead']:.2%}")
    assert lines[-1].startswith("memory ")
    assert list((out / "run").iterdir()) == []
    assert json.loads(write_profile(report, out / "run").read_text()) == report


def test_what_a_step_keeps_in_memory_is_told(found):
    memory = found[1]["memory"]
    assert memory["measured"] == "cpu"
    parts = [memory[part] for part in ("weights", "gradients", "optimizer", "target", "activations")]
    assert all(part > 0 for part in parts)
    assert memory["total"] == sum(parts)
    assert 1.9 < memory["optimizer"] / memory["gradients"] < 2.1  # AdamW has two moments


def test_too_few_steps_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--profile: found 2 steps, expected at least 4"):
        profile(tiny_recipe(tmp_path), 2)
