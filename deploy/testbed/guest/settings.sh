# shellcheck shell=bash disable=SC2034
# Where a guest lives, which ports it has, and how patient we are with it.

GUEST_DIR=${A67_TESTBED_GUEST_DIR:-/var/tmp/a67-guest}
GUEST_MIRROR=${A67_TESTBED_GUEST_MIRROR:-http://deb.debian.org/debian}
GUEST_CPUS=${A67_TESTBED_GUEST_CPUS:-2}
GUEST_MEMORY_MIB=${A67_TESTBED_GUEST_MEMORY_MIB:-2048}
GUEST_PORTS=${A67_TESTBED_GUEST_PORTS:-17700}
# A processor that is emulated, and shares a machine with a compiler, is slow in a
# way that no fixed deadline fits.
GUEST_SLOW=${A67_TESTBED_GUEST_SLOW:-6}
GUEST_SUITE=bookworm
GUEST_DISK=6G
# This machine, as QEMU's user networking shows it to the guest.
GUEST_OUTSIDE=10.0.2.2

IMAGE_DIR=$GUEST_DIR/image
RUN_DIR=$GUEST_DIR/run
GUEST_BIN_DIR=${A67_BIN_DIR:-$deploy/bin}
GUEST_TIMINGS=()

guest_fail() {
  printf 'guest: %s\n' "$*" >&2
  exit 1
}

say() { printf '%s\n' "$*"; }

settings_check() {
  ((EUID == 0)) || guest_fail "must run as root"
  [[ $GUEST_DIR == /* && ${#GUEST_DIR} -le 60 ]] ||
    guest_fail "A67_TESTBED_GUEST_DIR must be an absolute path of at most 60 characters, not '$GUEST_DIR'"
  [[ $GUEST_PORTS =~ ^[1-9][0-9]{3,4}$ && $GUEST_PORTS -lt 65533 ]] ||
    guest_fail "A67_TESTBED_GUEST_PORTS must be a port number, not '$GUEST_PORTS'"
  [[ $GUEST_SLOW =~ ^[1-9][0-9]?$ ]] || guest_fail "A67_TESTBED_GUEST_SLOW must be 1 to 99"
  HTTP_PORT=$GUEST_PORTS GRPC_PORT=$((GUEST_PORTS + 1)) SSH_PORT=$((GUEST_PORTS + 2))
  local program missing=()
  for program in debootstrap qemu-system-x86_64 mke2fs ssh ssh-keygen jq curl; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  ((${#missing[@]} == 0)) ||
    guest_fail "these programs are missing: ${missing[*]} (Debian: debootstrap qemu-system-x86 e2fsprogs openssh-client jq curl)"
  # The private PostgreSQL's account passes through.
  install -d -m 0711 "$GUEST_DIR" "$RUN_DIR"
  # Nothing of the caller's reaches the daemons.
  local name
  for name in "${!A67_@}"; do unset "$name"; done
}

# patient SECONDS COMMAND...: as wait_until, with patience for a slow guest.
patient() {
  local seconds=$1
  shift
  wait_until $((seconds * GUEST_SLOW)) "$@"
}

# timing NAME STARTED: remembers how long something took, in seconds.
timing() {
  GUEST_TIMINGS+=("$(printf '%5d s  %s' $((SECONDS - $2)) "$1")")
  say "   ($1: $((SECONDS - $2)) s)"
}

timings_print() {
  ((${#GUEST_TIMINGS[@]} == 0)) || printf '%s\n' "" "${GUEST_TIMINGS[@]}"
}
