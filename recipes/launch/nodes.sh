#!/usr/bin/env bash
# One agent of a run on several nodes; start it on each of them, in any order, with the same variables:
#
#   NODES=4 PER_NODE=8 ENDPOINT=node0:29500 JOB=vit_large recipes/launch/nodes.sh --config recipes/X.yaml
#
# NODES     how many nodes (1)
# PER_NODE  processes on each, one per GPU (8)
# ENDPOINT  host and port at which they meet: one of the nodes, which all can reach
# JOB       a name that agents of the same run share
# ADDRESS   what the other nodes reach this one by, where its host name does not do
#
# Everything else goes to recipes/train.py; --resume runs/NAME goes on after an interruption, on as many processes or on
# another number that divides the batch.
set -euo pipefail
train="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/train.py"
exec torchrun --nnodes "${NODES:-1}" --nproc_per_node "${PER_NODE:-8}" ${ADDRESS:+--local_addr "$ADDRESS"} \
  --rdzv_backend c10d --rdzv_endpoint "${ENDPOINT:-127.0.0.1:29500}" --rdzv_id "${JOB:-jepa}" "$train" "$@"
