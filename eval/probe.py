"""`python eval/probe.py --model M ... --json OUT`: the same as `jepa-actions eval probe`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "probe", *sys.argv[1:]]))
