#!/bin/sh
# Finds a Python that can carry the workspace and runs tools/setup.py with it.
#
#   tools/setup.sh runtime   what `make demo` needs
#   tools/setup.sh full      offline tools, tests and lint as well
#
# PYTHON names the interpreter for a new .venv; otherwise the first fitting one on PATH is taken.
set -eu
cd "$(dirname "$0")/.."

needed="needed is 3.11 or 3.12 with venv and headers; set PYTHON to one"
probe='
import os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
if version not in ("3.11", "3.12"):
    sys.exit("is Python " + version)
try:
    import ensurepip, venv
except ImportError:
    sys.exit("lacks venv or ensurepip (Debian, Ubuntu: apt install python%s-venv)" % version)
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    sys.exit("lacks Python.h (Debian, Ubuntu: apt install python%s-dev)" % version)
print(version)
'

# Prints the candidates, one a line. Every folder of PATH is looked at, because the first hit may
# be a version manager's shim that exists and does not run.
candidates() {
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON"
        return
    fi
    for name in python3.12 python3.11 python3; do
        (
            IFS=:
            for folder in $PATH; do
                [ -x "$folder/$name" ] && echo "$folder/$name"
            done
        ) || true
    done
}

if [ -n "${PYTHON:-}" ]; then
    if ! wanted=$("$PYTHON" -c "$probe" 2>&1); then
        echo "setup: PYTHON=$PYTHON $(printf '%s' "$wanted" | head -n 1); $needed" >&2
        exit 1
    fi
fi

# An environment made by setup.py keeps its Python. -I -S skips the ROS wheels' start-up hook.
if [ -f .venv/.setup/venv ] &&
    current=$(.venv/bin/python -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
then
    if [ "${wanted:-$current}" != "$current" ]; then
        echo "setup: .venv has Python $current, PYTHON=$PYTHON is $wanted: run make clean first" >&2
        exit 1
    fi
    exec .venv/bin/python -I -S tools/setup.py "$@"
fi

reasons=
while read -r python; do
    [ -n "$python" ] || continue
    if answer=$("$python" -c "$probe" 2>&1); then
        exec "$python" tools/setup.py "$@" </dev/null
    fi
    reasons="$reasons; $python $(printf '%s' "$answer" | head -n 1)"
done <<EOF
$(candidates)
EOF
echo "setup: no usable Python, $needed${reasons:-; none on PATH}" >&2
exit 1
