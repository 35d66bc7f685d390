# shellcheck shell=bash disable=SC2034
# What a testbed is called, where it lives and which addresses it has.
#
# Everything a testbed makes (bridge, namespaces, control groups, firewall
# rules, files) carries its name or lies in its directory. That is how `down`
# finds all of it again, also when the run that made it was killed.

# Name of this testbed; a second one beside it needs another name and subnet.
TB_NAME=${A67_TESTBED_NAME:-a67}
# A /24; .1 is this machine's address on the bridge, .11 is host h1, and so on.
TB_SUBNET=${A67_TESTBED_SUBNET:-10.67.0.0/24}
TB_DIR=${A67_TESTBED_DIR:-/tmp/$TB_NAME-testbed}
# overlay2 (or any other driver that the engine knows) on the machine's own disk,
# or btrfs: a file system of its own per engine, on which `--storage-opt size=` holds.
TB_STORAGE=${A67_TESTBED_STORAGE:-}
TB_DISK_MIB=${A67_TESTBED_DISK_MIB:-4096}
# With 1, containers survive the death of their engine, as on hosts with "live-restore".
TB_LIVE_RESTORE=${A67_TESTBED_LIVE_RESTORE:-0}
TB_HOSTS_MAX=200

tb_fail() {
  printf 'testbed: %s\n' "$*" >&2
  exit 1
}

settings_check() {
  [[ $TB_NAME =~ ^[a-z][a-z0-9]{0,8}$ ]] ||
    tb_fail "A67_TESTBED_NAME must be 1 to 9 lower-case letters and digits, not '$TB_NAME'"
  [[ $TB_SUBNET =~ ^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.0/24$ ]] ||
    tb_fail "A67_TESTBED_SUBNET must be a /24 such as 10.67.0.0/24, not '$TB_SUBNET'"
  [[ $TB_DIR == /* && ${#TB_DIR} -le 60 ]] ||
    tb_fail "A67_TESTBED_DIR must be an absolute path of at most 60 characters (socket paths are limited), not '$TB_DIR'"
  TB_PREFIX=${TB_SUBNET%.0/24}
  TB_GATEWAY=$TB_PREFIX.1
  TB_BRIDGE=$TB_NAME-br
  TB_MARK="$TB_NAME-testbed"
  TB_CGROUP=$TB_NAME-testbed
  TB_REGISTRY=$TB_GATEWAY:5000
}

# The system may carry a newer docker command than its engine understands; the
# distribution's own one fits.
TB_DOCKER=/usr/bin/docker
[[ -x $TB_DOCKER ]] || TB_DOCKER=docker

host_number() {
  [[ $1 =~ ^h([0-9]{1,3})$ ]] || tb_fail "a host is called h1, h2, ...; not '$1'"
  printf '%s\n' "${BASH_REMATCH[1]}"
}
host_namespace() { printf '%s-%s\n' "$TB_NAME" "$1"; }
host_dir() { printf '%s/%s\n' "$TB_DIR" "$1"; }
host_socket() { printf '%s/%s/docker.sock\n' "$TB_DIR" "$1"; }
host_address() { printf '%s.%s\n' "$TB_PREFIX" "$((10 + $(host_number "$1")))"; }
# The host's side of the cable; the other end is eth0 in the namespace.
host_link() { printf '%s-%s\n' "$TB_NAME" "$1"; }

# Names of the hosts that exist, in order.
hosts_list() {
  local dir
  for dir in "$TB_DIR"/h*/; do
    if [[ -d $dir ]]; then basename "$dir"; fi
  done | sort -V
}

host_require() {
  host_number "$1" >/dev/null
  [[ -d $(host_dir "$1") ]] || tb_fail "there is no host $1; 'testbed.sh status' lists what runs"
}

host_docker() {
  local host=$1
  shift
  DOCKER_HOST=unix://$(host_socket "$host") "$TB_DOCKER" "$@"
}

# One word per caller that must not run beside another one of the same testbed.
state_lock() {
  local dir=/run/lock
  [[ -d $dir ]] || dir=/tmp
  exec 9>"$dir/$TB_MARK.lock"
  flock -w 300 9 || tb_fail "another testbed.sh of '$TB_NAME' has been running for five minutes"
}

# /tmp is everyone's: takes the directory only if it is ours alone.
state_dir_make() {
  if [[ ! -e $TB_DIR ]]; then
    mkdir -m 0711 "$TB_DIR"
  fi
  [[ -d $TB_DIR && ! -L $TB_DIR && -O $TB_DIR ]] ||
    tb_fail "$TB_DIR is not a directory that belongs to us; set A67_TESTBED_DIR to another one"
  mkdir -p "$TB_DIR/run"
}
