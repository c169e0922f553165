"""What `jepa-actions train` does in place of training: a learning-rate range test, or a profile of a step."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from jepa_actions.cli_parser import Parser
from jepa_actions.errors import ConfigError

if TYPE_CHECKING:
    from jepa_actions.training import TrainConfig

HELP = """  --lr_range          try rising learning rates and suggest one; trains nothing. Also
                      --lr_range.from 1e-6 --lr_range.to 1.0 --lr_range.steps 100
  --profile [N]       print where a step goes, from N steps (30); trains nothing
"""


def add_watching(parser: Parser) -> None:
    """Add the options to those of `train`."""
    add = parser.add_argument
    add("--lr_range", action="store_true")
    add("--lr_range.from", type=float, dest="lr_low", metavar="RATE")
    add("--lr_range.to", type=float, dest="lr_high", metavar="RATE")
    add("--lr_range.steps", type=int, dest="lr_steps", metavar="N")
    add("--profile", type=int, nargs="?", const=30, metavar="N")


def instead_of_training(options: Namespace, config: "TrainConfig") -> bool:
    """Do what `--lr_range` or `--profile` asks for; False where neither is given.

    Raises: ConfigError for both, for one with `--resume` or `--restart`, or a range without `--lr_range`.
    """
    ranged = (options.lr_low, options.lr_high, options.lr_steps) != (None, None, None)
    if ranged and not options.lr_range:
        raise ConfigError("command line: --lr_range.from, .to and .steps go with --lr_range, found none")
    if not options.lr_range and options.profile is None:
        return False
    others = [word for word in ("resume", "restart") if getattr(options, word)]
    if options.lr_range and options.profile is not None:
        others.append("profile")
    if others:
        asked = "--lr_range" if options.lr_range else "--profile"
        raise ConfigError(
            f"command line: found {asked} and --{others[0]}, expected one of them: {asked} trains nothing"
        )
    if options.lr_range:
        _lr_range(options, config)
    else:
        _profile(options.profile, config)
    return True


def _lr_range(options: Namespace, config: "TrainConfig") -> None:
    from jepa_actions.training import is_main_process
    from jepa_actions.training.lr_range import LrRange, lr_range, write_lr_range

    given = {"low": options.lr_low, "high": options.lr_high, "steps": options.lr_steps}
    asked = LrRange(**{key: value for key, value in given.items() if value is not None})
    if is_main_process():
        print(f"learning rates from {asked.low:g} to {asked.high:g} in {asked.steps} steps", flush=True)
    report = lr_range(config, asked, quiet=True)
    if not is_main_process():
        return
    table, picture = write_lr_range(report, Path(config.out) / config.name)
    suggested = report["suggested"]
    if suggested is None:
        print(f"no suggestion: {report['how']}")
    else:
        print(f"suggested: --train.lr {suggested:.1e} (the recipe has {config.train.lr:.1e}): {report['how']}")
    print(f"{table}, {picture}")


def _profile(steps: int, config: "TrainConfig") -> None:
    from jepa_actions.training import is_main_process
    from jepa_actions.training.step_profile import profile, profile_table, write_profile

    report = profile(config, steps, quiet=True)
    if is_main_process():
        print(profile_table(report))
        print(write_profile(report, Path(config.out) / config.name))
