"""`python eval/latency.py [--sizes vit_large ac --device cuda] --json OUT`: the same as `jepa-actions eval latency`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "latency", *sys.argv[1:]]))
