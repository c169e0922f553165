"""`jepa-actions train`: train a recipe, save it, and evaluate it."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from jepa_actions.cli_parser import Parser
from jepa_actions.cli_watch import HELP as WATCH_HELP
from jepa_actions.cli_watch import add_watching, instead_of_training
from jepa_actions.errors import ConfigError
from jepa_actions.resources import recipe_path

if TYPE_CHECKING:
    from jepa_actions.training import TrainConfig

HELP = f"""--config RECIPE | --resume RUN [--preset P] [--a.b value ...]

  --resume RUN        go on with a run from its newest checkpoint, bit for bit
  --resume_step N     from that checkpoint instead; later ones are set aside
  --allow_changes     go on although recipe or data have changed: says what differs
  --restart           take away what an older run of this name left, and begin again
{WATCH_HELP}
Every key of a recipe is an option; `--config RECIPE --help` lists them.
"""


def train(argv: list[str]) -> None:
    """`train --config RECIPE | --resume RUN [--preset P] [--a.b value ...]`: train, save, and evaluate a recipe."""
    from jepa_actions.config import load_config
    from jepa_actions.training import Resume, TrainConfig, use_all_cores
    from jepa_actions.training import train as run_training

    if {"-h", "--help"} & set(argv):
        print(f"usage: jepa-actions train {HELP}")
    parser = Parser(prog="jepa-actions train", add_help=False)
    parser.add_argument("--resume", metavar="RUN")
    parser.add_argument("--resume_step", type=int, metavar="N")
    parser.add_argument("--allow_changes", action="store_true")
    parser.add_argument("--restart", action="store_true")
    add_watching(parser)
    options, words = parser.parse_known_args(argv)
    _check(options)
    if options.resume:
        run = Path(options.resume)
        if not (run / "config.yaml").is_file():
            raise ConfigError(f"--resume {run}: found no config.yaml there, expected the folder of a run")
        words = ["--config", str(run / "config.yaml"), f"--name={run.name}", f"--out={run.parent}", *words]
    config = load_config(TrainConfig, _with_recipe_path(words), prog="jepa-actions train")
    print(f"torch threads: {use_all_cores()}")
    if instead_of_training(options, config):
        return
    resume = Resume(options.resume_step, options.allow_changes) if options.resume else False
    run_training(config, resume=resume, restart=options.restart)
    _evaluate(config)


def _check(options: Namespace) -> None:
    """Raise ConfigError for options that contradict each other."""
    if options.resume and options.restart:
        raise ConfigError("command line: found --resume and --restart, expected one of them")
    if not options.resume and (options.resume_step is not None or options.allow_changes):
        raise ConfigError("command line: --resume_step and --allow_changes go with --resume RUN, found none")


def _evaluate(config: "TrainConfig") -> None:
    """The evaluations that the recipe names, on the saved model; the first process alone."""
    from jepa_actions.evaluation.suite import data_of, evaluate_all, table, write_json
    from jepa_actions.models import WorldModel
    from jepa_actions.training import is_main_process

    if not config.evaluate or not is_main_process():
        return
    folder = Path(config.out) / config.name
    model = WorldModel.from_pretrained(folder / "model")
    data_config, data = data_of(model)
    reports = evaluate_all(model, data_config, data, config.evaluate)
    for name, report in reports.items():
        write_json(report, folder / "eval" / f"{name}.json")
    print(table(reports))


def _with_recipe_path(argv: list[str]) -> list[str]:
    """`--config vjepa/two_room` names a recipe of the package where there is no such file."""
    for i, word in enumerate(argv):
        name = word.removeprefix("--config=") if word.startswith("--config=") else None
        if word == "--config" and i + 1 < len(argv):
            name = argv[i + 1]
        if name is not None and not Path(name).exists() and Path(name).suffix not in (".yaml", ".yml"):
            found = str(recipe_path(name))
            return [*argv[:i], f"--config={found}", *argv[i + (2 if word == "--config" else 1) :]]
    return argv
