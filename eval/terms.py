"""What each loss term is worth on TwoRoom: `python eval/terms.py [--steps 800 --seed 0 --rows full,no_masked]`.

Trains the laptop recipe once per row, with one term taken away, evaluates each the same way, and writes
`eval/results/two_room_terms.json` after every row; a row that is there already is kept.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from jepa_actions.config import load_config
from jepa_actions.evaluation import commit, evaluate_planning, hardware
from jepa_actions.evaluation.inverse import evaluate_inverse
from jepa_actions.evaluation.probe import evaluate_probe
from jepa_actions.evaluation.rollout import evaluate_rollout
from jepa_actions.evaluation.suite import data_of
from jepa_actions.models import WorldModel
from jepa_actions.resources import recipe_path
from jepa_actions.training import TrainConfig, train, use_all_cores

RESULT = Path(__file__).parent / "results" / "two_room_terms.json"
ROWS = {
    "full": [],
    "no_masked": ["--objectives.masked", "null"],
    "no_inverse": ["--objectives.inverse", "null"],
    "no_sigreg": ["--objectives.sigreg", "null"],
}
COLUMNS = ["success_rate", "success_rate_end", "inverse_r2_refit", "probe_px", "rollout_px_8", "seconds"]


def run_row(name: str, steps: int, seed: int, out: Path) -> dict[str, Any]:
    """Train and evaluate one row."""
    argv = ["--config", str(recipe_path("vjepa/two_room")), "--name", f"{name}-{seed}", "--out", str(out)]
    argv += ["--seed", str(seed), "--train.steps", str(steps), "--train.checkpoint-every", "0", *ROWS[name]]
    config = load_config(TrainConfig, argv, prog="terms")
    train(config, restart=True)
    model = WorldModel.from_pretrained(out / f"{name}-{seed}" / "model")
    _, data = data_of(model)
    planning = evaluate_planning(model, "two_room/offset25", oracle=False)
    inverse, probe, rollout = evaluate_inverse(model, data), evaluate_probe(model, data), evaluate_rollout(model, data)
    return {
        "recipe": name,
        "seed": seed,
        "steps": steps,
        "success_rate": planning["metrics"]["success_rate"],
        "success_rate_end": planning["metrics"]["success_rate_end"],
        "inverse_r2_refit": inverse["references"]["pair_refit"]["r2_mean"],
        "probe_px": probe["metrics"]["rmse_px_mean"],
        "rollout_px_8": rollout["metrics"]["px_error"]["8"],
        "seconds": planning["seconds"],
        "commit": commit(),
        "hardware": hardware(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--out", default="runs/terms")
    options = parser.parse_args()
    use_all_cores()
    for name in options.rows.split(","):
        done = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
        key = (name, options.seed, options.steps)
        if key in [(row["recipe"], row["seed"], row["steps"]) for row in done]:
            continue
        row = run_row(name, options.steps, options.seed, Path(options.out))
        done = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
        note = (
            f"{options.steps} steps per row, one seed, 100 offset25 tasks on held-out layouts; inverse R2 is that of a "
            "fresh head on the frozen encoder, so that rows without an inverse term can be compared."
        )
        RESULT.write_text(json.dumps({"note": note, "columns": COLUMNS, "rows": [*done, row]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
