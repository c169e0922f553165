"""`python eval/rollout.py --model M ... --json OUT`: the same as `jepa-actions eval rollout`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "rollout", *sys.argv[1:]]))
