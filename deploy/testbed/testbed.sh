#!/usr/bin/env bash
# Several real Docker hosts on one machine, each a network namespace with its own engine.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=deploy/lib/process.sh
. "$here/../lib/process.sh"
# shellcheck source=deploy/testbed/lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=deploy/testbed/lib/network.sh
. "$here/lib/network.sh"
# shellcheck source=deploy/testbed/lib/engine.sh
. "$here/lib/engine.sh"
# shellcheck source=deploy/testbed/lib/images.sh
. "$here/lib/images.sh"
# shellcheck source=deploy/testbed/lib/clean.sh
. "$here/lib/clean.sh"
# shellcheck source=deploy/testbed/lib/report.sh
. "$here/lib/report.sh"

usage() {
  cat <<'TEXT'
Several real Docker hosts on one machine, for tests.

  testbed.sh up N                  bring up hosts h1 to hN and a registry
  testbed.sh down                  take everything away, also after a crash
  testbed.sh cut HOST              unplug a host's network cable (frames vanish)
  testbed.sh heal HOST             plug it in again
  testbed.sh engine-kill HOST      SIGKILL dockerd. containerd and the shims live on, so
                                   the containers keep running, and no one answers for them.
                                   The next engine-start ends them (exit code 137), unless
                                   the testbed has live-restore
  testbed.sh engine-stop HOST      SIGTERM dockerd; it stops its containers first
  testbed.sh engine-start HOST     start dockerd again and wait until it answers
  testbed.sh import HOST NAME TAG  load a busybox image (HOST may be 'all'); the same
                                   NAME:TAG has the same image id everywhere
  testbed.sh image FILE NAME TAG   write that image as an archive for 'docker load'
  testbed.sh push HOST NAME TAG    push that image; prints the name to pull it by
  testbed.sh exec HOST COMMAND...  run a command in the host's network, DOCKER_HOST set;
                                   the command replaces this process, so its pid is ours
  testbed.sh env [HOST]            the testbed as JSON, or one host as shell assignments
  testbed.sh status                a table for people

This machine is 10.67.0.1 on the bridge, h1 is 10.67.0.11, the registry is
10.67.0.1:5000. Everything that runs inside a host's namespace belongs to the
testbed: 'down' ends it. Must run as root.

Environment: A67_TESTBED_NAME (a67), A67_TESTBED_SUBNET (10.67.0.0/24),
A67_TESTBED_DIR (/tmp/NAME-testbed), A67_TESTBED_STORAGE (the engine's choice, or
btrfs: a file system per host, which enforces --storage-opt size=),
A67_TESTBED_DISK_MIB (4096), A67_TESTBED_LIVE_RESTORE (0).
Two testbeds live beside each other with different names and subnets.
TEXT
}

needs() {
  local program missing=()
  for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  ((${#missing[@]} == 0)) ||
    tb_fail "these programs are missing: ${missing[*]} (Debian: docker.io docker-registry busybox-static iproute2 iptables util-linux curl btrfs-progs)"
}

testbed_up() {
  local count=$1 number host
  [[ $count =~ ^[1-9][0-9]{0,2}$ && $count -le $TB_HOSTS_MAX ]] ||
    tb_fail "up needs a number of hosts from 1 to $TB_HOSTS_MAX, not '$count'"
  needs ip nsenter setsid iptables curl dockerd containerd docker-registry busybox
  [[ $TB_STORAGE != btrfs ]] || needs mkfs.btrfs losetup
  state_dir_make
  bridge_up
  for ((number = 1; number <= count; number++)); do
    host=h$number
    mkdir -p "$(host_dir "$host")"
    host_network_up "$host"
    host_disk_up "$host"
    engine_launch "$host" || engine_wait "$host"
  done
  registry_up
  for ((number = 1; number <= count; number++)); do
    engine_wait "h$number"
  done
}

arguments() {
  local wanted=$1 given=$2
  ((given == wanted)) || tb_fail "wrong number of arguments; see 'testbed.sh help'"
}

main() {
  local verb=${1:-help}
  [[ $# -eq 0 ]] || shift
  case $verb in help | -h | --help) usage; return ;; esac
  settings_check
  ((EUID == 0)) || tb_fail "must run as root: it makes network namespaces and starts Docker engines"
  case $verb in
    up) arguments 1 $#; state_lock; testbed_up "$1" ;;
    down) arguments 0 $#; state_lock; testbed_down ;;
    cut) arguments 1 $#; host_require "$1"; host_cut "$1" ;;
    heal) arguments 1 $#; host_require "$1"; host_heal "$1" ;;
    engine-kill) arguments 1 $#; host_require "$1"; engine_kill "$1" ;;
    engine-stop) arguments 1 $#; host_require "$1"; engine_stop "$1" ;;
    engine-start) arguments 1 $#; host_require "$1"; engine_launch "$1" || true; engine_wait "$1" ;;
    import) arguments 3 $#; image_import "$1" "$2" "$3" ;;
    image) arguments 3 $#; image_archive "$2:$3" "$1" ;;
    push) arguments 3 $#; host_require "$1"; image_push "$1" "$2" "$3" ;;
    env) env_print "$@" ;;
    status) arguments 0 $#; status_print ;;
    exec)
      (($# >= 2)) || tb_fail "exec needs a host and a command"
      host_require "$1"
      export DOCKER_HOST
      DOCKER_HOST=unix://$(host_socket "$1")
      exec nsenter --net="/var/run/netns/$(host_namespace "$1")" "${@:2}"
      ;;
    *) tb_fail "there is no verb '$verb'; see 'testbed.sh help'" ;;
  esac
}

main "$@"
