#!/bin/bash
# Makes what the containers must know and nobody else, once: click keys, and the password of PostgreSQL.
set -euo pipefail
directory=${1:-/secrets}
cd "$directory"

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME OWNER: writes what comes in, readable by OWNER alone. What is there stays.
keep() {
  [ -s "$1" ] && { cat >/dev/null; return; }
  cat >"$1.new"
  chmod 0400 "$1.new"
  chown "$2" "$1.new"
  mv "$1.new" "$1"
}

umask 077
chmod 0755 .
afflux=10001
postgresql=999
printf '1:%s\nvisitor:%s\n' "$(random_hex 32)" "$(random_hex 32)" | keep click.keys $afflux
random_hex 16 | keep postgresql.password $postgresql
printf 'postgresql://afflux:%s@postgresql:5432/afflux\n' "$(cat postgresql.password)" | keep postgresql.url $afflux
