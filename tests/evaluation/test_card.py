"""A model card says what the reports say, beside its floors, and what a report says cannot become markup."""

from __future__ import annotations

import copy
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from tiny_world import tiny_world

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation import parse_control
from jepa_actions.evaluation.card import CardFacts, write_card
from jepa_actions.evaluation.card_scores import control_words
from jepa_actions.evaluation.card_tables import number

REPOSITORY = Path(__file__).parents[2]
RELEASED = ("two_room", "two_room_goals", "reacher", "point_maze", "push_t", "swm_two_room")
FACTS = CardFacts("tiny", licences={"noise": "cc0-1.0"}, limits=("It is a test.",))
HASH = "c0ffee" * 10


@pytest.fixture(scope="module")
def model():
    return tiny_world()


def planning(model: Any) -> dict[str, Any]:
    """A report of one way to decide."""
    return {
        "metrics": {"success_rate": 0.8125, "success_rate_end": 0.6375, "ms_per_decision_p50": 12.345},
        "floors": {"random": {"success_rate": 0.0625, "success_rate_end": 0.0125}, "zero": {"success_rate": 0.0375}},
        "oracle": {"success_rate": 0.9875},
        "ci95": {"success_rate": [0.7119, 0.8839]},
        "episodes": 80,
        "seeds": 2,
        "control": parse_control("cem:evaluations=64").resolved(model).describe() | {"history": 1},
        "protocol": "nowhere/offset5",
        "protocol_version": 3,
        "protocol_hash": HASH,
        "hardware": {"cpu": "abacus", "cores": 2, "threads": 1, "torch": "2"},
        "commit": "0123456789abcdef",
    }


def several(model: Any) -> dict[str, Any]:
    """A report of two ways to decide."""
    one, second = planning(model), {"success_rate": 0.5875}
    names = ("cem:evaluations=64", "inverse:noise=0.5")
    changed = {
        "metrics": {names[0]: one["metrics"], names[1]: second},
        "ci95": {names[0]: one["ci95"], names[1]: {"success_rate": [0.4779, 0.6894]}},
        "controls": {name: parse_control(name).resolved(model).describe() for name in names},
    }
    del one["control"], one["oracle"]
    return one | changed


def inverse() -> dict[str, Any]:
    """A report on data."""
    return {
        "metrics": {"r2_mean": 0.912, "r2": {"dx": 0.904, "dy": 0.92}, "rows": 300},
        "floors": {"mean": {"r2_mean": -0.001, "r2": {"dx": -0.002, "dy": 0.0}}, "past": {"r2_mean": 0.411}},
        "references": {"true_state": {"r2_mean": 0.955}},
        "ci95": {"r2_mean": [0.901, 0.92], "r2": {"dx": [0.89, 0.91]}},
        "episodes": 30,
        "seeds": 1,
        "data": "noise",
        "hardware": {"cpu": "abacus", "cores": 2},
        "commit": "fedcba9876543210",
    }


def card(model: Any, reports: dict[str, Any], facts: CardFacts = FACTS, **more: Any) -> str:
    return write_card(model, reports, facts, source="models/tiny", **more)


def test_the_hub_reads_its_metadata_back(model, tmp_path):
    reports = {"a.json": planning(model), "b.json": several(model), "c.json": inverse()}
    (tmp_path / "README.md").write_text(card(model, reports))
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.license, data.pipeline_tag) == ("jepa_actions", "apache-2.0", "robotics")
    assert {"world-model", "jepa"} <= set(data.tags)
    found = {(r.dataset_type, r.metric_name): r for r in data.eval_results}
    score = found["nowhere/offset5", "success_rate, cem:evaluations=64"]
    assert (score.metric_value, score.dataset_revision) == (0.8125, HASH)
    assert score.metric_args["ci95"] == [0.7119, 0.8839]
    assert score.metric_args["floors"] == {"random": 0.0625, "zero": 0.0375}
    assert found["nowhere/offset5", "success_rate, inverse:noise=0.5"].metric_value == 0.5875
    assert found["noise", "r2_mean"].metric_value == 0.912
    assert len(data.eval_results) == 6


