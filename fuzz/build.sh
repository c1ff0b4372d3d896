# Sourced: builds the fuzzing program and says where it is, in $program.
triple=$(rustc -vV | sed -n 's/^host: //p')
program=target/$triple/release/pyserver-fuzz

# What cargo-fuzz passes too, less the sanitizers that need a nightly compiler: the fuzzed code is
# safe Rust, so a panic, a hang or too much memory is all that can go wrong in it. --target keeps
# the flags away from build scripts.
RUSTFLAGS="--cfg fuzzing \
-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --quiet --release --locked --target "$triple"
