"""A model card from evaluation reports: metadata that the Hub indexes, and where each number comes from."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.card_scores import Scored, read_scores, with_untrained
from jepa_actions.evaluation.card_tables import code, commands, plain, prose, tables
from jepa_actions.models import WorldModel

TAGS = ("world-model", "jepa", "inverse-dynamics", "planning", "jepa_actions")
OWN = "apache-2.0, made by this library's own environment"


@dataclass(frozen=True)
class CardFacts:
    """What no report can say of a model."""

    name: str
    about: str = ""  # one paragraph, markdown
    license: str = "apache-2.0"  # of the weights, an identifier of the Hub
    # What it was trained on, and its licence; `env:NAME` is this library's own and needs none.
    licences: dict[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()  # of these, the ids on the Hub
    limits: tuple[str, ...] = ()  # a sentence each, markdown
    # The command that made a report, by its file, where it is not an evaluation of `eval/`.
    commands: dict[str, str] = field(default_factory=dict)


def write_card(
    model: WorldModel,
    reports: Mapping[str, Any],
    facts: CardFacts,
    *,
    source: str,
    untrained: Mapping[str, Any] | None = None,
) -> str:
    """The text of a `README.md`: YAML metadata with a `model-index`, then the page.

    Each score is a number of a report, rounded in the tables and whole in the metadata. Text of a report, and of the
    model's `config.json`, becomes code, words of a table or YAML strings: it can add neither keys nor markup.

    Arguments:
        model: what the reports are of; its configuration, codec and recipe are described.
        reports: parsed JSON of `eval/planning.py`, `eval/inverse.py` and so on, by file name.
        facts: what no report says.
        source: the folder or Hub id that commands and the line that loads the model name.
        untrained: reports of the same form untrained, by file name: a floor of the tasks that they were played on.

    Raises: ConfigError for no report; for one that lacks a field (see `read_scores`), naming file and field; for a
        report whose command is not known; and for training data without a licence in `facts`.
    """
    if not reports:
        raise ConfigError("model card: found no report, expected at least one")
    scored = [read_scores(file, report, model) for file, report in reports.items()]
    for file, report in (untrained or {}).items():
        scored = with_untrained(scored, file, report, model)
    parts = [
        f"# {prose(facts.name)}\n\n{facts.about.strip()}".strip(),
        "## Load and plan\n\n" + _loading(model, source),
        "## What it is\n\n" + _description(model, _trained_on(model, facts)),
        "## Scores\n\n" + tables(scored),
        "## The same numbers again\n\n" + commands(scored, facts.commands, source, list(untrained or {})),
        "## Known limits\n\n" + _limits(model, scored, facts),
    ]
    return f"---\n{_metadata(scored, facts)}\n---\n" + "\n\n".join(parts) + "\n"


def _metadata(scored: Sequence[Scored], facts: CardFacts) -> str:
    """The YAML between the lines of dashes."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="robotics",
            task_name="Planning to a goal image" if one.protocol_hash else "Latent world model",
            dataset_type=plain(one.subject),
            dataset_name=plain(f"{one.subject}, {one.episodes} tasks" if one.protocol_hash else one.subject),
            dataset_revision=plain(one.protocol_hash) if one.protocol_hash else None,
            dataset_args={"episodes": one.episodes, "seeds": one.seeds},
            metric_type=plain(score.metric),
            metric_name=plain(f"{score.metric}, {score.label}" if one.protocol_hash else score.label),
            metric_value=score.value,
            metric_args={
                "ci95": None if score.interval is None else list(score.interval),
                "floors": {plain(name): value for name, value in score.floors.items()},
                "commit": plain(one.commit),
            },
        )
        for one in scored
        for score in one.scores
    ]
    data = ModelCardData(
        library_name="jepa_actions",
        license=plain(facts.license),
        pipeline_tag="robotics",
        tags=list(TAGS),
        datasets=[plain(name) for name in facts.datasets] or None,
        model_name=plain(facts.name),
        eval_results=results,
    )
    return str(data.to_yaml())


