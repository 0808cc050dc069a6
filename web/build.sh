#!/bin/sh
# Compiles the kernels; needs clang and lld (wasm-ld) 14 or newer. What it makes is committed.
set -eu
cd "$(dirname "$0")/src"
clang --target=wasm32 -O3 -msimd128 -mbulk-memory -ffreestanding -ffp-contract=off -fno-builtin-memcpy -nostdlib -Wall -Wextra -Wl,--no-entry \
  -Wl,--import-memory -Wl,--strip-all -o kernels.wasm kernels.c
