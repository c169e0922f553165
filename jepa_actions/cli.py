"""The `jepa-actions` command: the same functions as the recipes and the evaluation scripts, for the installed wheel."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from jepa_actions.cli_data import data
from jepa_actions.cli_parser import Parser, take_distractors
from jepa_actions.cli_runs import runs
from jepa_actions.cli_share import info, pull, push, verify
from jepa_actions.cli_train import train
from jepa_actions.errors import ConfigError, JepaActionsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; an error of this library is one line on stderr and exit code 2. `data check` exits 1 where
    something is fatal, `verify` where something does not agree, `train` 143 after SIGTERM."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int | None]] = {
        "demo": demo,
        "train": train,
        "eval": evaluate,
        "plan": plan,
        "data": data,
        "runs": runs,
        "info": info,
        "push": push,
        "pull": pull,
        "verify": verify,
        "convert": convert,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: jepa-actions COMMAND ...\n\ncommands: {', '.join(commands)}; each answers --help")
        return 0
    try:
        if arguments[0] not in commands:
            raise ConfigError(f"command: expected one of {', '.join(commands)}, found {arguments[0]!r}")
        return commands[arguments[0]](arguments[1:]) or 0
    except JepaActionsError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))


def evaluate(argv: list[str]) -> None:
    """`eval NAME --model M [...]`: one evaluation, its table, and its JSON report; `eval latency` takes no model."""
    if argv[:1] == ["latency"]:
        latency(argv[1:])
        return
    if argv[:1] == ["inverse"] and any(word.split("=")[0] == "--scan-lag" for word in argv):
        scan_lag(argv[1:])
        return
    if argv[:1] == ["planning"]:
        from jepa_actions.cli_planning import planning

        planning(argv[1:])
        return
    if argv[:1] == ["distance"]:
        from jepa_actions.cli_planning import distance

        distance(argv[1:])
        return
    from jepa_actions.evaluation.suite import EVALUATIONS, data_of, evaluate_all, table, write_json
    from jepa_actions.models import WorldModel
    from jepa_actions.training import use_all_cores

    argv, distractors = take_distractors(argv)
    parser = Parser(prog="jepa-actions eval", description="--env.KEY VALUE: in a TwoRoom that looks otherwise")
    parser.add_argument("name", choices=EVALUATIONS)
    parser.add_argument("--model", required=True, help="a model folder or a Hub id")
    parser.add_argument("--data", help="a LeRobot data set, a folder of videos or env:NAME; default: the recipe's")
    parser.add_argument("--json", help="where to write the report")
    options = parser.parse_args(argv)
    use_all_cores()
    model = WorldModel.from_pretrained(options.model)
    reports = evaluate_all(model, *data_of(model, options.data, distractors), [options.name])
    if distractors is not None:
        reports[options.name]["distractors"] = distractors.changes()
    print(table(reports))
    if options.json:
        write_json(reports[options.name], options.json)


def scan_lag(argv: list[str]) -> None:
    """`eval inverse --data D --scan-lag -8:8`: by how many frames actions lead what is seen; needs no model."""
    from jepa_actions.data import load_dataset
    from jepa_actions.evaluation.lag import parse_lags
    from jepa_actions.evaluation.lag import scan_lag as scan
    from jepa_actions.evaluation.lag_rows import Source
    from jepa_actions.evaluation.lag_view import lag_table, plot_lag
    from jepa_actions.evaluation.suite import write_json
    from jepa_actions.training import DataConfig, EnvConfig, open_data, use_all_cores

    argv, lags = _take_option(
        argv, "--scan-lag", "a range of frames, such as -8:8"
    )  # argparse takes -8:8 for an option
    parser = Parser(prog="jepa-actions eval inverse --scan-lag")
    parser.add_argument("--data", required=True, help="a data set with actions")
    parser.add_argument("--cameras", nargs="+", help="default: all")
    parser.add_argument("--source", choices=get_args(Source), default="action", help="what is to be explained")
    parser.add_argument("--limit", type=int, default=6000, help="about how many frames are read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", help="where to draw both curves, as PNG")
    parser.add_argument("--json", help="where to write the report")
    options = parser.parse_args(argv)
    use_all_cores()
    if options.data.startswith("env:"):
        dataset = open_data(DataConfig(options.data, env=EnvConfig(episodes=40, heldout_episodes=1)), (64, 64)).dataset
    else:
        dataset = load_dataset(options.data, cameras=options.cameras)
    report = scan(
        dataset,
        parse_lags(lags or ""),
        source=options.source,
        limit=options.limit,
        seed=options.seed,
    )
    print(lag_table(report))
    if options.plot:
        plot_lag(report, options.plot)
    if options.json:
        write_json(report, options.json)


def latency(argv: list[str]) -> None:
    """`eval latency [--sizes S ... --device D]`: what a training step, an encoding and a plan cost here."""
    import torch

    from jepa_actions.evaluation.latency import DEFAULT_SIZES, latency_size, latency_table, measure_latency
    from jepa_actions.evaluation.suite import write_json
    from jepa_actions.training import use_all_cores

    parser = Parser(prog="jepa-actions eval latency")
    parser.add_argument("--sizes", nargs="+", default=DEFAULT_SIZES, help="laptop, vit_small, vit_base, vit_large, ac")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--precision", choices=("float32", "bf16"), help="default: float32 on cpu, bf16 on cuda")
    parser.add_argument("--batch", type=int, help="clips per training step; default: the size's own")
    parser.add_argument("--compile", action="store_true", help="torch.compile every transformer block")
    parser.add_argument("--json", help="where to write the report")
    options = parser.parse_args(argv)
    if options.threads is None:
        use_all_cores()
    elif options.threads < 1:
        raise ConfigError(f"--threads: expected at least 1, found {options.threads}")
    else:
        torch.set_num_threads(options.threads)
    report = measure_latency(
        {name: latency_size(name) for name in options.sizes},
        torch.device(options.device),
        repeats=options.repeats,
        precision=options.precision,
        compiled=options.compile,
        batch=options.batch,
    )
    print(latency_table(report))
    if options.json:
        write_json(report, options.json)


def demo(argv: list[str]) -> None:
    """`demo [--preset laptop|gpu] [--out DIR] [--steps N]`: train on TwoRoom, plan in it, write a report and a page."""
    from jepa_actions.evaluation.demo import PRESETS, run_demo

    parser = Parser(prog="jepa-actions demo")
    parser.add_argument("--preset", choices=PRESETS, default="laptop")
    parser.add_argument("--out", default="runs/demo")
    parser.add_argument("--steps", type=int, help="training steps; default: the recipe's")
    parser.add_argument("--episodes", type=int, default=100, help="planning tasks")
    options = parser.parse_args(argv)
    run_demo(Path(options.out), preset=options.preset, steps=options.steps, episodes=options.episodes)


def plan(argv: list[str]) -> None:
    """`plan --model M --frame a.png --goal b.png`: the next actions in raw units, as JSON."""
    from jepa_actions.evaluation.plan import plan as plan_between
    from jepa_actions.evaluation.plan import read_pictures
    from jepa_actions.models import WorldModel
    from jepa_actions.planning import PRESETS

    parser = Parser(prog="jepa-actions plan")
    parser.add_argument("--model", required=True, help="a model folder or a Hub id")
    parser.add_argument("--frame", required=True, action="append", help="the present image; CAMERA=FILE for several")
    parser.add_argument("--goal", required=True, action="append", help="the goal image; CAMERA=FILE for several")
    parser.add_argument("--planner", choices=sorted(PRESETS), help="a published planner; default: this library's")
    parser.add_argument("--horizon", type=int, help="model steps; default: the planner's")
    parser.add_argument(
        "--proprio", type=float, nargs="+", help="the robot's present reading, where the model wants it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-ms", type=float, help="real time for the search; the best so far is printed")
    options = parser.parse_args(argv)
    model = WorldModel.from_pretrained(options.model)
    found = plan_between(
        model,
        read_pictures(model, options.frame),
        read_pictures(model, options.goal),
        horizon=options.horizon,
        planner=None if options.planner is None else PRESETS[options.planner],
        proprio=options.proprio,
        seed=options.seed,
        timeout_ms=options.timeout_ms,
    )
    print(json.dumps(found, indent=2))


def convert(argv: list[str]) -> None:
    """`convert SOURCE OUT`: published V-JEPA 2 weights, or a training checkpoint, as a model folder of this library."""
    from jepa_actions.models import ARCHITECTURES
    from jepa_actions.models.pretrained import convert_vjepa2
    from jepa_actions.training import convert_checkpoint, is_run

    parser = Parser(prog="jepa-actions convert")
    parser.add_argument(
        "source", help="V-JEPA 2: a folder or Hub id (Hugging Face layout), or a .pt; or a run's folder"
    )
    parser.add_argument("out", help="the folder to write; must not hold anything yet")
    parser.add_argument("--architecture", help=f"needed for a .pt: {', '.join(ARCHITECTURES)}")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="default: as published")
    parser.add_argument("--which", choices=("target_encoder", "encoder"), default="target_encoder", help="of a .pt")
    parser.add_argument("--revision", help="of a Hub id")
    parser.add_argument("--step", type=int, help="of a run's folder; default: its newest checkpoint")
    options = parser.parse_args(argv)
    if is_run(options.source):
        print(convert_checkpoint(options.source, options.out, step=options.step))
        return
    if options.step is not None:
        raise ConfigError(f"convert --step: found {options.source}, expected the folder of a run")
    found = convert_vjepa2(
        options.source,
        options.out,
        architecture=options.architecture,
        image_size=None if options.image_size is None else tuple(options.image_size),
        which=options.which,
        revision=options.revision,
    )
    if found.ignored:
        print(f"not used: {', '.join(found.ignored)}")
    print(options.out)


def _take_option(argv: list[str], option: str, needs: str) -> tuple[list[str], str | None]:
    """Remove `option VALUE` or `option=VALUE` from the words and return its value."""
    for i, word in enumerate(argv):
        if word == option:
            if i + 1 >= len(argv):
                raise ConfigError(f"command line: {option} needs {needs}")
            return argv[:i] + argv[i + 2 :], argv[i + 1]
        if word.startswith(f"{option}="):
            return argv[:i] + argv[i + 1 :], word.removeprefix(f"{option}=")
    return argv, None


if __name__ == "__main__":
    sys.exit(main())
