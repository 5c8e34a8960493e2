#!/usr/bin/env bash
# `make test`: the stages in order, each with its name and time; the first that fails ends the run. Last line: what passed.
#   scripts/test.sh               all stages
#   scripts/test.sh --only STAGE  one of them
# Package wayfarer-sim turns on the faults of the engine's feature `bugs`. Cargo unites the features of all packages that one command
# names, so the product and the simulator are never named together: `product` and `simulator` below.
# shellcheck disable=SC2317 # the stages are called by name
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
target="${CARGO_TARGET_DIR:-$root/target}"
# CI: what needs a server or a library that is not there fails instead of being skipped; stage prepare has installed them.
export PATH="$target/tools/bin:$PATH" CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}" CI="${CI:-true}"
readonly stages=(prepare fmt clippy tests docs deny clients demo simulation)
readonly product=(--locked --workspace --exclude wayfarer-sim) simulator=(--locked --package wayfarer-sim)

stage_prepare() {
    scripts/prepare.sh test
    scripts/clients.sh
}
stage_fmt() { cargo fmt --all --check; }
stage_clippy() {
    cargo clippy "${product[@]}" --all-targets -- -D warnings
    cargo clippy "${simulator[@]}" --all-targets -- -D warnings
    cargo clippy --locked --package wayfarer --no-default-features -- -D warnings
    cargo clippy --locked --manifest-path benches/compare/Cargo.toml --target-dir "$target/compare" -- -D warnings
}
stage_tests() {
    cargo nextest run "${product[@]}" -E 'not binary(=clients)'
    cargo nextest run "${simulator[@]}"
    cargo test --doc "${product[@]}"
}
stage_docs() {
    export RUSTDOCFLAGS="-D warnings"
    cargo doc --no-deps "${product[@]}"
    cargo doc --no-deps "${simulator[@]}"
}
stage_deny() { cargo deny --locked --log-level error check bans licenses sources; }
# The same packages as in stage tests: for others the features of what they share differ, and all would be compiled once more.
stage_clients() { cargo nextest run "${product[@]}" -E 'binary(=clients)'; }
# With the tests, for the same reason: the program that they have used is the one that is shown.
stage_demo() {
    cargo build "${product[@]}" --tests
    "$target/debug/wayfarer" demo --headless --seconds 10 --json "$target/demo.json"
}
stage_simulation() { scripts/sim.sh; }

if [[ "${1:-}" == --stage ]]; then
    "stage_$2"
    exit
fi
wanted=("${stages[@]}")
if [[ "${1:-}" == --only ]]; then
    [[ " ${stages[*]} " == *" ${2:-} "* ]] || { echo "test: no stage '${2:-}'; there are: ${stages[*]}" >&2; exit 2; }
    wanted=("$2")
fi

# A stage runs in a process group of its own, so that whatever it started can be ended with it.
group=""
end_group() {
    [[ -n "$group" ]] || return 0
    kill -TERM -- "-$group" 2>/dev/null && echo "test: ended processes that stage ${stage:-} had left running" >&2
    group=""
}
trap end_group EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

passed=0 failed=0 report=""
for stage in "${wanted[@]}"; do
    printf '\n=== %s\n' "$stage"
    started=$SECONDS status=0
    setsid "${BASH_SOURCE[0]}" --stage "$stage" </dev/null &
    group=$!
    wait "$group" || status=$?
    end_group
    if ((status == 0)); then passed=$((passed + 1)) verdict=ok; else failed=1 verdict="FAILED (exit code $status)"; fi
    printf -v line '%-12s %5d s  %s' "$stage" "$((SECONDS - started))" "$verdict"
    echo "=== $line"
    report+="$line"$'\n'
    ((status == 0)) || break
done
skipped=$((${#wanted[@]} - passed - failed))
printf '\nStages (skipped: those after one that failed)\n%s%-12s %5d s\n%d passed, %d failed, %d skipped\n' \
    "$report" total "$SECONDS" "$passed" "$failed" "$skipped"
exit "$failed"
