#!/bin/sh
# Makes models/default and data/demo_drive again: records traffic, fits, exports, measures, and cuts
# the demo drive out of a validation log. Finished recordings and checkpoints are kept, so that a
# stopped run goes on where it was. Called by `make bundle`.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin

record() { # folder town vehicles
    log=out/logs/$1/$2-seed1
    [ -d "$log" ] && return
    rm -rf "$log.new"
    "$bin/rap-evaluate" record --map "$2" --seconds 120 --seed 1 --vehicles "$3" \
        --pedestrians 35 --egos 50 --out "$log.new"
    mv "$log.new" "$log"
}

record train Town01 55
record train Town03 75
record train Town04 80
record train Town06 60
record validate Town02 40
record validate Town05 80

"$bin/rap-train" fit --logs out/logs/train --out out/fit/default
"$bin/rap-train" export out/fit/default --out models/default --logs out/logs/train \
    --validation out/logs/validate --made-by "make bundle"
rm -rf data/demo_drive
"$bin/rap-evaluate" bag out/logs/validate/Town02-seed1 --out data/demo_drive --seconds 24 --cameras
