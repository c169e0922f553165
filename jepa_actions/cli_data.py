"""`jepa-actions data ...`: look at a data set, check it, convert it, cache it, record one."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa_actions.cli_parser import Parser
from jepa_actions.errors import ConfigError, DataError

if TYPE_CHECKING:
    from jepa_actions.data import VideoDataset
    from jepa_actions.data.problems import Problem


def data(argv: list[str]) -> int:
    """One sub-command; its exit code: 0, or 1 from `check` (and `seal`) where something is fatal."""
    commands: dict[str, Callable[[list[str]], int]] = {
        "check": check,
        "info": info,
        "seal": seal,
        "cache": cache,
        "encode": encode,
        "convert": convert,
        "record": record,
        "finish": finish,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: jepa-actions data COMMAND ...\n\ncommands: {', '.join(commands)}; each answers --help")
        return 0
    if argv[0] not in commands:
        raise ConfigError(f"data: expected one of {', '.join(commands)}, found {argv[0]!r}")
    return commands[argv[0]](argv[1:])


def check(argv: list[str]) -> int:
    """`data check D [--validation D2] [--seal] [--json [FILE]]`: every problem; exit code 1 where one is fatal."""
    from jepa_actions.data.checks.check import check as check_dataset

    parser = _data_parser("check", "Every problem of a data set; exit code 1 where one is fatal, also where D is none.")
    parser.add_argument("--validation", metavar="D2", help="a data set that must not repeat an episode of D")
    parser.add_argument("--no-decode", action="store_true", help="do not decode every frame")
    parser.add_argument("--angles", nargs="+", default=(), metavar="NAME", help="dimensions that are angles")
    parser.add_argument("--threads", type=int, help="of decoding; default: the number of processors")
    parser.add_argument("--seal", action="store_true", help="write meta/checksums.json where nothing is fatal")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="the problems as JSON, on stdout or in FILE"
    )
    options = parser.parse_args(argv)
    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"--threads: expected at least 1, found {options.threads}")
    problems = check_dataset(
        options.dataset,
        validation=options.validation,
        decode=not options.no_decode,
        cameras=options.cameras,
        image_size=_size(options.image_size, "--image-size"),
        angles=options.angles,
        threads=options.threads,
    )
    fatal = sum(problem.fatal for problem in problems)
    sealed = bool(options.seal and not fatal)
    if sealed:
        from jepa_actions.data.lerobot.checksums import seal as seal_folder

        seal_folder(options.dataset)
    if options.json is not None:
        rows = [vars(problem) for problem in problems]
        report = {
            "dataset": options.dataset,
            "fatal": fatal,
            "warnings": len(problems) - fatal,
            "sealed": sealed,
            "problems": rows,
        }
        _write_json(report, options.json)
    if options.json != "-":
        print(problem_table(problems, options.dataset))
        if options.seal:
            print("sealed: meta/checksums.json" if sealed else "not sealed, because of what is fatal")
    return 1 if fatal else 0


def problem_table(problems: Sequence[Problem], name: str) -> str:
    """One line per problem, and the counts."""
    fatal = sum(problem.fatal for problem in problems)
    lines = [
        f"{'FATAL' if p.fatal else 'warning':8}{'-' if p.episode is None else p.episode:>6}  {p.kind:12}"
        f"{_place(p)}{p.message}"
        for p in problems
    ]
    head = [f"{'':8}{'episode':>6} {'kind':12}file: what is wrong"] if lines else []
    return "\n".join([*head, *lines, f"{name}: {fatal} fatal, {len(problems) - fatal} warnings"])


def _place(problem: Problem) -> str:
    return f"{problem.file}: " if problem.file and problem.file not in problem.message else ""


def info(argv: list[str]) -> int:
    """`data info D [--sheet OUT.png] [--json [FILE]]`: shapes, rates, statistics, and a picture of it."""
    from jepa_actions.data.checks.describe import describe_dataset, describe_table

    parser = _data_parser("info", "Shapes, rates, statistics per dimension, hints for a recipe.")
    parser.add_argument("--sheet", metavar="PNG", help="write frames with the actions under them")
    parser.add_argument("--episodes", type=int, nargs="+", help="of the sheet; default: 5 spread over the data set")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="the facts as JSON, on stdout or in FILE")
    options = parser.parse_args(argv)
    dataset = _open(options)
    facts = describe_dataset(dataset)
    if options.json is not None:
        _write_json(facts, options.json)
    if options.json != "-":
        print(describe_table(facts))
    if options.sheet is not None:
        from jepa_actions.evaluation.contact_sheet import contact_sheet

        path = contact_sheet(dataset, options.sheet, episodes=options.episodes)
        print(f"contact sheet: {path}", file=sys.stderr if options.json == "-" else sys.stdout)
    return 0


def seal(argv: list[str]) -> int:
    """`data seal D`: `check --no-decode --seal`, for a data set that has been checked."""
    parser = Parser(
        "jepa-actions data seal", "Write meta/checksums.json where nothing is fatal; frames are not decoded."
    )
    parser.add_argument("dataset", help="the folder of a LeRobot data set")
    return check([parser.parse_args(argv).dataset, "--no-decode", "--seal"])


def cache(argv: list[str]) -> int:
    """`data cache D OUT [--size N | H W]`: decode once into a memory-mapped store, which `load_dataset` opens."""
    parser = _data_parser("cache", "Decode a data set once into a store that is read without decoding.", size=False)
    parser.add_argument("out", help="the folder to write; must not hold anything yet")
    parser.add_argument("--size", type=int, nargs="+", metavar="N", help="N for a square, or height and width")
    options = parser.parse_args(argv)
    size = (
        None if options.size is None else _size(options.size * 2 if len(options.size) == 1 else options.size, "--size")
    )
    from jepa_actions.data.decoded.writer import write_decoded_cache

    write_decoded_cache(_open(options, size), options.out)
    print(options.out)
    return 0


def encode(argv: list[str]) -> int:
    """`data encode D OUT --model M`: a frozen model's tokens of every frame, to train from."""
    from tqdm import tqdm

    from jepa_actions.data import load_dataset
    from jepa_actions.models import WorldModel
    from jepa_actions.training.latents import encode_latents

    parser = Parser("jepa-actions data encode", "Encode every frame once with a model's encoder, kept as float16.")
    parser.add_argument("dataset", metavar="D", help="a folder, or a Hub id, of a data set")
    parser.add_argument("out", help="the folder of latent caches; one that is there goes on where it stopped")
    parser.add_argument("--model", required=True, help="a model folder or a Hub id")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(argv)
    model = WorldModel.from_pretrained(options.model)
    dataset = load_dataset(options.dataset, cameras=model.config.cameras, image_size=model.config.image_size)
    bar = tqdm(unit="frame", desc="encode")

    def shown(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    store = encode_latents(model.eval().to(options.device), dataset, options.out, on_frames=shown)
    bar.close()
    print(store.folder)
    return 0


def convert(argv: list[str]) -> int:
    """`data convert D OUT [--version V] [--codec C]`: any data set, written as a LeRobot one."""
    from jepa_actions.data.lerobot.copying import copy_dataset

    parser = _data_parser("convert", "Write any data set as a LeRobot one; frames are encoded anew.")
    parser.add_argument("out", help="the folder to write; must not hold anything yet")
    parser.add_argument("--version", choices=("v3.0", "v2.1"), default="v3.0")
    parser.add_argument("--codec", choices=("h264", "av1"), default="h264")
    parser.add_argument("--crf", type=int, help="of the codec: lower is larger and nearer; default: the codec's")
    parser.add_argument("--pseudo", metavar="COLUMN", help="of a LeRobot data set: inferred actions to keep, too")
    options = parser.parse_args(argv)
    copy_dataset(_open(options), options.out, version=options.version, codec=options.codec, crf=options.crf)
    print(options.out)
    return 0


def finish(argv: list[str]) -> int:
    """`data finish OUT`: what an interrupted writer left, as a data set of the episodes that it had finished."""
    from jepa_actions.data.lerobot.writer import finish_interrupted

    parser = Parser("jepa-actions data finish", "Make a data set of what an interrupted writer left.")
    parser.add_argument("out", help="the folder it was writing")
    options = parser.parse_args(argv)
    print(f"{options.out}: {finish_interrupted(options.out)} episodes")
    return 0


def record(argv: list[str]) -> int:
    """`data record ENV OUT --episodes N --seed S [--steps N]`: random play of a gymnasium environment."""
    parser = Parser("jepa-actions data record", "Play a gymnasium environment at random into a LeRobot data set.")
    parser.add_argument("env", help="a gymnasium id")
    parser.add_argument("out", help="the folder to write; must not hold anything yet")
    parser.add_argument("--episodes", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, help="of an episode, at most; default: the environment's own limit")
    parser.add_argument("--camera", default="image", help="its name; a key of the observation, where that has it")
    parser.add_argument("--text", help="of the task")
    options = parser.parse_args(argv)
    for name in ("episodes", "steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, found {value}")
    import gymnasium

    import jepa_actions.envs  # noqa: F401  registers this library's environments
    from jepa_actions.data.recorder.record import record as record_episodes

    try:
        env: Any = gymnasium.make(options.env, render_mode="rgb_array")
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{options.env}: gymnasium makes no such environment ({reason})") from error
    try:
        record_episodes(
            env,
            "random",
            options.out,
            episodes=options.episodes,
            seed=options.seed,
            max_steps=options.steps,
            camera=options.camera,
            text=options.text,
        )
    finally:
        env.close()
    print(options.out)
    return 0


def _data_parser(command: str, description: str, *, size: bool = True) -> Parser:
    parser = Parser(f"jepa-actions data {command}", description)
    parser.add_argument("dataset", metavar="D", help="a folder, or a Hub id, of a data set")
    parser.add_argument("--cameras", nargs="+", metavar="NAME", help="default: all")
    if size:
        parser.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="default: as recorded")
    return parser


def _open(options: Namespace, size: tuple[int, int] | None = None) -> VideoDataset:
    from jepa_actions.data import load_dataset

    size = size or _size(getattr(options, "image_size", None), "--image-size")
    return load_dataset(
        options.dataset, cameras=options.cameras, image_size=size, pseudo=getattr(options, "pseudo", None)
    )


def _size(numbers: Sequence[int] | None, option: str) -> tuple[int, int] | None:
    if numbers is None:
        return None
    if len(numbers) != 2 or min(numbers) < 1:
        raise ConfigError(f"{option}: expected height and width, both at least 1, found {list(numbers)}")
    return int(numbers[0]), int(numbers[1])


def _write_json(report: dict[str, Any], out: str) -> None:
    text = json.dumps(report, indent=2)
    if out == "-":
        print(text)
        return
    try:
        Path(out).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
