#!/bin/sh
# Compiles the kernels, which needs clang and lld (wasm-ld) 14 or newer, and makes the page of `caecodec view`. What it makes is committed.
set -eu
cd "$(dirname "$0")/src"
clang --target=wasm32 -O3 -msimd128 -mbulk-memory -ffreestanding -ffp-contract=off -fno-builtin-memcpy -nostdlib -Wall -Wextra -Wl,--no-entry \
  -Wl,--import-memory -Wl,--strip-all -o kernels.wasm kernels.c
sha256sum kernels.c > kernels.c.sha256 # a test sees whether this was run after a change
node "$PWD/../bundle.js"
