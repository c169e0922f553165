"""`python eval/planning.py --model M ... --json OUT`: the same as `jepa-actions eval planning`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "planning", *sys.argv[1:]]))
