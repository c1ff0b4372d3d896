#!/usr/bin/env bash
# Says clearly which tool is missing, and how to get it. With --python it prints the interpreter.
set -u

rust_needed="1.88"
missing=0

tell() {
    missing=1
    printf 'missing: %s\n    %s\n' "$1" "$2" >&2
}

find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

older() {  # older A B: A comes before B
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

if python=$(find_python); then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        tell "Python's venv module" "Debian, Ubuntu: apt-get install python3-venv"
    fi
else
    tell "Python 3.11 or later" "Debian, Ubuntu: apt-get install python3 python3-venv; else python.org"
fi

if [ "${1:-}" = "--python" ]; then
    printf '%s\n' "${python:-}"
    exit "$missing"
fi

if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    tell "Rust's cargo and rustc, $rust_needed or later" "see https://rustup.rs"
else
    found=$(rustc --version | awk '{ sub(/-.*/, "", $2); print $2 }')
    if older "$found" "$rust_needed"; then
        tell "rustc $rust_needed or later (found $found)" "rustup update"
    fi
fi

if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
    tell "a C compiler (cc)" "Debian, Ubuntu: apt-get install build-essential; Fedora: dnf install gcc"
elif [ -n "${python:-}" ] && [ ! -f "$("$python" -c \
    'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]; then
    tell "Python's C headers (Python.h)" "Debian, Ubuntu: apt-get install python3-dev"
fi

exit "$missing"
