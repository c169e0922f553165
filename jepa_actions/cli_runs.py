"""`jepa-actions runs`: what has been trained, and two runs side by side."""

from pathlib import Path

from jepa_actions.cli_parser import Parser
from jepa_actions.errors import ConfigError


def runs(argv: list[str]) -> None:
    """`runs [FOLDER]` lists runs; `runs A B --html OUT` plots two of them into one page."""
    from jepa_actions.evaluation.runs import find_runs, read_run, runs_table
    from jepa_actions.evaluation.runs_page import write_runs_page

    parser = Parser(prog="jepa-actions runs", description="list training runs, or plot two of them side by side")
    parser.add_argument("folders", nargs="*", help="a folder of runs (default: runs), or two runs")
    parser.add_argument("--html", help="with two runs: the page to write")
    options = parser.parse_args(argv)
    folders = options.folders or ["runs"]
    if len(folders) > 2 or (len(folders) == 2) != (options.html is not None):
        found = f"{len(folders)} {'folder' if len(folders) == 1 else 'folders'} {'with' if options.html else 'without'}"
        raise ConfigError(f"jepa-actions runs: found {found} --html, expected one to list, or two with --html")
    if options.html is None:
        print(runs_table(find_runs(folders[0]), Path(folders[0])))
        return
    one, two = (read_run(folder) for folder in folders)
    for run in (one, two):
        if not run.rows:
            raise ConfigError(f"{run.folder}: found no row in metrics.jsonl, expected a run that has logged")
    print(write_runs_page(one, two, options.html))
