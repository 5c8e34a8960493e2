#!/usr/bin/env bash
# Installs what the client applications of tests/clients need, at the pinned versions, under target/clients:
# a Python environment in venv/, the Node packages in node/. Does nothing when both are up to date.
#   scripts/clients.sh [python]   both, or the Python environment alone
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
apps="$root/tests/clients"
into="${CARGO_TARGET_DIR:-$root/target}/clients"
readonly node_major_min=20

say() { printf 'clients: %s\n' "$*"; }
fail() {
    say "$1" >&2
    say "remedy: $2" >&2
    exit 1
}

# A folder is up to date when its stamp holds the digest of the files that it was made from.
digest() { sha256sum "$@" | sha256sum | cut -d' ' -f1; }
up_to_date() { [[ -f "$1/.stamp" && "$(<"$1/.stamp")" == "$2" ]]; }

python_apps() {
    local want
    want="$(digest "$apps/requirements.txt")-$(python3 --version | tr ' ' '-')"
    up_to_date "$into/venv" "$want" && { say "Python: up to date ($into/venv)"; return; }
    say "Python: making $into/venv from requirements.txt"
    rm -rf "$into/venv"
    python3 -m venv "$into/venv" || fail "python3 cannot make an environment" "scripts/prepare.sh test (package python3-venv)"
    "$into/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$apps/requirements.txt"
    "$into/venv/bin/python" -m pip check
    printf '%s' "$want" >"$into/venv/.stamp"
}

node_apps() {
    local major want
    major="$(node --version | sed -E 's/^v([0-9]+).*/\1/')"
    ((major >= node_major_min)) ||
        fail "node $(node --version) is too old: node-redis 6 and ioredis 6 need $node_major_min" \
            "install Node.js $node_major_min or later and put it first in PATH"
    want="$(digest "$apps/package.json" "$apps/package-lock.json" "$apps/.npmrc")-$major"
    up_to_date "$into/node" "$want" && { say "Node: up to date ($into/node)"; return; }
    say "Node: installing into $into/node from package-lock.json"
    rm -rf "$into/node"
    mkdir -p "$into/node"
    cp "$apps/package.json" "$apps/package-lock.json" "$apps/.npmrc" "$into/node/"
    (cd "$into/node" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error)
    printf '%s' "$want" >"$into/node/.stamp"
}

mkdir -p "$into"
python_apps
[[ "${1:-}" == python ]] || node_apps
