#!/usr/bin/env bash
# Brings up Automator67 on this machine: controller with its own PostgreSQL, and an agent.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
repo=$(dirname "$here")
# shellcheck source=deploy/lib/process.sh
. "$here/lib/process.sh"
# shellcheck source=deploy/lib/say.sh
. "$here/lib/say.sh"
# shellcheck source=deploy/lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=deploy/lib/rust.sh
. "$here/lib/rust.sh"
# shellcheck source=deploy/quickstart/options.sh
. "$here/quickstart/options.sh"
# shellcheck source=deploy/quickstart/needs.sh
. "$here/quickstart/needs.sh"
# shellcheck source=deploy/quickstart/engine.sh
. "$here/quickstart/engine.sh"
# shellcheck source=deploy/quickstart/binaries.sh
. "$here/quickstart/binaries.sh"
# shellcheck source=deploy/quickstart/controller.sh
. "$here/quickstart/controller.sh"
# shellcheck source=deploy/quickstart/agent.sh
. "$here/quickstart/agent.sh"
# shellcheck source=deploy/quickstart/stop.sh
. "$here/quickstart/stop.sh"
# shellcheck source=deploy/quickstart/finish.sh
. "$here/quickstart/finish.sh"

main() {
  options_parse "$@"
  if ((OPT_DOWN)); then
    down
    return
  fi
  trap on_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  data_dir_make
  run_lock
  STEP_TOTAL=8
  step_check
  step_install
  step_engine
  step_binaries
  step_controller
  step_account
  step_enrol
  step_agent
  run_unlock
  summary_print
  RUN_COMPLETE=1
  ((OPT_DETACH)) || stay
}

main "$@"
