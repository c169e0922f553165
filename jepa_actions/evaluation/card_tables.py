"""The tables and commands of a model card, and how text of others is written into it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.card_scores import END, MILLISECONDS, SUCCESS, Score, Scored
from jepa_actions.evaluation.protocol import load_protocol

LONGEST = 200  # characters of somebody else's text that stand in a line
LEGEND = {
    "random": "uniform random actions",
    "zero": "no action",
    "straight": "straight at the goal, told the simulator's state and blind to walls",
    "untrained": "the same form with fresh weights",
    "oracle": "the same planner in the true simulator",
    "mean": "the training data's mean",
    "episode_mean": "the episode's mean",
    "shuffled_pairs": "the head, shown frames that do not belong together",
    "z_now": "a head that sees the first frame alone",
    "z_next": "a head that sees the second frame alone",
    "past": "a head that sees past frames alone",
    "pair_refit": "a fresh head of the same form on both frames",
    "true_state": "a head on the simulator's state",
    "copy_last": "nothing moves",
    "shuffled_actions": "another clip's actions",
    "nearest_visible": "the nearest feature that is not hidden",
    "nearest_visible_full_clip": "the same, of an encoder that has seen the whole clip",
    "mean_feature": "the mean of all features",
    "latent_l2": "Euclidean distance of the latents",
}


def plain(text: Any) -> str:
    """One line of printable characters, cut where it is long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def code(text: Any) -> str:
    """Text as markdown code, inside a table too: nothing in it is markup."""
    return "`" + plain(text).replace("`", "'").replace("|", "\\|") + "`"


def prose(text: Any) -> str:
    """Text as words of a table: no tags, no new cell, no link."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain(text)).replace("<", "&lt;")


def number(value: float) -> str:
    """Three decimals, or four digits of a large one."""
    found = f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
    return found.removeprefix("-") if float(found) == 0 else found


def tables(scored: Sequence[Scored]) -> str:
    """A table per protocol and setting, those on data, and what the floors are."""
    settings: dict[Any, list[Scored]] = {}
    for one in scored:
        settings.setdefault(one.setting if one.protocol_hash else (one.file,), []).append(one)
    parts = [_planning(group) if group[0].protocol_hash else _on_data(group[0]) for group in settings.values()]
    named = {re.split(r"\W", name)[0] for one in scored for name in [*one.floors, *_references(one)]}
    named |= {"oracle"} if any(one.oracle is not None for one in scored) else set()
    shown = [f"- {code(name)}: {words}" for name, words in LEGEND.items() if name in named]
    return "\n\n".join([*parts, *(["Floors and references:\n\n" + "\n".join(shown)] if shown else [])])


def commands(scored: Sequence[Scored], given: Mapping[str, str], source: str, untrained: Sequence[str]) -> str:
    """A command per report, with the commit that it was run at.

    Arguments:
        given: commands by report file, where they are others than those of `eval/`.
        source: what `--model` is.
        untrained: files of the untrained floor.

    Raises: ConfigError for a report whose command is not known.
    """
    lines, changed = [], []
    for one in scored:
        command = plain(given[one.file]) if one.file in given else _command(one, source)
        lines.append(f"{command}  # {plain(one.commit)[:12]}")
        changed += _other_today(one)
    text = "```bash\n" + "\n".join(dict.fromkeys(lines)) + "\n```\n\nBehind each stands the commit it was run at."
    for file in untrained:
        text += f" The untrained floor ({code(file)}) is one that `eval/planning.py` plays with a single `--planner`."
    return "\n".join([text, *dict.fromkeys(changed)])


def _planning(group: Sequence[Scored]) -> str:
    one = group[0]
    version = f" version {one.version}," if one.version is not None else ""
    lines = [
        f"### {code(one.subject)}\n",
        f"{one.episodes} tasks of {one.seeds} task seed(s);{version} protocol hash {code(one.protocol_hash)}; commit "
        f"{code(one.commit)}; {code(one.hardware)}; rows in {', '.join(code(member.file) for member in group)}\n",
        "| decides | success [95 % interval] | at the end of the episode | ms per decision |",
        "|---|---|---|---|",
    ]
    for score in (score for member in group for score in member.scores):
        numbers = f"{_cell(score.beside, END)} | {_cell(score.beside, MILLISECONDS)}"
        lines.append(f"| {code(score.label)} | {_value(score)} | {numbers} |")
    beside = {f"floor {code(name)}": numbers for name, numbers in one.floors.items()}
    if one.oracle is not None:
        beside[code("oracle")] = one.oracle
    lines += [f"| {name} | {_cell(numbers, SUCCESS)} | {_cell(numbers, END)} | - |" for name, numbers in beside.items()]
    return "\n".join(lines)


def _on_data(one: Scored) -> str:
    floors = list(dict.fromkeys(name for score in one.scores for name in score.floors))
    beside = _references(one)
    head = [
        "metric",
        "model [95 % interval]",
        *(f"floor {code(name)}" for name in floors),
        *(f"reference {code(name)}" for name in beside),
    ]
    lines = [
        f"### {(one.command or 'evaluation').capitalize()}, held out of {code(one.subject)}\n",
        f"{one.episodes} episodes, clips or pairs; commit {code(one.commit)}; {code(one.hardware)}; {code(one.file)}\n",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    for score in one.scores:
        cells = [code(score.label), _value(score)]
        cells += [_cell(score.floors, name) for name in floors] + [_cell(score.beside, name) for name in beside]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _references(one: Scored) -> list[str]:
    """What stands beside the metrics on data; beside success it is more of the same planner."""
    return [] if one.protocol_hash else list(dict.fromkeys(name for score in one.scores for name in score.beside))


def _value(score: Score) -> str:
    interval = "" if score.interval is None else f" [{number(score.interval[0])}, {number(score.interval[1])}]"
    return number(score.value) + interval


def _cell(numbers: Mapping[str, float], name: str) -> str:
    return number(numbers[name]) if name in numbers else "-"


def _command(one: Scored, source: str) -> str:
    if one.command in (None, "distance"):  # which is told a protocol that its report does not name
        raise ConfigError(f"{one.file}: found no command that makes it, expected one in the facts (commands)")
    words = ["python", f"eval/{one.command}.py", "--model", source]
    words += ["--protocol" if one.protocol_hash else "--data", one.subject]
    if one.protocol_hash:
        words += ["--compare", *one.controls] if len(one.controls) > 1 else ["--planner", *one.controls]
        words += ["--seeds", str(one.seeds), "--episodes", str(one.episodes // one.seeds)]
    elif one.controls:
        words += ["--planner", *one.controls, "--episodes", str(one.episodes)]
    return shlex.join([plain(word) for word in [*words, "--json", "OUT.json"]])


def _other_today(one: Scored) -> list[str]:
    """A sentence where the protocol of this name is another one today."""
    try:
        today = load_protocol(one.subject) if one.protocol_hash else None
    except ConfigError:
        return []  # of somebody else
    if today is None or today.hash == one.protocol_hash:
        return []
    return [f"{code(one.subject)} is another protocol today, version {today.version}: these numbers need that commit."]
