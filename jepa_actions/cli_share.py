"""Commands about saved models: `info`, `verify`, `push` and `pull`."""

import json
import sys
from pathlib import Path
from typing import Any

from jepa_actions.cli_parser import Parser

_MODEL = "a model folder or a Hub id: owner/name, or owner/name@REVISION"


def info(argv: list[str]) -> None:
    """`info M [--revision R]`: what a saved model is: sizes, codec, format, scores, files and where it comes from."""
    from jepa_actions.hub import file_facts, foreign_files, source_of
    from jepa_actions.models import WorldModel
    from jepa_actions.models.migrations import migrations_from
    from jepa_actions.models.serialize import read_config

    folder = _folder(_asked("info", argv))
    config = read_config(folder)
    model = WorldModel.from_pretrained(folder)
    version, extra, source = config["format_version"], dict(config["extra"]), source_of(folder)
    scores, foreign = extra.pop("scores", None), set(foreign_files(folder))
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    facts: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "parts": {
            name: sum(parameter.numel() for parameter in part.parameters()) for name, part in model.named_children()
        },
        "format_version": version,
        "migrations": [f"{step.to}: {step.name}" for step in migrations_from(version)],
        "golden": config["golden"],
        "model": config["model"],
        "codec": config["codec"],
        "scores": scores,
        "files": {name: file_facts(folder, name) for name in sorted(names - foreign)},
        "not_part_of_it": sorted(foreign),
        "source": None if source is None else {"repo_id": source.repo_id, "commit": source.commit},
        "provenance": extra,
    }
    print(json.dumps(facts, indent=2))


def verify(argv: list[str]) -> int:
    """`verify M [--revision R]`: hold its files against their checksums and recompute its golden outputs.

    Prints the largest difference of every output. Exit code 1 where something differs, or nothing is stored to compare.
    """
    from jepa_actions.models.golden import TOLERANCE
    from jepa_actions.models.share import verify_folder

    found = verify_folder(_folder(_asked("verify", argv)))
    for name, worst in found.differences.items():
        word = "agrees" if worst <= TOLERANCE else "DIFFERS"
        print(f"{name:14} {word}: largest difference {worst:.2g} of the largest value, tolerance {TOLERANCE:g}")
    for line in [*found.failed, *found.missing]:
        print(line)
    print("verified" if found.ok else "NOT VERIFIED")
    return 0 if found.ok else 1


def push(argv: list[str]) -> None:
    """`push FOLDER REPO_ID [--private] [--unverified]`: upload a model folder that verifies, and holds nothing else."""
    from jepa_actions.models.share import share_folder

    parser = Parser(prog="jepa-actions push")
    parser.add_argument("folder")
    parser.add_argument("repo_id")
    parser.add_argument("--private", action="store_true")
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="also a folder without golden outputs or checksums; what is stored and differs is never pushed",
    )
    options = parser.parse_args(argv)
    print(share_folder(options.folder, options.repo_id, private=options.private, unverified=options.unverified))


def pull(argv: list[str]) -> None:
    """`pull REPO_ID [--revision R]`: fetch a model, print its commit (on stderr) and its folder."""
    from jepa_actions.hub import source_of
    from jepa_actions.models import WorldModel

    folder = _folder(_asked("pull", argv))
    WorldModel.from_pretrained(folder)
    if source := source_of(folder):
        print(f"{source.repo_id} at commit {source.commit}", file=sys.stderr)
    print(folder)


def _asked(command: str, argv: list[str]) -> tuple[str, str | None]:
    """The model and revision that a command is about."""
    parser = Parser(prog=f"jepa-actions {command}")
    parser.add_argument("model", help=_MODEL)
    parser.add_argument("--revision", help="branch, tag or commit, for a Hub id")
    options = parser.parse_args(argv)
    return options.model, options.revision


def _folder(model: tuple[str, str | None]) -> Path:
    from jepa_actions.hub import resolve_folder
    from jepa_actions.models.serialize import LIBRARY

    return resolve_folder(*model, library=LIBRARY)
