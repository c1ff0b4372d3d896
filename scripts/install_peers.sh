#!/bin/sh
# Installs the programs of others that the tests talk to: dcmtk, gdcm's tools,
# Orthanc, the database servers PostgreSQL and MariaDB, ODBC drivers for SQLite and PostgreSQL, and a C
# compiler for the fault shim (tests/crash). Safe to repeat; when all are present it returns at
# once and touches no package list. Needs root (or
# passwordless sudo) only when something is missing.
#
# pynetdicom and pytest come with the Python package: `pip install -e '.[dev]'`.
set -eu

missing=""
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}

need storescu dcmtk
need dcmqrscp dcmtk
need gdcmscu libgdcm-tools
need Orthanc orthanc
need cc gcc
need mariadbd mariadb-server
need odbcinst odbcinst
[ -n "$(ls /usr/lib/*/odbc/libsqlite3odbc.so 2>/dev/null)" ] || missing="$missing libsqliteodbc"
[ -n "$(ls /usr/lib/*/odbc/psqlodbcw.so 2>/dev/null)" ] || missing="$missing odbc-postgresql"
[ -n "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] || need postgres postgresql

[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "install_peers: no apt-get here; please install:$missing" >&2
    exit 1
fi

sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo -n"

export DEBIAN_FRONTEND=noninteractive
# A Debian package starts its daemon after installation; tests start their own on free
# ports, so that start is denied for the time of the installation.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi

# shellcheck disable=SC2086  # the list is meant to split
if ! $sudo apt-get install -y --no-install-recommends $missing; then
    $sudo apt-get update
    $sudo apt-get install -y --no-install-recommends $missing
fi
