"""`python eval/inverse.py --model M ... --json OUT`: the same as `jepa-actions eval inverse`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "inverse", *sys.argv[1:]]))
