#!/usr/bin/env bash
# Fuzzes one target for a bounded time, from its seeds and from what earlier runs found (target/fuzz/corpus).
#   scripts/fuzz.sh TARGET [SECONDS]      targets: the files of fuzz/fuzz_targets
# libFuzzer's instrumentation needs a nightly toolchain: FUZZ_TOOLCHAIN, default `nightly`. A failing input is kept under
# fuzz/artifacts; replay it with: cargo +nightly fuzz run TARGET FILE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly toolchain="${FUZZ_TOOLCHAIN:-nightly}"
target="${1:-}" seconds="${2:-60}"
targets="$(find fuzz/fuzz_targets -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort | tr '\n' ' ')"
if [[ -z "$target" || " $targets " != *" $target "* ]]; then
    echo "fuzz: no target '$target'; there are: $targets" >&2
    exit 2
fi
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: '$seconds' is no number of seconds" >&2; exit 2; }
cargo "+$toolchain" --version >/dev/null 2>&1 || {
    printf 'fuzz: the toolchain %s is not here\nremedy: rustup toolchain install nightly --profile minimal\n' "$toolchain" >&2
    exit 1
}
scripts/prepare.sh fuzz
readonly built="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
mkdir -p "$built/corpus/$target"
export CARGO_TARGET_DIR="$built/build"
exec cargo "+$toolchain" fuzz run "$target" "$built/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
