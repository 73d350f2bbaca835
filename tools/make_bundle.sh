#!/bin/sh
# Makes models/default and data/demo_drive again: records traffic, fits, exports, measures, cuts the demo
# drive out of a validation log, and notes what the bundle answers on it, for the tests. Finished recordings and checkpoints are kept, so that a
# stopped run goes on where it was. Called by `make bundle`.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin

record() { # folder town vehicles seed
    log=out/logs/$1/$2-seed$4
    [ -d "$log" ] && return
    rm -rf "$log.new"
    "$bin/rap-evaluate" record --map "$2" --seconds 120 --seed "$4" --vehicles "$3" \
        --pedestrians 35 --egos 50 --out "$log.new"
    mv "$log.new" "$log"
}

for seed in 1 2 3; do
    record train Town01 55 $seed
    record train Town03 75 $seed
    record train Town04 80 $seed
    record train Town06 60 $seed
done
record validate Town02 40 1
record validate Town05 80 1

# One process per core: one with two threads is hardly faster than with one.
OMP_NUM_THREADS=1 "$bin/rap-train" fit --config default --logs out/logs/train \
    --out out/fit/default --images out/images --accelerator cpu --devices 2 --workers 0
"$bin/rap-train" export out/fit/default --out models/default --logs out/logs/train \
    --validation out/logs/validate --made-by "make bundle"
rm -rf data/demo_drive.new
# A bag's file is named after its folder, which therefore has its name from the beginning.
"$bin/rap-evaluate" bag out/logs/validate/Town02-seed1 --out data/demo_drive.new/demo_drive --seconds 24 --cameras
rm -rf data/demo_drive
mv data/demo_drive.new/demo_drive data/demo_drive
rmdir data/demo_drive.new
"$bin/python" tools/golden_replay.py
