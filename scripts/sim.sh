#!/usr/bin/env bash
# A short simulation of the engine's machines. With SEED set that seed is replayed, else fresh seeds are taken for SECONDS_TO_RUN (30).
# The simulator prints every seed that fails, with the command that replays it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -n "${SEED:-}" ]]; then
    exec cargo run --locked --quiet --package wayfarer-sim -- --seed "$SEED"
fi
exec cargo run --locked --quiet --package wayfarer-sim -- --seconds "${SECONDS_TO_RUN:-30}"
