"""Release a model of `recipes/goals`: evaluate it on a protocol, keep the raw rows, write the folder with its card.

python eval/release_goals.py --model runs/reacher_goals/model --protocol reacher/offset25 --out checkpoints/reacher

What another framework evaluates (`eval/swm_two_room.py`) is released from its rows, which facts in `eval/cards` list:

python eval/release_goals.py --model runs/swm_two_room_goals/model --rows --out checkpoints/swm_two_room
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from card import FACTS, CardFile, card_of, read_facts, read_reports

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.card_scores import control_words
from jepa_actions.evaluation.compare import compare_planning, comparison_table
from jepa_actions.evaluation.control import parse_control
from jepa_actions.evaluation.inverse import evaluate_inverse
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.suite import data_of, untrained_like, write_json
from jepa_actions.models import WorldModel
from jepa_actions.training import use_all_cores

RESULTS = Path("eval/results")
SHARED = ("episodes", "seeds", "protocol", "protocol_hash")


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--protocol")
    parser.add_argument("--rows", action="store_true", help="evaluate nothing: the reports of eval/cards/OUT.yaml")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--planners", nargs="+", default=["cem:evaluations=256", "inverse"])
    options = parser.parse_args()
    if options.rows == (options.protocol is not None):
        parser.error("expected --protocol P, or --rows")
    use_all_cores()
    model = WorldModel.from_pretrained(options.model)
    name = Path(options.out).name
    written = FACTS / f"{name}.yaml"
    facts = read_facts(str(written) if written.is_file() else None, name)
    if options.rows:
        scores = merged_scores(read_reports(facts.reports), model)
        text = card_of(model, facts, options.out)
    else:
        scores, text = evaluated(model, facts, options)
    model.save_pretrained(options.out, card=text, extra={"scores": scores})


def evaluated(model: WorldModel, facts: CardFile, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Evaluate and keep the rows; the scores for `config.json`, and the card."""
    results = RESULTS / Path(options.out).name
    compared = compare_planning(
        model,
        options.protocol,
        {words: parse_control(words) for words in options.planners},
        seeds=options.seeds,
        history=model.history,
    )
    print(comparison_table(compared))
    floor = evaluate_planning(
        untrained_like(model),
        options.protocol,
        control=parse_control(options.planners[0]),
        seeds=options.seeds,
        history=model.history,
        oracle=False,
    )
    _, data = data_of(model)
    made = {"compare": compared, "untrained": floor, "inverse": evaluate_inverse(model, data)}
    for name, report in made.items():
        write_json(report, results / f"{name}.json")
    files = {name: str(results / f"{name}.json") for name in made}
    listed = facts.reports or (files["compare"], files["inverse"])
    text = card_of(model, facts, options.out, reports=listed, untrained=(files["untrained"],))
    return {key: compared[key] for key in ("metrics", "floors", "ci95", *SHARED)}, text


def merged_scores(reports: Mapping[str, Any], model: WorldModel) -> dict[str, Any]:
    """The scores for `config.json` of reports of one way to decide each, on the same tasks with the same floors."""
    found: dict[str, Any] = {"metrics": {}, "floors": None, "ci95": {}}
    for file, report in reports.items():
        shared = {key: report[key] for key in ("floors", *SHARED)}
        if found["floors"] is not None and any(found[key] != value for key, value in shared.items()):
            raise ConfigError(f"{file}: found other tasks or floors than in the first report, expected the same")
        words = control_words(report["control"], model)
        found |= shared
        found["metrics"][words], found["ci95"][words] = report["metrics"], report["ci95"]
    return found


if __name__ == "__main__":
    main()
