"""`jepa-actions eval planning`: one way to decide against floors and oracle, or several beside each other."""

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jepa_actions.cli_parser import Parser, take_distractors
from jepa_actions.errors import ConfigError

if TYPE_CHECKING:
    from jepa_actions.envs.two_room_distractors import Distractors
    from jepa_actions.evaluation.control import Control
    from jepa_actions.models import WorldModel


def planning(argv: list[str]) -> None:
    """`eval planning --model M --protocol P [--planner SPEC | --compare SPEC ...] [--episodes N] --json OUT`.

    With `--offsets 10 25 50`: curves over the offset. With `--data D [--gap K]` in place of P: offline, from o_t to
    o_{t+k}, the planned against the recorded actions. With `--env.KEY VALUE`: in a TwoRoom with distractors or other
    colours (docs/distractors.md).
    """
    from jepa_actions.models import WorldModel
    from jepa_actions.training import use_all_cores

    argv, distractors = take_distractors(argv)
    options = _parser().parse_args(argv)
    _check(options)
    if distractors is not None:
        _change_room(options, distractors)
    controls = _controls(options)
    first = next(iter(controls.values()))
    use_all_cores()
    model = WorldModel.from_pretrained(options.model)
    if options.data:
        _offline(model, first, options)
    elif options.offsets:
        _offsets(model, controls, options)
    elif options.compare:
        _compare(model, controls, options)
    else:
        _one(model, first, options)


def _parser() -> Parser:
    from jepa_actions.evaluation.control import COSTS, POLICIES
    from jepa_actions.planning import PLANNERS, PRESETS

    parser = Parser(prog="jepa-actions eval planning")
    add = parser.add_argument
    add("--model", required=True, help="a model folder or a Hub id")
    add("--protocol", default="two_room/offset25", help="a protocol's name or file")
    add("--offsets", nargs="+", type=int, metavar="N", help="curves: goals so many environment steps away")
    add("--data", help="plan on recordings, without a simulator: a data set, a folder or env:NAME")
    add("--gap", type=int, help="with --data: model steps from start to goal; default: 5")
    add("--episodes", type=int, help="tasks per seed, default: the protocol's; with --data: 100 clips")
    add("--seeds", type=int, default=1, help="task seeds")
    add(
        "--planner",
        default="cem",
        help=f"PLANNER[:key=value,...]: {', '.join(PLANNERS)}; as published: {', '.join(PRESETS)}; "
        f"{' or '.join(POLICIES)}; with settings such as evaluations=256, proposals=8, cost=l2",
    )
    add("--compare", nargs="+", metavar="SPEC", help="several planners on the same tasks")
    add("--cost", choices=COSTS, default="auto", help="default: as published, temporal where it is learned, or l2")
    add("--horizon", type=int, help="model steps imagined by a plan; default: as published, or 5")
    add("--execute", type=int, help="model steps executed before the next plan; default: as published, or 1")
    add("--samples", type=int, help="candidates per iteration, where the planner has them")
    add("--elites", type=int)
    add("--iterations", type=int)
    add("--timeout-ms", type=float, help="real time: milliseconds for each plan; tasks are planned one by one")
    add("--batch", type=int, help="tasks planned together; default: all, and 1 with a timeout")
    add("--no-oracle", action="store_true", help="leave out the plan in the true simulator")
    add("--show", help="a folder for a GIF of real frames of the first tasks, and the energy landscape")
    add("--json", help="where to write the report")
    return parser


def _check(options: Namespace) -> None:
    """Raise ConfigError for options that exclude each other."""
    if options.show and (options.compare or options.offsets):
        found = "--compare" if options.compare else "--offsets"
        raise ConfigError(f"command line: --show is for one planner on one protocol, found {found}")
    if options.data and (options.batch is not None or options.timeout_ms is not None):
        raise ConfigError("command line: --batch and --timeout-ms are for a simulator, found --data")
    if options.data and (options.compare or options.offsets or options.seeds != 1):
        raise ConfigError("command line: --data is for one planner and one seed, found --compare, --offsets or --seeds")
    if options.gap is not None and not options.data:
        raise ConfigError("command line: --gap is for --data, found none")


def _change_room(options: Namespace, distractors: "Distractors") -> None:
    """The same protocol in a room that looks otherwise: its hash becomes another."""
    from jepa_actions.evaluation.protocol import load_protocol

    if options.data:
        raise ConfigError("command line: --env is for a protocol in two_room, found --data")
    options.protocol = replace(load_protocol(options.protocol), distractors=distractors)


def _controls(options: Namespace) -> dict[str, "Control"]:
    """The planners that are asked for, by their words; what a SPEC says itself comes last, and wins."""
    from jepa_actions.evaluation.control import POLICIES, parse_control

    def given(*keys: str) -> list[str]:
        return [f"{key}={getattr(options, key)}" for key in keys if getattr(options, key) is not None]

    found = {}
    for words in options.compare or [options.planner]:
        name, _, rest = words.partition(":")
        beside_searches = options.compare and name in POLICIES  # which the options below are for
        of_search = [] if beside_searches else given("samples", "elites", "iterations", "timeout_ms")
        found[words] = parse_control(f"{name}:{','.join([*given('cost', 'horizon', 'execute'), *of_search, rest])}")
    return found


