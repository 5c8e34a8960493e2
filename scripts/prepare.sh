#!/usr/bin/env bash
# Installs what this machine lacks, and says so. Debian's and Ubuntu's packages come by apt, through sudo when not root; tools of
# cargo go to target/tools. Nothing is asked of a package server when nothing is missing.
#   scripts/prepare.sh build   what compiling needs (default)
#   scripts/prepare.sh bench   the above, and the servers that are compared with
#   scripts/prepare.sh deny    what compiling needs, and cargo-deny
#   scripts/prepare.sh fuzz    what compiling needs, a C++ compiler, and cargo-fuzz
#   scripts/prepare.sh test    what `make test` needs
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
purpose="${1:-build}"
readonly tools="${CARGO_TARGET_DIR:-$root/target}/tools"
readonly nextest_version=0.9.143
readonly deny_version=0.20.2
readonly fuzz_version=0.13.1

say() { printf 'prepare: %s\n' "$*"; }
fail() {
    say "$1" >&2
    say "remedy: $2" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

missing=()
# need PACKAGE COMMAND…: the package is missing unless the command succeeds.
need() {
    local package="$1"
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

needs_of_build() {
    need gcc has cc
    need libc6-dev test -e /usr/include/stdio.h
    # libz-ng of the HTTP face is built with cmake, which drives make.
    need cmake has cmake
    need make has make
}

needs_of_bench() {
    need redis-server has redis-server
    need util-linux has taskset
    need haproxy test -x /usr/sbin/haproxy
    need nginx-light test -x /usr/sbin/nginx
    # Envoy comes as a Python package.
    need python3 has python3
    need python3-venv python3 -c 'import ensurepip, venv'
}

needs_of_test() {
    need redis-server has redis-server
    need python3 has python3
    need python3-venv python3 -c 'import ensurepip, venv'
    need nodejs has node
    need npm has npm
    need curl has curl
    # Certificates of the tests of TLS.
    need openssl has openssl
    need util-linux has setsid
    # Transparent mode: namespaces, and rules of either kind in them.
    need iproute2 has ip
    need nftables test -x /usr/sbin/nft
    need iptables test -x /usr/sbin/iptables
    # The PHP service of the client tests.
    need php-cli has php
    # The balancers in front of three instances.
    need haproxy test -x /usr/sbin/haproxy
    need nginx-light test -x /usr/sbin/nginx
    need php-redis php -r 'exit(extension_loaded("redis") ? 0 : 1);'
}

install_missing() {
    ((${#missing[@]} == 0)) && return
    say "missing on this machine: ${missing[*]}"
    has apt-get || fail "apt-get is not here, so they cannot be installed" "install them with this system's own package tool, then try again"
    local as_root=()
    if ((EUID != 0)); then
        has sudo || fail "neither root nor sudo" "as root: apt-get install ${missing[*]}"
        as_root=(sudo)
        say "installing with apt through sudo; it may ask for your password"
    else
        say "installing with apt"
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
        fail "apt could not install them" "look at the message above; by hand: apt-get install ${missing[*]}"
    say "installed: ${missing[*]}"
}

need_rust() {
    has cargo || fail "cargo is not here" "install the Rust toolchain (rustup), then open a new shell"
    cargo --version >/dev/null || fail "the toolchain that rust-toolchain.toml names cannot be used" "rustup toolchain install"
}

# cargo_tool NAME VERSION FLAGS…: installs a cargo subcommand into target/tools unless one is in PATH or there already.
cargo_tool() {
    local name="$1" version="$2"
    shift 2
    { [[ -x "$tools/bin/$name" ]] || has "$name"; } && return
    say "building $name $version into $tools (once, some minutes)"
    # They run for seconds: what optimizing them takes is never earned back.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --quiet --locked --root "$tools" --version "$version" "$@" "$name" ||
        fail "$name could not be built" "look at the message above; by hand: cargo install --locked $name --version $version"
}

needs_of_build
[[ "$purpose" == test ]] && needs_of_test
[[ "$purpose" == bench ]] && needs_of_bench
[[ "$purpose" == fuzz ]] && need g++ has c++
install_missing
need_rust
case "$purpose" in
build | bench) ;;
deny) cargo_tool cargo-deny "$deny_version" --no-default-features ;;
fuzz) cargo_tool cargo-fuzz "$fuzz_version" ;;
test)
    cargo_tool cargo-nextest "$nextest_version" --no-default-features --features default-no-update
    cargo_tool cargo-deny "$deny_version" --no-default-features
    ;;
*) fail "unknown purpose '$purpose'" "one of: build, bench, deny, fuzz, test" ;;
esac
