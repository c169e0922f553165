"""`jepa-actions eval planning`: one way to decide against floors and oracle, or several beside each other."""

from argparse import Namespace
from typing import TYPE_CHECKING

from jepa_actions.cli_parser import Parser
from jepa_actions.errors import ConfigError

if TYPE_CHECKING:
    from jepa_actions.evaluation.control import Control
    from jepa_actions.models import WorldModel


def planning(argv: list[str]) -> None:
    """`eval planning --model M --protocol P [--planner SPEC | --compare SPEC ...] [--episodes N] --json OUT`.

    With `--data D [--gap K]` in place of P: offline, from o_t to o_{t+k}, the planned against the recorded actions.
    """
    from jepa_actions.evaluation.control import COSTS, POLICIES, Control, parse_control
    from jepa_actions.evaluation.planning import evaluate_planning
    from jepa_actions.evaluation.suite import table, untrained_like, write_json
    from jepa_actions.models import WorldModel
    from jepa_actions.training import use_all_cores

    parser = Parser(prog="jepa-actions eval planning")
    parser.add_argument("--model", required=True, help="a model folder or a Hub id")
    parser.add_argument("--protocol", default="two_room/offset25", help="a protocol's name or file")
    parser.add_argument("--data", help="plan on recordings, without a simulator: a data set, a folder or env:NAME")
    parser.add_argument("--gap", type=int, help="with --data: model steps from start to goal; default: 5")
    parser.add_argument("--episodes", type=int, help="tasks per seed, default: the protocol's; with --data: 100 clips")
    parser.add_argument("--seeds", type=int, default=1, help="task seeds")
    parser.add_argument(
        "--planner",
        default="cem",
        help="PLANNER[:key=value,...]: random, cem, icem, mppi, mppi_classical, gradient, hybrid, cmaes, inverse or "
        "subgoal, with settings such as evaluations=256, proposals=8, cost=l2",
    )
    parser.add_argument("--compare", nargs="+", metavar="SPEC", help="several planners on the same tasks")
    parser.add_argument("--cost", choices=COSTS, default="auto", help="default: temporal where it is learned, else l2")
    parser.add_argument("--horizon", type=int, default=5, help="model steps imagined by a plan")
    parser.add_argument("--execute", type=int, default=1, help="model steps executed before the next plan")
    parser.add_argument("--samples", type=int, help="candidates per iteration, where the planner has them")
    parser.add_argument("--elites", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--no-oracle", action="store_true", help="leave out the plan in the true simulator")
    parser.add_argument("--show", help="a folder for a GIF of real frames of the first tasks, and the energy landscape")
    parser.add_argument("--json", help="where to write the report")
    options = parser.parse_args(argv)
    if options.compare and options.show:
        raise ConfigError("command line: --show is for one planner, found --compare")
    if options.data and (options.compare or options.seeds != 1):
        raise ConfigError("command line: --data is for one planner and one seed, found --compare or --seeds")
    if options.gap is not None and not options.data:
        raise ConfigError("command line: --gap is for --data, found none")
    use_all_cores()
    model = WorldModel.from_pretrained(options.model)
    settings = {key: getattr(options, key) for key in ("samples", "elites", "iterations")}
    base = Control(cost=options.cost, horizon=options.horizon, execute=options.execute)
    given = [f"{key}={value}" for key, value in settings.items() if value is not None]

    def control(words: str) -> Control:
        name, _, rest = words.partition(":")
        of_search = [] if options.compare and name in POLICIES else given
        return parse_control(f"{name}:{','.join([*of_search, rest])}", base)  # what a SPEC says itself comes last

    if options.data:
        _offline(model, control(options.planner), options)
        return
    if options.compare:
        from jepa_actions.evaluation.compare import compare_planning, comparison_table, plot_comparison

        report = compare_planning(
            model,
            options.protocol,
            {words: control(words) for words in options.compare},
            episodes=options.episodes,
            seeds=options.seeds,
            history=model.history,
        )
        print(comparison_table(report))
        if options.json:
            plot_comparison(report, f"{options.json.removesuffix('.json')}.png")
    else:
        report = evaluate_planning(
            model,
            options.protocol,
            control=control(options.planner),
            episodes=options.episodes,
            seeds=options.seeds,
            history=model.history,
            untrained=untrained_like(model),
            oracle=not options.no_oracle,
        )
        print(table({"planning": report}))
    if options.json:
        write_json(report, options.json)
    if options.show:
        from jepa_actions.evaluation.show import show_planning

        show_planning(model, options.protocol, control(options.planner), options.show)


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


def distance(argv: list[str]) -> None:
    """`eval distance --model M [--env NAME]`: the learned temporal distance against the true shortest way."""
    from jepa_actions.envs.worlds import WORLDS
    from jepa_actions.evaluation.distance import evaluate_distance
    from jepa_actions.evaluation.suite import data_of_config, table, write_json
    from jepa_actions.models import WorldModel
    from jepa_actions.training import use_all_cores

    parser = Parser(prog="jepa-actions eval distance")
    parser.add_argument("--model", required=True, help="a model folder or a Hub id, with a temporal distance")
    parser.add_argument("--env", choices=WORLDS, help="default: what the model was trained in")
    parser.add_argument("--split", choices=("train", "heldout"), default="heldout", help="layouts")
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
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
    print(table({"distance": report}))
    if options.json:
        write_json(report, options.json)
