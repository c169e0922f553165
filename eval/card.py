"""Write a model's card from evaluation reports (docs/model_card.md).

python eval/card.py --model M --reports A.json B.json [--untrained C.json] [--facts F.yaml] --out M/README.md

F.yaml has the fields of `CardFacts`, and may list the reports too: `python eval/card.py --model checkpoints/reacher
--facts eval/cards/reacher.yaml` writes the card of a released model again.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from report_forms import card_form

from jepa_actions.config import decode_config, read_yaml
from jepa_actions.errors import ConfigError, JepaActionsError
from jepa_actions.evaluation.card import CardFacts, write_card
from jepa_actions.models import WorldModel

FACTS = Path("eval/cards")  # of released models; like the reports, relative to the repository


@dataclass(frozen=True)
class CardFile(CardFacts):
    """Facts with the reports that they go with."""

    reports: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Write the card; an error is one line and status 2."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a model folder or a Hub id")
    parser.add_argument("--reports", nargs="+", help="JSON of eval/planning.py, eval/inverse.py, ...")
    parser.add_argument("--untrained", nargs="+", help="the same, of the same form untrained: a floor")
    parser.add_argument("--facts", help="YAML with what no report says")
    parser.add_argument("--licence", nargs="+", default=[], metavar="DATA=LICENCE", help="of what it was trained on")
    parser.add_argument("--source", help="what the card calls the model; default: --model")
    parser.add_argument("--out", help="default: README.md in the model's folder")
    options = parser.parse_args(argv)
    try:
        facts = read_facts(options.facts, Path(options.model).name, options.licence)
        model = WorldModel.from_pretrained(options.model)
        out = Path(options.out or Path(options.model) / "README.md")
        text = card_of(model, facts, options.source or options.model, options.reports or (), options.untrained or ())
        write_text(out, text)
    except JepaActionsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{out}: {len(text.splitlines())} lines from {len(options.reports or facts.reports)} reports")
    return 0


def card_of(
    model: WorldModel, facts: CardFile, source: str, reports: Sequence[str] = (), untrained: Sequence[str] = ()
) -> str:
    """The card of a model, with the reports that its facts list where no others are given."""
    floors = read_reports(untrained or facts.untrained)
    return write_card(model, read_reports(reports or facts.reports), facts, source=source, untrained=floors)


def read_facts(file: str | None, name: str, licences: Sequence[str] = ()) -> CardFile:
    """Facts from a file, with licences from the command line; a name where the file has none."""
    values = {"name": name} | (read_yaml(file) if file else {})
    facts = decode_config(CardFile, values, file or "command line")
    for item in licences:
        data, sign, licence = item.rpartition("=")
        if not sign or not data or not licence:
            raise ConfigError(f"--licence: found {item!r}, expected DATA=LICENCE")
        facts = replace(facts, licences=facts.licences | {data: licence})
    return facts


def read_reports(files: Sequence[str]) -> dict[str, Any]:
    """Parsed JSON by file, in the form of today. Raises ConfigError for one that cannot be read."""
    found = {}
    for file in files:
        try:
            report = json.loads(Path(file).read_text(encoding="utf-8"))
            found[file] = card_form(report) if isinstance(report, dict) else report
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file}: not JSON ({' '.join(str(error).split())[:100]})") from error
    return found


def write_text(path: Path, text: str) -> None:
    """Beside the old file, then in its place: a reader never sees half a card."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
