"""`python eval/distance.py --model M ... --json OUT`: the same as `jepa-actions eval distance`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "distance", *sys.argv[1:]]))
