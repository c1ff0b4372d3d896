#!/usr/bin/env bash
# Rewrites the corpora of the targets named, or of all: inputs that reach nothing of their own go,
# up to FILES_MAX in all are taken over from what fuzzing has grown, the smallest first.
set -euo pipefail
cd "$(dirname "$0")"
source ./build.sh

FILES_MAX=32
# Counting how often a place is reached would keep ten times as many files.
merge() {
    local name=$1 how=$2 into=$3
    shift 3
    mkdir -p "$into"
    FUZZ_TARGET=$name nice -n 19 "$program" "$how" -use_counters=0 -max_len=1500 "$into" "$@" \
        2>&1 | tail -n 1
}

mapfile -t targets < <(if (($#)); then printf '%s\n' "$@"; else ls corpus; fi)
for name in "${targets[@]}"; do
    rm -rf "target/kept/$name" "target/fresh/$name"
    mkdir -p "target/grown/$name" target/fresh
    merge "$name" -set_cover_merge=1 "target/kept/$name" "corpus/$name" >/dev/null
    for file in "corpus/$name"/*; do
        # libFuzzer names its files by the SHA-1 of their bytes; names that tell something stay.
        hash=$(sha1sum <"$file" | cut -d ' ' -f 1)
        [[ -e target/kept/$name/$hash ]] || rm "$file"
    done
    cp -r "target/kept/$name" "target/fresh/$name"
    merge "$name" -merge=1 "target/fresh/$name" "target/grown/$name" >/dev/null
    room=$((FILES_MAX - $(ls "corpus/$name" | wc -l)))
    while read -r file; do
        if ((room > 0)) && [[ ! -e target/kept/$name/$file ]]; then
            cp "target/fresh/$name/$file" "corpus/$name/${file:0:12}"
            room=$((room - 1))
        fi
    done < <(ls -Sr "target/fresh/$name")
    echo "$name: $(ls "corpus/$name" | wc -l) files, $(cat "corpus/$name"/* | wc -c) bytes"
done
