"""Release a TwoRoom model: evaluate it, keep the raw rows, and write the folder with its card.

`python eval/release.py --model runs/two_room_release/model --out checkpoints/two_room`, about 5 minutes on two cores
"""

import argparse
from pathlib import Path
from typing import Any

from card import FACTS, card_of, read_facts

from jepa_actions.evaluation import evaluate_planning
from jepa_actions.evaluation.inverse import evaluate_inverse
from jepa_actions.evaluation.masked import evaluate_masked
from jepa_actions.evaluation.probe import evaluate_probe
from jepa_actions.evaluation.rollout import evaluate_rollout
from jepa_actions.evaluation.suite import data_of, table, untrained_like, write_json
from jepa_actions.models import WorldModel
from jepa_actions.training import use_all_cores


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", default="checkpoints/two_room")
    parser.add_argument("--results", default="eval/results/two_room_release", help="where raw rows go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, help="planning tasks per seed; default: the protocol's")
    options = parser.parse_args()
    use_all_cores()
    model = WorldModel.from_pretrained(options.model)
    config, data = data_of(model)
    floor = untrained_like(model)
    reports: dict[str, Any] = {
        "offset25": _planning(model, "two_room/offset25", options, floor),
        "cross_room": _planning(model, "two_room/cross_room", options),
        "inverse": evaluate_inverse(model, data),
        "probe": evaluate_probe(model, data, untrained=floor),
        "rollout": evaluate_rollout(model, data),
        "masked": evaluate_masked(model, data, config),
    }
    files = {name: f"{options.results}/{name}.json" for name in reports}
    for name, report in reports.items():
        write_json(report, files[name])
    print(table(reports))
    scores = {name: {"metrics": r["metrics"], "floors": r["floors"]} for name, r in reports.items()}
    kept = ("oracle", "ci95", "episodes", "seeds", "protocol_version", "protocol_hash")
    for name in ("offset25", "cross_room"):
        scores[name] |= {key: reports[name][key] for key in kept}
    facts = read_facts(str(FACTS / "two_room.yaml"), Path(options.out).name)
    text = card_of(model, facts, options.out, reports=tuple(files.values()))
    model.save_pretrained(options.out, card=text, extra={"scores": scores})


def _planning(
    model: WorldModel, protocol: str, options: argparse.Namespace, untrained: WorldModel | None = None
) -> dict[str, Any]:
    """A planning report with every floor of the protocol, the straight line among them."""
    return evaluate_planning(
        model, protocol, episodes=options.episodes, seeds=options.seeds, history=model.history, untrained=untrained
    )


if __name__ == "__main__":
    main()
