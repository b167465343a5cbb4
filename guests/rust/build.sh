#!/bin/sh
# Builds the guests in Rust into the folder $1: rust/build.sh OUT
#
# A toolchain that has the target wasm32-wasip1 (rustup target add wasm32-wasip1) is used as it is.
# Otherwise Debian's rustc-web compiles the standard library too, from rust-web-src with the crates
# that come in that package (no network), and links it with Debian's wasi-libc; -Zbuild-std is not
# stable, hence RUSTC_BOOTSTRAP.
set -eu

out=$1
manifest=$(dirname "$0")/Cargo.toml
target=wasm32-wasip1
debian_rustc=/usr/bin/rustc
std_crates=/usr/lib/rustlib/src/rust/library/vendor
wasi_libc=/usr/lib/wasm32-wasi

# Flags and variables meant for programs of this machine would spoil the guests.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_RUSTFLAGS RUSTC RUSTC_WRAPPER

build() {
    CARGO_TARGET_DIR=$out/rust cargo build --quiet --release --locked --manifest-path "$manifest" --target $target "$@"
}

if [ -e "$(rustc --print target-libdir --target $target 2>/dev/null)/self-contained/crt1-command.o" ]; then
    build
elif [ -x $debian_rustc ] && [ -e $wasi_libc/crt1-command.o ]; then
    export RUSTC_BOOTSTRAP=1 RUSTC=$debian_rustc CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld-19
    export RUSTFLAGS="-C link-self-contained=no -C link-arg=$wasi_libc/crt1-command.o -L native=$wasi_libc"
    build -Zbuild-std=std,panic_abort \
        --config 'source.crates-io.replace-with="rust-web-src"' \
        --config "source.rust-web-src.directory=\"$std_crates\""
else
    echo "guests in Rust need the target $target, or the packages of guests/packages.txt" >&2
    exit 1
fi

for guest in "$out/rust/$target/release/"*.wasm; do
    cp "$guest" "$out/$(basename "$guest").part"
    mv "$out/$(basename "$guest").part" "$out/$(basename "$guest")"
done