def numbers(values: Any) -> set[float]:
    """Every number in some JSON."""
    if isinstance(values, dict):
        return set().union(*map(numbers, values.values())) if values else set()
    if isinstance(values, list):
        return set().union(*map(numbers, values)) if values else set()
    return {values} if isinstance(values, int | float) and not isinstance(values, bool) else set()


def scored_numbers(text: str) -> list[str]:
    """Decimals in the tables of scores."""
    (scores,) = re.findall(r"## Scores\n(.*?)\n## The same", text, flags=re.DOTALL)
    rows = [line for line in scores.splitlines() if line.startswith("|")]
    return [found for row in rows for found in re.findall(r"-?\d+\.\d+", re.sub(r"`[^`]*`", "", row))]


def test_each_number_is_in_a_report_and_each_score_is_in_the_card(model):
    reports = {"a.json": planning(model), "c.json": inverse()}
    text = card(model, reports)
    known = {number(value) for value in numbers(reports)}
    assert scored_numbers(text)
    assert set(scored_numbers(text)) <= known
    for row in (
        "| `cem:evaluations=64` | 0.812 [0.712, 0.884] | 0.637 | 12.345 |",
        "| floor `random` | 0.062 | 0.013 | - |",
        "| `oracle` | 0.988 | - | - |",
        "| `r2.dx` | 0.904 [0.890, 0.910] | -0.002 | - | - |",
        "| `r2_mean` | 0.912 [0.901, 0.920] | -0.001 | 0.411 | 0.955 |",
    ):
        assert row in text, row
    assert "rows" not in re.findall(r"`r2_mean`.*", text)[0]  # a count has no floor: it is no score


def test_commands_are_those_that_make_the_reports(model):
    text = card(model, {"a.json": planning(model), "b.json": several(model), "c.json": inverse()})
    common = "--model models/tiny --protocol nowhere/offset5"
    assert f"eval/planning.py {common} --planner cem:evaluations=64 --seeds 2 --episodes 40 --json" in text
    assert f"eval/planning.py {common} --compare cem:evaluations=64 inverse:noise=0.5 --seeds 2 --episodes 40" in text
    assert "eval/inverse.py --model models/tiny --data noise --json OUT.json  # fedcba987654" in text
    assert 'WorldModel.from_pretrained("models/tiny")' in text
    for item in ("noise`: cc0-1.0", HASH, "It is a test."):
        assert item in text


@pytest.mark.parametrize(
    "words",
    ["cem", "cem:evaluations=64,proposals=8", "icem:samples=32,elites=4", "inverse:noise=0", "mppi:cost=l1,horizon=3"],
)
def test_words_of_a_control_read_back_to_it(model, words):
    described = parse_control(words).resolved(model).describe()
    assert parse_control(control_words(described, model)).resolved(model).describe() == described
    assert control_words(described | {"history": 3}, model) == words


def test_an_untrained_report_is_a_floor_of_its_own_tasks(model):
    fresh = planning(model) | {"metrics": {"success_rate": 0.0875}, "ci95": {"success_rate": [0.04, 0.17]}}
    text = card(model, {"a.json": planning(model)}, untrained={"u.json": fresh})
    assert "| floor `untrained, cem:evaluations=64` | 0.087 | - | - |" in text
    for other in ({"protocol_hash": "0" * 64}, {"episodes": 40}):
        with pytest.raises(ConfigError, match=r"u\.json: protocol_hash: found .* expected those of a\.json"):
            card(model, {"a.json": planning(model)}, untrained={"u.json": fresh | other})


