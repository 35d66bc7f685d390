#!/usr/bin/env bash
# A machine of its own, with systemd and cgroup v2, as a host for an agent: what
# namespaces on this machine cannot show.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
deploy=$(dirname "$here")
# shellcheck source=deploy/lib/process.sh
. "$deploy/lib/process.sh"
# shellcheck source=deploy/test/api.sh
. "$deploy/test/api.sh"
# shellcheck source=deploy/testbed/guest/settings.sh
. "$here/guest/settings.sh"
# shellcheck source=deploy/testbed/guest/image.sh
. "$here/guest/image.sh"
# shellcheck source=deploy/testbed/guest/machine.sh
. "$here/guest/machine.sh"
# shellcheck source=deploy/testbed/guest/fleet.sh
. "$here/guest/fleet.sh"
# shellcheck source=deploy/testbed/guest/checks.sh
. "$here/guest/checks.sh"

usage() {
  cat <<'TEXT'
A Debian 12 guest with systemd, cgroup v2 and Docker Engine, in QEMU without KVM,
and an agent in it whose controller is outside.

  guest.sh test          all of it: image, guest, controller, agent, checks, down
  guest.sh image         make the guest's file system, once; later runs copy it
  guest.sh up            boot a fresh guest, and wait until it is ready
  guest.sh fleet         start a controller here, install the agent there, enrol it
  guest.sh check [NAME]  run the checks, or one of them, on what is up
  guest.sh exec COMMAND  run a command in the guest, as root
  guest.sh put FILE PATH copy a file into the guest
  guest.sh down          end guest and controller; the image stays
  guest.sh status        what is there, and the REST API's address and token

Needs root (the image has files of root's, and PostgreSQL its own user), and
Debian's debootstrap, qemu-system-x86, e2fsprogs, openssh-client, jq, curl and
postgresql; the image is made from the mirror.

Environment: A67_TESTBED_GUEST_DIR (/var/tmp/a67-guest) for image and guest,
A67_TESTBED_GUEST_MIRROR (http://deb.debian.org/debian), A67_TESTBED_GUEST_CPUS (2),
A67_TESTBED_GUEST_MEMORY_MIB (2048), A67_TESTBED_GUEST_PORTS (17700: the first of
three ports on 127.0.0.1), A67_TESTBED_GUEST_SLOW (6: deadlines are this many times
what a guest on an idle machine needs), A67_BIN_DIR (deploy/bin) with the binaries.
TEXT
}

guest_test() {
  local started=$SECONDS
  trap guest_test_end EXIT
  image_make
  machine_down
  machine_up
  fleet_up
  checks_run
  timing "all" "$started"
}

guest_test_end() {
  local status=$?
  trap - EXIT
  set +e
  if ((status != 0)); then
    machine_run 'automator67-agent status; automator67-agent doctor; journalctl -n 60 --no-pager -u automator67-agent' 2>&1
    tail -n 20 "$RUN_DIR/controller.log"
    tail -n 5 "$RUN_DIR/console.log"
  fi
  fleet_down
  machine_down
  timings_print
  exit "$status"
}

main() {
  local verb=${1:-help}
  [[ $# -eq 0 ]] || shift
  case $verb in help | -h | --help) usage; return ;; esac
  settings_check
  case $verb in
    test) guest_test ;;
    image) image_make ;;
    up) image_make; machine_down; machine_up ;;
    fleet) fleet_up ;;
    check) checks_run "$@" ;;
    exec) machine_run "$@" ;;
    put) machine_put "$1" "$2" ;;
    down) fleet_down; machine_down ;;
    status) machine_status; fleet_status ;;
    *) guest_fail "there is no verb '$verb'; see 'guest.sh help'" ;;
  esac
}

main "$@"
