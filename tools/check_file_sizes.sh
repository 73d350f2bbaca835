#!/bin/sh
# Fails for each file given that is over the limit: every version of it stays in the history.
limit_kb=1500
status=0
for file in "$@"; do
    size_kb=$(($(wc -c <"$file") / 1000))
    if [ "$size_kb" -gt "$limit_kb" ]; then
        echo "$file: $size_kb kB, the limit is $limit_kb kB" >&2
        status=1
    fi
done
exit $status
