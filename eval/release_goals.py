"""Release a model of `recipes/goals`: evaluate it on a protocol, keep the raw rows, write the folder with its card.

python eval/release_goals.py --model runs/reacher_goals/model --protocol reacher/offset25 --out checkpoints/reacher
"""

import argparse
from pathlib import Path
from typing import Any

from jepa_actions.evaluation.compare import compare_planning, comparison_table
from jepa_actions.evaluation.control import parse_control
from jepa_actions.evaluation.inverse import evaluate_inverse
from jepa_actions.evaluation.planning import evaluate_planning
from jepa_actions.evaluation.suite import data_of, untrained_like, write_json
from jepa_actions.models import WorldModel
from jepa_actions.training import use_all_cores

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--protocol", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--planners", nargs="+", default=["cem:evaluations=256", "inverse"])
    options = parser.parse_args()
    use_all_cores()
    model = WorldModel.from_pretrained(options.model)
    _, data = data_of(model)
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
    inverse = evaluate_inverse(model, data)
    for name, report in (("compare", compared), ("untrained", floor), ("inverse", inverse)):
        write_json(report, results / f"{name}.json")
    scores = {
        key: compared[key] for key in ("metrics", "floors", "ci95", "episodes", "seeds", "protocol", "protocol_hash")
    }
    text = card(model, options.protocol, Path(options.out), compared, floor, inverse)
    model.save_pretrained(options.out, card=text, extra={"scores": scores})


def card(
    model: WorldModel,
    protocol: str,
    out: Path,
    compared: dict[str, Any],
    floor: dict[str, Any],
    inverse: dict[str, Any],
) -> str:
    """The model card: what it is, its scores beside their floors, and how they were made."""
    rows = []
    for name, metrics in compared["metrics"].items():
        low, high = compared["ci95"][name]["success_rate"]
        rows.append(
            f"| `{name}` | {metrics['success_rate']:.3f} [{low:.3f}, {high:.3f}] | {metrics['success_rate_end']:.3f} | "
            f"{metrics['ms_deciding_p50']:.2f} |"
        )
    floors = ", ".join(f"{name} {numbers['success_rate']:.3f}" for name, numbers in compared["floors"].items())
    count = sum(parameter.numel() for parameter in model.parameters())
    recipe = model.extra["recipe"]
    return f"""---
library_name: jepa_actions
license: apache-2.0
tags: [world-model, jepa, inverse-dynamics, planning]
---
# {out.name}: a world model with a temporal distance and a goal-conditioned inverse head

{count:,} parameters. Encoder, dynamics, inverse heads and temporal distance on one latent, trained on behaviour in
`{recipe["data"]["path"]}` that is not expert ({recipe["train"]["steps"]} steps of the last stage). It sees pictures
alone and never draws a pixel.

`{protocol}`, {compared["episodes"]} tasks (`python eval/release_goals.py --protocol {protocol} ...`; raw rows in
`eval/results/{out.name}/`):

| planner | success, ever [95 % Wilson] | at the end | ms per decision, encoding apart |
|---|---|---|---|
{chr(10).join(rows)}

Floors: {floors}, the same form untrained {floor["metrics"]["success_rate"]:.3f}. The straight-line floor is told the
simulator's state. Inverse head: R2 of a block's mean action {inverse["metrics"]["r2_mean"]:.3f} (shuffled pairs
{inverse["floors"]["shuffled_pairs"]["r2_mean"]:.2f}).
"""


if __name__ == "__main__":
    main()