@pytest.mark.parametrize(
    ("report", "path", "value", "says"),
    [
        ("planning", ["floors"], None, "floors: found none"),
        ("planning", ["floors"], {}, "floors: found {}"),
        ("planning", ["protocol_hash"], None, "protocol_hash: found none, expected text"),
        ("planning", ["protocol"], None, "protocol: found none, expected a protocol's name, with its hash; or data"),
        ("planning", ["metrics", "success_rate"], 1.5, "metrics.success_rate: found 1.5, expected a share"),
        ("planning", ["metrics", "success_rate"], "0.9", "metrics.success_rate: found '0.9', expected a finite number"),
        ("planning", ["metrics", "success_rate"], float("nan"), "metrics.success_rate: found nan"),
        ("planning", ["metrics", "success_rate"], True, "metrics.success_rate: found True"),
        ("planning", ["floors", "random", "success_rate"], None, "floors.random.success_rate: found none"),
        ("planning", ["oracle", "success_rate"], 2, "oracle.success_rate: found 2"),
        ("planning", ["ci95"], None, "ci95.success_rate: found none, expected the two ends of an interval"),
        ("planning", ["ci95", "success_rate"], [0.9, 0.95], "ci95.success_rate: found [0.9, 0.95]"),
        ("planning", ["episodes"], 0, "episodes: found 0, expected an integer of at least 1"),
        ("planning", ["seeds"], None, "seeds: found none"),
        ("planning", ["commit"], " ", "commit: found ' ', expected text"),
        ("planning", ["hardware"], None, "hardware: found none"),
        ("planning", ["control"], None, "control: found none"),
        ("planning", ["control", "planner"], "guess", "control: found {'planner': 'guess'"),
        ("planning", ["control", "settings"], 3, "control: found {'planner': 'cem'"),
        ("several", ["ci95", "inverse:noise=0.5"], None, "ci95.inverse:noise=0.5.success_rate: found none"),
        ("several", ["controls", "inverse:noise=0.5"], None, "controls.inverse:noise=0.5: found none"),
        ("inverse", ["floors"], None, "floors: found none"),
        (
            "inverse",
            ["floors"],
            {"mean": {"other": 1.0}},
            "floors: found {'mean': {'other': 1.0}}, expected the metric",
        ),
        ("inverse", ["metrics", "r2", "dx"], [1], "metrics.r2.dx: found [1], expected a finite number"),
        ("inverse", ["data"], None, "protocol: found none"),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_its_file(model, report, path, value, says):
    values = {"planning": planning, "several": several}[report](model) if report != "inverse" else inverse()
    values = copy.deepcopy(values)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    if value is None:
        del inner[path[-1]]
    with pytest.raises(ConfigError) as found:
        card(model, {"eval/results/x.json": values})
    assert str(found.value).startswith(f"eval/results/x.json: {says}")
    assert "\n" not in str(found.value)


def test_no_report_no_licence_and_no_command_are_errors(model):
    with pytest.raises(ConfigError, match="found no report"):
        card(model, {})
    with pytest.raises(ConfigError, match="licences: found none of the training data"):
        card(model, {"c.json": inverse()}, CardFacts("tiny"))
    trained = tiny_world()
    trained.extra = {"recipe": {"data": {"path": "somebody/set", "also": ["env:two_room", "more"]}}}
    with pytest.raises(ConfigError, match="licences: found none of somebody/set, more, expected one for each"):
        card(trained, {"c.json": inverse()})
    text = card(trained, {"c.json": inverse()}, CardFacts("tiny", licences={"somebody/set": "mit", "more": "mit"}))
    assert "| trained on | `env:two_room`: apache-2.0" in text
    unknown = inverse()
    unknown["metrics"], unknown["floors"] = {"novel": 1.0}, {"mean": {"novel": 0.5}}
    with pytest.raises(ConfigError, match=r"c\.json: found no command that makes it"):
        card(model, {"c.json": unknown})
    given = CardFacts("tiny", licences={"noise": "cc0-1.0"}, commands={"c.json": "python novel.py"})
    assert "python novel.py  # fedcba987654" in card(model, {"c.json": unknown}, given)


HOSTILE = (
    "x\n---\nlicense: mit\n",
    "a | b\n| c | 1.000 |",
    "`; rm -rf ~ #\n```\n# Heading",
    "<script>alert(1)</script>",
    "[click](javascript:1) ![](http://x)",
    "!!python/object:os.system {a: &a [*a]}",
    "\x00\x1b[31m\u2028\u202e'\"\\",
    "$(touch /tmp/owned)",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_report_adds_no_key_no_cell_and_no_markup(model, tmp_path, text):
    plain, hostile = planning(model), planning(model)
    hostile |= {"protocol": text, "protocol_hash": text, "commit": text}
    hostile["hardware"] = hostile["hardware"] | {"cpu": text}
    hostile["floors"] = {text: {"success_rate": 0.0625}}
    data = inverse() | {"data": text}
    data["metrics"], data["floors"] = {text: 1.0, "r2_mean": 1.0}, {text: {text: 0.5, "r2_mean": 0.5}}
    data["ci95"] = {}
    trained = tiny_world()
    trained.extra = {"recipe": {"name": text, "data": {"path": text}, "train": {"steps": text}}}
    facts = CardFacts(text, license=text, licences={text: text}, datasets=(text,))
    written = write_card(trained, {text: hostile, f"{text}2": data}, facts, source=text)
    honest = write_card(trained, {"a": plain, "b": inverse()}, facts, source="m")
    (tmp_path / "README.md").write_text(written)
    loaded = ModelCard.load(tmp_path / "README.md").data
    assert set(loaded.to_dict()) == set(ModelCard(honest).data.to_dict())
    assert loaded.library_name == "jepa_actions"
    assert [r.metric_value for r in loaded.eval_results if r.metric_type == "success_rate"] == [0.8125]
    page = written.split("\n---\n", 1)[1]
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert len(headings) == 8  # the title, five parts, two reports
    assert sum(line.startswith("```") for line in page.splitlines()) == 4
    outside = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    for row in (line for line in outside.splitlines() if line.startswith("|")):
        assert row.endswith("|")
    for table in re.findall(r"(?:^\|.*\n)+", outside, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    bare = re.sub(r"`[^`]*`", "", outside)
    assert "<script" not in bare
    assert not re.search(r"(?<!\\)\[[^\]]*(?<!\\)\]\(", bare)
    assert all(c.isprintable() or c == "\n" for c in page)


def test_a_hostile_protocol_is_one_word_to_the_shell(model, tmp_path):
    report = planning(model) | {"protocol": f"$(touch {tmp_path}/owned); touch {tmp_path}/owned2 `touch {tmp_path}/o3`"}
    text = card(model, {"a.json": report})
    (line,) = [line for line in text.splitlines() if line.startswith("python eval/")]
    subprocess.run(["bash", "-c", line.replace("python", "true", 1)], check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def command() -> Callable[..., int]:
    """`eval/card.py` with options, in this process; paths are relative to the repository."""
    sys.path.insert(0, str(REPOSITORY / "eval"))
    try:
        main: Callable[[list[str]], int] = importlib.import_module("card").main
    finally:
        sys.path.remove(str(REPOSITORY / "eval"))
    return lambda *options: main(list(options))


@pytest.mark.parametrize("name", RELEASED)
def test_released_cards_are_those_of_their_rows(command, monkeypatch, name, tmp_path):
    """Written anew they are the same, so that no number in them was typed."""
    folder, out = REPOSITORY / "checkpoints" / name, tmp_path / "README.md"
    if not folder.is_dir():
        pytest.skip("no released checkpoint in this tree")
    monkeypatch.chdir(REPOSITORY)
    facts = f"eval/cards/{name}.yaml"
    assert command("--model", f"checkpoints/{name}", "--facts", facts, "--out", str(out)) == 0
    assert out.read_text() == (folder / "README.md").read_text()
    listed = re.findall(r"eval/results/\S+?\.json", Path(facts).read_text())
    known = {number(value) for value in numbers([json.loads(Path(file).read_text()) for file in set(listed)])}
    assert set(scored_numbers(out.read_text())) <= known


def test_the_command_writes_a_card_of_ones_own_model_and_names_faults_in_one_line(model, command, tmp_path, capsys):
    model.save_pretrained(tmp_path / "mine")
    report = tmp_path / "r.json"
    report.write_text(json.dumps(inverse()))
    given = ["--model", str(tmp_path / "mine"), "--reports", str(report)]
    assert command(*given, "--licence", "noise=cc-by-4.0") == 0
    text = (tmp_path / "mine" / "README.md").read_text()
    assert "`noise`: cc-by-4.0" in text
    assert ModelCard(text).data.model_name == "mine"
    report.write_text("{")
    capsys.readouterr()
    for options, says in (
        ((), f"error: {report}: not JSON"),
        (("--licence", "mit"), "error: --licence: found 'mit', expected DATA=LICENCE"),
        (("--facts", "nowhere.yaml"), "nowhere.yaml"),
    ):
        assert command(*given, *options) == 2
        said = capsys.readouterr().err
        assert says in said
        assert len(said.strip().splitlines()) == 1
    assert (tmp_path / "mine" / "README.md").read_text() == text
