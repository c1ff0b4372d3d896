#!/usr/bin/env bash
# Fuzzes the targets named, or all of them, one after the other, FUZZ_SECONDS each (default 600).
# Needs a stable Rust toolchain and a C++ compiler; see README.md.
set -euo pipefail
cd "$(dirname "$0")"
source ./build.sh

mapfile -t targets < <(if (($#)); then printf '%s\n' "$@"; else ls corpus; fi)
failed=()
for name in "${targets[@]}"; do
    mkdir -p "target/grown/$name" "artifacts/$name"
    options=()
    [[ -e dictionaries/$name.txt ]] && options=("-dict=dictionaries/$name.txt")
    echo "== $name, ${FUZZ_SECONDS:-600} s"
    # A hang is ten seconds for one input, too much memory is 2 GB.
    if FUZZ_TARGET=$name nice -n 19 "$program" "${options[@]}" \
        -max_total_time="${FUZZ_SECONDS:-600}" -max_len="${FUZZ_MAX_LEN:-4096}" -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="artifacts/$name/" \
        "target/grown/$name" "corpus/$name" >"target/$name.log" 2>&1; then
        grep -E '^Done|^stat::(number|peak)' "target/$name.log"
    else
        grep -E -A 6 'panicked|^SUMMARY|Test unit written' "target/$name.log" || tail "target/$name.log"
        failed+=("$name")
    fi
done
if ((${#failed[@]})); then
    echo "findings in: ${failed[*]}; the inputs lie in artifacts/"
    exit 1
fi
