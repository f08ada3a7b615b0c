#!/bin/sh
# Make the virtual environment of this checkout, with the versions in constraints/. A second call does nothing.
#
#   scripts/setup_env.sh                                 into .venv, with the first python3 that is new enough
#   PYTHON=python3.12 scripts/setup_env.sh               with this interpreter
#   SELFATTN_VENV=~/envs/selfattn scripts/setup_env.sh   into this folder
#   SELFATTN_TORCH_INDEX=URL scripts/setup_env.sh        with torch for the CPU from a mirror of PyTorch's package index
set -eu

project=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$project"
venv=${SELFATTN_VENV:-.venv}
cpu_index=${SELFATTN_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
constraints=constraints/tested.txt
# What this script leaves in the folder: "unfinished" while it works, then the key of what is installed.
stamp=$venv/selfattn_setup

say() { printf '%s\n' "$*" >&2; }
stop() {
    say "set-up: $*"
    exit 1
}
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        found=$(version_of "$PYTHON") || stop "PYTHON=$PYTHON does not run as a Python interpreter; name one that does, 3.11 or newer."
        new_enough "$PYTHON" || stop "Python 3.11 or newer is needed, and PYTHON=$PYTHON is Python $found; name a newer one."
        python=$PYTHON
    else
        python=
        found=
        for name in python3 python3.14 python3.13 python3.12 python3.11; do
            seen=$(version_of "$name") || continue
            found=${found:-$seen}
            if new_enough "$name"; then
                python=$name found=$seen
                break
            fi
        done
        [ -n "$found" ] || stop "Python is missing: install Python 3.11 or newer (Debian: sudo apt install python3 python3-venv; macOS: brew install python), or name one with PYTHON=."
        [ -n "$python" ] || stop "Python 3.11 or newer is needed, and python3 is Python $found: install a newer one, or name one with PYTHON=."
    fi
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        stop "the venv module of $python is missing: install it (Debian: sudo apt install python$(version_of "$python")-venv), then call again."
}

works() { "$venv/bin/python" -c 'import pip' >/dev/null 2>&1 && new_enough "$venv/bin/python"; }

# Delete only what this script made, or what is broken in the project's own .venv; never a folder of somebody else.
clear_the_place() { # WHY
    [ -e "$venv" ] || return 0
    [ -z "$(ls -A "$venv" 2>/dev/null)" ] && [ -d "$venv" ] && return 0
    if [ ! -f "$stamp" ]; then
        [ -z "${SELFATTN_VENV:-}" ] || stop "SELFATTN_VENV=$venv holds something that this script did not make; name an empty folder or a new one."
        ! works || stop ".venv was not made by this script; move it away, or name another folder with SELFATTN_VENV=."
    fi
    say "set-up: $venv $1 and is made again."
    # The stamp goes last: whatever interrupts this, the next call knows whose folder it is.
    if [ -d "$venv" ]; then
        echo unfinished >"$stamp"
        for thing in "$venv"/* "$venv"/.[!.]*; do
            [ "$thing" = "$stamp" ] || rm -rf "$thing"
        done
    fi
    rm -rf "$venv"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; }

answers() { "$venv/bin/python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$1" >/dev/null 2>&1; }

# On Linux the package index has torch with gigabytes of CUDA libraries; without a GPU the wheel of PyTorch's own index
# is taken. Its dependencies come with the project, from the package index, in the versions of the constraints.
install_torch() {
    torch=$(grep '^torch==' "$constraints")
    if [ "$(uname -s)" != Linux ] || has_gpu; then
        pip install -qq --constraint "$constraints" "$torch"
    elif answers "$cpu_index/torch/"; then
        pip install -qq --no-deps --index-url "$cpu_index" "$torch"
    else
        say "set-up: $cpu_index does not answer; asking pip for a torch without CUDA."
        plan=$(pip install -qq --dry-run --report - --constraint "$constraints" "$torch") ||
            stop "$cpu_index does not answer, and pip finds no $torch elsewhere: connect to the network, or name a mirror with SELFATTN_TORCH_INDEX=."
        ! printf '%s' "$plan" | grep -Eq '"name": *"(nvidia|cuda)-' ||
            stop "$cpu_index does not answer, and elsewhere $torch brings gigabytes of CUDA packages for a GPU that this machine does not have: let it answer, or name a mirror with SELFATTN_TORCH_INDEX=."
        pip install -qq --constraint "$constraints" "$torch"
    fi
}

key=$({ printf '%s\n' "$project" && cat setup.cfg pyproject.toml "$constraints" scripts/setup_env.sh; } | cksum)
if [ -n "${PYTHON:-}" ]; then find_python; fi
state=$(cat "$stamp" 2>/dev/null || echo none)
if ! works; then
    clear_the_place "does not work"
elif [ "$state" = none ] || [ "$state" = unfinished ]; then
    clear_the_place "was not finished"
elif [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$(version_of "$venv/bin/python")" ]; then
    clear_the_place "has another Python than $PYTHON"
elif [ "$state" = "$key" ]; then
    exit 0
fi

if [ ! -f "$stamp" ]; then
    find_python
    say "set-up: making $venv with $python (Python $found); this takes some minutes once."
    mkdir -p "$venv"
    echo unfinished >"$stamp"
    "$python" -m venv "$venv" || stop "$python -m venv failed; the lines above say why. Mend that and call again."
fi
say "set-up: installing the versions of $constraints into $venv."
echo unfinished >"$stamp"
install_torch || stop "torch could not be installed; the lines above say why. Mend that and call again."
pip install -qq --constraint "$constraints" --editable '.[dev]' ||
    stop "the packages could not be installed; the lines above say why. Mend that and call again."
"$venv/bin/python" -c 'import selfattn_hf' ||
    stop "the environment is there but does not work; the lines above say why. Mend that and call again."
printf '%s\n' "$key" >"$stamp"
say "set-up: done, in $venv."