def _one(model: "WorldModel", control: "Control", options: Namespace) -> None:
    """One planner on one protocol, beside all floors and the oracle."""
    from jepa_actions.evaluation.planning import evaluate_planning
    from jepa_actions.evaluation.suite import table, untrained_like, write_json

    report = evaluate_planning(
        model,
        options.protocol,
        control=control,
        **_played(model, options),
        untrained=untrained_like(model),
        oracle=not options.no_oracle,
    )
    print(table({"planning": report}))
    if options.json:
        write_json(report, options.json)
    if options.show:
        from jepa_actions.evaluation.show import show_planning

        show_planning(model, options.protocol, control, options.show)


def _compare(model: "WorldModel", controls: dict[str, "Control"], options: Namespace) -> None:
    """Several planners on the same tasks, and with `--json` a plot beside the report."""
    from jepa_actions.evaluation.compare import compare_planning, comparison_table, plot_comparison
    from jepa_actions.evaluation.suite import write_json

    report = compare_planning(
        model,
        options.protocol,
        controls,
        **_played(model, options),
    )
    print(comparison_table(report))
    if options.json:
        plot_comparison(report, _picture(options.json))
        write_json(report, options.json)


def _offsets(model: "WorldModel", controls: dict[str, "Control"], options: Namespace) -> None:
    """Success over how far the goal is, and with `--json` a plot beside the report."""
    from jepa_actions.evaluation.offsets import curves_over_offsets, offset_table, plot_offsets, with_offsets
    from jepa_actions.evaluation.suite import write_json

    report = curves_over_offsets(
        model,
        with_offsets(options.protocol, options.offsets),
        controls,
        **_played(model, options),
    )
    print(offset_table(report))
    if options.json:
        plot_offsets(report, _picture(options.json))
        write_json(report, options.json)


def _offline(model: "WorldModel", control: "Control", options: Namespace) -> None:
    """Plans on held-out stretches of a data set, and with `--show` the energy landscape."""
    from jepa_actions.evaluation.landscape import energy_landscape, plot_landscape
    from jepa_actions.evaluation.offline import evaluate_offline
    from jepa_actions.evaluation.suite import data_of, table, write_json

    _, data = data_of(model, options.data)
    limit = 100 if options.episodes is None else options.episodes
    gap = 5 if options.gap is None else options.gap
    reports = {"offline": evaluate_offline(model, data, k=gap, control=control, limit=limit)}
    if options.show:
        reports["landscape"], land = energy_landscape(model, data, control=control, limit=limit)
        print(plot_landscape(land, f"{options.show}/landscape.png"))
        write_json(reports["landscape"], f"{options.show}/landscape.json")
    print(table(reports))
    if options.json:
        write_json(reports["offline"], options.json)


def _played(model: "WorldModel", options: Namespace) -> dict[str, Any]:
    """How many tasks are played, how many at once, and with how many frames: the same for every kind of report."""
    return {
        "episodes": options.episodes,
        "seeds": options.seeds,
        "history": model.history,
        "batch": options.batch,
    }


def _picture(report: str) -> str:
    """The name of the plot beside a report."""
    return f"{report.removesuffix('.json')}.png"


def distance(argv: list[str]) -> None:
    """`eval distance --model M [--env NAME]`: the learned temporal distance against the true shortest way."""
    from jepa_actions.envs.worlds import WORLDS
    from jepa_actions.evaluation.distance import evaluate_distance
    from jepa_actions.evaluation.greedy import evaluate_greedy
    from jepa_actions.evaluation.suite import data_of_config, table, write_json
    from jepa_actions.models import WorldModel
    from jepa_actions.training import use_all_cores

    parser = Parser(prog="jepa-actions eval distance")
    parser.add_argument("--model", required=True, help="a model folder or a Hub id, with a temporal distance")
    parser.add_argument("--env", choices=WORLDS, help="default: what the model was trained in")
    parser.add_argument("--split", choices=("train", "heldout"), default="heldout", help="layouts")
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--protocol", help="also play its tasks one step at a time on the distance alone")
    parser.add_argument("--episodes", type=int, help="tasks of --protocol, default: its own number")
    parser.add_argument("--json", help="where to write the report")
    options = parser.parse_args(argv)
    use_all_cores()
    model = WorldModel.from_pretrained(options.model)
    env = options.env
    if env is None:
        env = data_of_config(model).path.removeprefix("env:")
        if env not in WORLDS:
            raise ConfigError(
                f"command line: the model was trained on {env}, expected --env, one of {', '.join(WORLDS)}"
            )
    report = evaluate_distance(model, env, pairs=options.pairs, split=options.split, seed=options.seed)
    if options.protocol is not None:
        greedy = evaluate_greedy(model, options.protocol, episodes=options.episodes, seed=options.seed)
        report["metrics"]["greedy_success"] = greedy["success_rate"]
        report["ci95"] = report.get("ci95", {}) | {"greedy_success": greedy["ci95"]}
        report["greedy"] = greedy
    print(table({"distance": report}))
    if options.json:
        write_json(report, options.json)
