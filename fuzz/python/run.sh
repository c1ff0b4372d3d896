#!/usr/bin/env bash
# Fuzzes the Python targets named, or all of them, FUZZ_SECONDS each (default 600), with PYTHON.
set -euo pipefail
cd "$(dirname "$0")/../.."

mapfile -t targets < <(if (($#)); then printf '%s\n' "$@"; else ls fuzz/python/corpus; fi)
for name in "${targets[@]}"; do
    grown=fuzz/target/grown/python/$name
    mkdir -p "$grown" "fuzz/artifacts/$name"
    echo "== $name, ${FUZZ_SECONDS:-600} s"
    if ! nice -n 19 "${PYTHON:-python3}" -m fuzz.python "$name" \
        -max_total_time="${FUZZ_SECONDS:-600}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$name/" "$grown" "fuzz/python/corpus/$name" \
        >"fuzz/target/$name.log" 2>&1; then
        grep -E -B 12 'ERROR: libFuzzer|Test unit written' "fuzz/target/$name.log"
        exit 1
    fi
    grep -E '^Done|^stat::(number|peak)' "fuzz/target/$name.log"
done
