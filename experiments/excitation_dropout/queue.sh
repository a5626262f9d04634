#!/usr/bin/env bash
# The runs of README.md, reduced budget; killed and started again it goes on where it was.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-/tmp/jax_cache} JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5
RUNS=experiments/excitation_dropout/runs
program() { ${PYTHON:-python} -m experiments.excitation_dropout.train "$@"; }
train() { program --recipe reduced "$@"; }
MAIN="none standard curriculum standout excitation excitation_none"
train --output $RUNS/reduced --schemes $MAIN --seeds 0 1
train --output $RUNS/reduced --schemes excitation excitation_none --rates 0.75 0.9 --seeds 0
train --output $RUNS/reduced --schemes standard excitation excitation_none --rates 0.9 --seeds 0 1 2
train --output $RUNS/reduced --schemes standard --rates 0.15 --seeds 0
train --output $RUNS/reduced --schemes excitation_unit --seeds 0
train --output $RUNS/reduced --schemes $MAIN --seeds 2
train --output $RUNS/long --steps 8000 --schemes standard excitation excitation_none --seeds 0
train --output $RUNS/reduced --schemes excitation_unit standard_batch --seeds 0 1 2
train --output $RUNS/reduced --schemes standard excitation excitation_none --rates 0.25 0.75 --seeds 0 1 2
train --output $RUNS/long --steps 8000 --schemes standard excitation excitation_none --seeds 1 2
for data in caltech101 jhmdb12; do  # figures 5.7 to 5.9
    program --recipe reduced_$data --output $RUNS/reduced_$data --schemes none standard excitation --seeds 0
    program --recipe reduced_$data --output $RUNS/reduced_$data --schemes excitation --rates 0.9 --seeds 0
done
train --output $RUNS/reduced --schemes $MAIN excitation_unit --seeds 3 4
echo all done
