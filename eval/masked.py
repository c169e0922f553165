"""`python eval/masked.py --model M ... --json OUT`: the same as `jepa-actions eval masked`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "masked", *sys.argv[1:]]))
