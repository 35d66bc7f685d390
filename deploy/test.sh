#!/usr/bin/env bash
# The one test command: installs what the tests need, runs everything, cleans up.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
repo=$(dirname "$here")
# shellcheck source=deploy/lib/process.sh
. "$here/lib/process.sh"
# shellcheck source=deploy/lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=deploy/lib/rust.sh
. "$here/lib/rust.sh"
# shellcheck source=deploy/test/stage.sh
. "$here/test/stage.sh"
# shellcheck source=deploy/test/prepare.sh
. "$here/test/prepare.sh"
# shellcheck source=deploy/test/workspace.sh
. "$here/test/workspace.sh"
# shellcheck source=deploy/test/scripts.sh
. "$here/test/scripts.sh"
# shellcheck source=deploy/test/vectors.sh
. "$here/test/vectors.sh"
# shellcheck source=deploy/test/install.sh
. "$here/test/install.sh"
# shellcheck source=deploy/test/api.sh
. "$here/test/api.sh"
# shellcheck source=deploy/test/quickstart.sh
. "$here/test/quickstart.sh"
# shellcheck source=deploy/test/images.sh
. "$here/test/images.sh"
# shellcheck source=deploy/test/compose.sh
. "$here/test/compose.sh"
# shellcheck source=deploy/test/ui.sh
. "$here/test/ui.sh"
# shellcheck source=deploy/test/leftovers.sh
. "$here/test/leftovers.sh"

STAGES=(packages toolchain scripts vectors install testbed build check tests ui quickstart compose leftovers)

usage() {
  cat <<TEXT
Usage: deploy/test.sh [STAGE...]

Runs all tests, as root, on Debian 12 or newer: installs what they need (only
what is missing), builds, checks, tests, and cleans up. Needs Rust $RUST_WANTED.
With stages named, runs only those: ${STAGES[*]}
TEXT
}

main() {
  case ${1:-} in -h | --help) usage; return ;; esac
  (($# > 0)) || set -- "${STAGES[@]}"
  local name
  for name in "$@"; do
    [[ " ${STAGES[*]} " == *" $name "* ]] || { echo "there is no stage '$name'" >&2; usage >&2; exit 64; }
  done
  environment_clean
  cd "$repo"
  trap test_end EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  WORK=$(mktemp -d /var/tmp/a67-test.XXXXXX)
  # PostgreSQL runs as another user and must be able to pass.
  chmod 0711 "$WORK"
  leftovers_note
  # For the stages, which run in shells of their own; a missing one is reported by its stage.
  toolchain_use || true
  for name in "$@"; do
    stage "$name"
  done
}

# Whatever happens: the processes that still run, the testbeds and the files go.
test_end() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  descendants_end
  testbeds_down >/dev/null 2>&1 || true
  rm -rf "${WORK:?}"
  stage_summary || status=1
  exit "$status"
}

main "$@"
