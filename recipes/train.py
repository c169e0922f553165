"""The one training entry: `accelerate launch recipes/train.py --config recipes/X.yaml [--preset P] [--a.b value]`."""

import sys

from jepa_actions.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