def _trained_on(model: WorldModel, facts: CardFacts) -> dict[str, str]:
    """Licences by what was trained on, as the recipe in the model says, and what `facts` adds."""
    recipe = model.extra.get("recipe")
    data = recipe.get("data") if isinstance(recipe, dict) else None
    used: list[str] = []
    if isinstance(data, dict):
        used = [str(data.get("path")), *map(str, data.get("also") or ()), *map(str, data.get("video") or ())]
    if model.config.backbone is not None:
        used.append(model.config.backbone.name)
    found = {name: OWN for name in used if name.startswith("env:")}
    missing = [name for name in used if name not in found and name not in facts.licences]
    if missing or not (used or facts.licences):
        raise ConfigError(
            f"model card: licences: found none of {', '.join(map(plain, missing)) or 'the training data'}, expected "
            "one for each data set and backbone that the model was trained on (licences in the facts, or --licence)"
        )
    return found | facts.licences


def _loading(model: WorldModel, source: str) -> str:
    place = json.dumps(plain(source))
    lines = [
        "```python",
        "from jepa_actions import WorldModel, plan",
        "",
        f"model = WorldModel.from_pretrained({place})",
    ]
    if model.codec is not None:
        lines.append('print(plan(model, frame, goal)["actions"])  # raw units, one row per environment step')
    height, width = model.config.image_size
    named = ", ".join(map(code, model.config.cameras))
    several = f", in a dict by camera: {named}" if len(model.config.cameras) > 1 else ""
    lines += ["```", "", f"`frame` and `goal` are uint8 RGB tensors (3, {height}, {width}){several}."]
    if model.codec is not None and not several:
        command = f"jepa-actions plan --model {shlex.quote(plain(source))} --frame now.png --goal goal.png"
        lines.append(f"On the command line: {code(command)}.")
    return "\n".join(lines)


def _description(model: WorldModel, data: Mapping[str, str]) -> str:
    config, codec, recipe = model.config, model.codec, model.extra.get("recipe")
    height, width = config.image_size
    encoder = f"patches of {config.encoder.patch}" if config.backbone is None else code(config.backbone.name)
    parts = ["encoder", *(["masked predictor"] if model.predictor is not None else [])]
    if codec is not None:
        optional = {
            "temporal distance": config.distance,
            "goal-conditioned inverse head": config.goal_inverse,
            "imagined sub-goals": config.subgoal,
        }
        parts += [f"{config.dynamics.kind} dynamics of {model.history} frame(s)", "inverse head"]
        parts += [name for name, there in optional.items() if there is not None]
    rows = [
        ("parameters", f"{sum(weights.numel() for weights in model.parameters()):,}"),
        ("pictures", f"{', '.join(map(code, config.cameras))}, {height} x {width} px, {encoder}"),
        ("parts", ", ".join(parts)),
    ]
    if codec is not None:
        names = ", ".join(map(code, codec.names))
        rows.append(("actions", f"{names}; {codec.block} raw action(s) per model step; bounds: a {codec.bounds.kind}"))
    if isinstance(recipe, dict) and isinstance(recipe.get("train"), dict):
        rows.append(
            ("recipe", f"{code(recipe.get('name'))}, {prose(recipe['train'].get('steps'))} steps, its last stage")
        )
    rows += [("trained on", f"{code(name)}: {prose(licence)}") for name, licence in data.items()]
    table = "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])
    seen = "pictures and proprio" if config.dynamics.proprio else "pictures alone"
    return f"{table}\n\nIt sees {seen}, and nothing in it draws a pixel."


def _limits(model: WorldModel, scored: Sequence[Scored], facts: CardFacts) -> str:
    lines = list(facts.limits)
    if model.codec is not None:
        lines.append("Plans stay inside the action bounds stored with the model, by default the support of its data.")
    if model.config.backbone is None:
        lines.append("Pictures of another size are refused; another camera, scene or lighting was not tried.")
    if any(one.protocol_hash for one in scored):
        lines.append("Success is by the rule and tolerance of the protocols above, and says nothing of other tasks.")
    lines.append("One training run: how much scores differ between training seeds is not in these intervals.")
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)
