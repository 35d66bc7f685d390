#!/usr/bin/env bash
# Installs the agent on this host and enrols it, upgrades it, or takes it away again.
# One file that needs no other: it is fetched and run on hosts that have nothing of ours.
set -euo pipefail

usage() {
  cat <<'TEXT'
Makes this host a node: puts the agent and its unit for systemd in place, enrols
it with a controller and starts it. For Debian, Ubuntu, Fedora and what is like
them. Run again to upgrade: data, identity and containers stay as they are.

  install-agent.sh --binary PATH --controller URL --token TOKEN [options]
  install-agent.sh --url URL --sha256 HEX --controller URL --token TOKEN [options]
  install-agent.sh --uninstall

  --binary PATH     the program automator67-agent, on this host
  --url URL         where it is fetched from; --sha256 is required then
  --sha256 HEX      what its SHA-256 must be
  --controller URL  the controller's address for agents: https://HOST:6701
  --token TOKEN     an enrolment token (automator67-controller admin enrolment-token)
  --name NODE       what to call the node; without it, the host's name
  --address ADDR    where published ports are reached; without it, the address by
                    which this host reaches the controller
  --yes             install Docker Engine from the distribution without asking
  --uninstall       stop the agent and take program and unit away; containers go on
  --root PREFIX     put everything below PREFIX; for tests and images
  --help            this text

A host that is a node already needs neither --controller nor --token.
TEXT
}

OPT_YES=0
OPT_UNINSTALL=0
BINARY=
URL=
SHA256=
CONTROLLER=
TOKEN=
NODE=
ADDRESS=
ROOT=

CHANGED=0
UPGRADE=0
WORK=

options_fail() {
  printf 'install-agent: %s\n(--help lists the options)\n' "$*" >&2
  exit 64
}

options_parse() {
  while (($# > 0)); do
    case $1 in
      --yes | -y) OPT_YES=1 ;;
      --uninstall) OPT_UNINSTALL=1 ;;
      --help | -h) usage; exit 0 ;;
      --binary | --url | --sha256 | --controller | --token | --name | --address | --root)
        (($# >= 2)) && [[ -n $2 ]] || options_fail "$1 needs a value"
        option_take "$1" "$2"
        shift
        ;;
      *) options_fail "there is no option '$1'" ;;
    esac
    shift
  done
  options_check
  places_derive
}

option_take() {
  case $1 in
    --binary) BINARY=$2 ;;
    --url) URL=$2 ;;
    --sha256) SHA256=${2,,} ;;
    --controller) CONTROLLER=$2 ;;
    --token) TOKEN=$2 ;;
    --name) NODE=$2 ;;
    --address) ADDRESS=$2 ;;
    --root) ROOT=$(realpath -m -- "$2") ;;
  esac
}

options_check() {
  [[ -z $BINARY || -z $URL ]] || options_fail "--binary and --url exclude each other"
  [[ -z $URL || -n $SHA256 ]] || options_fail "--url needs --sha256: what comes over a network is checked"
  [[ -z $SHA256 || $SHA256 =~ ^[0-9a-f]{64}$ ]] || options_fail "--sha256 needs 64 hexadecimal digits"
  [[ -z $CONTROLLER || $CONTROLLER =~ ^https://[^/]+/?$ ]] ||
    options_fail "--controller must look like https://HOST:6701"
  [[ -z $ADDRESS || $ADDRESS =~ ^[0-9A-Za-z.:_-]+$ ]] || options_fail "'$ADDRESS' is no address"
}

places_derive() {
  BIN=$ROOT/usr/local/bin/automator67-agent
  PREVIOUS=$BIN.previous
  UNIT=$ROOT/etc/systemd/system/automator67-agent.service
  CONFIG=$ROOT/etc/automator67/agent.toml
  DATA_DIR=$ROOT/var/lib/automator67/agent
  SOCKET=$ROOT/run/docker.sock
  QUICKSTART_PID=$ROOT/var/lib/automator67/run/agent.pid
}

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

ask() {
  local answer
  ((OPT_YES)) && return 0
  # With `curl ... | bash` the script itself is the standard input.
  { exec 3<>/dev/tty; } 2>/dev/null ||
    fail "There is no terminal to ask on. Run again with --yes, or install Docker Engine yourself."
  printf '%s [Y/n] ' "$1" >&3
  read -r answer <&3
  exec 3>&-
  [[ $answer =~ ^([yY]|[yY]es)?$ ]]
}

clean_up() {
  [[ -z $WORK ]] || rm -rf "$WORK"
}

# --- what this host is ---------------------------------------------------------

# Prints debian or fedora, for the distributions that are like one of them.
family() {
  local like word
  [[ -r $ROOT/etc/os-release ]] || return 1
  # In a shell of its own: the file sets variables.
  # shellcheck disable=SC1091 # the host's own
  like=$(. "$ROOT/etc/os-release" && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
  for word in $like; do
    case $word in
      debian | ubuntu) echo debian; return 0 ;;
      fedora | rhel | centos) echo fedora; return 0 ;;
    esac
  done
  return 1
}

host_check() {
  [[ $(uname -s) == Linux ]] || fail "The agent needs Linux."
  [[ -n $ROOT ]] || ((EUID == 0)) || fail "Only root can install the agent: run this with sudo."
  command -v systemctl >/dev/null || fail "This host has no systemd. Start the agent by your own means:" \
    "  automator67-agent enrol --controller URL --token TOKEN; automator67-agent run"
  [[ -n $ROOT || -d /run/systemd/system ]] || fail "This host is not booted with systemd."
  FAMILY=$(family) || FAMILY=other
}

# Two agents on one data directory would be two nodes with one name.
quickstart_check() {
  [[ ! -e $QUICKSTART_PID ]] ||
    fail "The quickstart runs an agent on these files already. Stop it first: deploy/quickstart.sh --down"
}

# --- Docker Engine ---------------------------------------------------------------

# Podman's compatible socket, behind the same name, will do as well.
engine_there() { [[ -S $SOCKET ]] || command -v dockerd >/dev/null; }

engine_package() {
  case $FAMILY in
    debian) echo docker.io ;;
    # Fedora itself has it; its relatives have Podman only.
    fedora) ! dnf -q list --available moby-engine >/dev/null 2>&1 || echo moby-engine ;;
  esac
}

engine_install() {
  local package
  engine_there && return 0
  package=$(engine_package)
  [[ -n $package ]] || fail "Docker Engine is not here, and this distribution has no package of it." \
    "Install Docker Engine 20.10 or newer (https://docs.docker.com/engine/install/), and run this again."
  ask "Docker Engine is not here. Install the distribution's $package?" || fail "Nothing was installed."
  say "Installing $package ..."
  case $FAMILY in
    debian)
      export DEBIAN_FRONTEND=noninteractive
      apt-get -q update || say "The package lists could not be refreshed; trying with the old ones."
      # Where the kernel has AppArmor, containers do not start without its parser,
      # which docker.io only recommends.
      if [[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]]; then package+=" apparmor"; fi
      # shellcheck disable=SC2086 # one or two words
      apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $package </dev/null
      ;;
    fedora) dnf -q -y install "$package" </dev/null ;;
  esac || fail "The package manager could not install $package."
  systemctl enable --now docker.service || fail "Docker Engine was installed, but does not start: journalctl -u docker"
}

# --- the program -----------------------------------------------------------------

# binary_take: checks the new program, and puts it in the place of the old one at once.
binary_take() {
  local new=$WORK/automator67-agent
  if [[ -n $URL ]]; then
    command -v curl >/dev/null || fail "--url needs curl, which is not here; fetch the file yourself and use --binary."
    say "Fetching $URL ..."
    curl -fsSL --retry 3 --max-time 600 -o "$new" "$URL" || fail "$URL could not be fetched."
  elif [[ -n $BINARY ]]; then
    [[ -f $BINARY ]] || fail "There is no file $BINARY."
    cp -- "$BINARY" "$new"
  else
    [[ -x $BIN ]] || options_fail "the agent is not here yet: --binary or --url says where it is"
    return 0
  fi
  if [[ -n $SHA256 && $(sha256sum <"$new" | cut -d ' ' -f 1) != "$SHA256" ]]; then
    fail "The program is not the one that --sha256 is of. Nothing was installed."
  fi
  if [[ -e $BIN ]] && cmp -s "$new" "$BIN"; then return 0; fi
  chmod 0755 "$new"
  "$new" --version >/dev/null 2>&1 ||
    fail "The program does not run on this host (another kind of processor?). Nothing was installed."
  mkdir -p "${BIN%/*}"
  if [[ -e $BIN ]]; then
    UPGRADE=1
    cp -p -- "$BIN" "$PREVIOUS"
  fi
  # By rename: one that runs goes on with the old file until it is restarted.
  install -m 0755 "$new" "$BIN.new"
  mv -f "$BIN.new" "$BIN"
  if command -v restorecon >/dev/null; then restorecon "$BIN" || true; fi
  CHANGED=1
  say "Installed $("$BIN" --version)."
}

# file_put PATH MODE: takes over standard input; says nothing and changes nothing
# where that is there already.
file_put() {
  mkdir -p "${1%/*}"
  cat >"$WORK/file"
  if [[ -e $1 ]] && cmp -s "$WORK/file" "$1"; then return 0; fi
  install -m "$2" "$WORK/file" "$1.new"
  mv -f "$1.new" "$1"
  CHANGED=1
}

# The program brings the unit that fits it.
unit_put() {
  "$BIN" unit >"$WORK/unit" || fail "The program does not print its unit; it is too old for this script."
  file_put "$UNIT" 0644 <"$WORK/unit"
}

# What is there is the operator's: it is kept, but for an address that he gives anew.
config_put() {
  if [[ ! -e $CONFIG ]]; then
    {
      echo "# The agent's settings; docs/OPERATIONS.md lists them. Restart the agent after a change."
      if [[ -n $ADDRESS ]]; then printf 'address = "%s"\n' "$ADDRESS"; fi
    } | file_put "$CONFIG" 0644
  elif [[ -n $ADDRESS ]]; then
    {
      # Keys are flat and stand before any table, so the first line is a good place.
      printf 'address = "%s"\n' "$ADDRESS"
      sed '/^[[:space:]]*address[[:space:]]*=/d' "$CONFIG"
    } | file_put "$CONFIG" 0644
  fi
}

# --- the node --------------------------------------------------------------------

enrolled() { [[ -s $DATA_DIR/node.json ]]; }

enrolment_check() {
  enrolled && return 0
  [[ -n $CONTROLLER && -n $TOKEN ]] ||
    options_fail "this host is no node yet: --controller and --token are needed"
}

enrol() {
  local words=(--controller "$CONTROLLER" --token "$TOKEN" --data-dir "$DATA_DIR")
  if enrolled; then
    say "This host is a node already."
    return 0
  fi
  if [[ -n $NODE ]]; then words+=(--name "$NODE"); fi
  # The token is on a command line for a moment, where others of this host can read
  # it; so let it be for one use and a short time, as it is by default.
  "$BIN" --config "$CONFIG" enrol "${words[@]}" ||
    fail "The host could not be enrolled. What is wrong: $BIN doctor --controller $CONTROLLER"
}

running() { systemctl is-active --quiet automator67-agent.service; }

# Answers once the agent has said that it is ready (Type=notify).
agent_start() {
  systemctl daemon-reload
  systemctl enable --quiet automator67-agent.service
  if ((CHANGED == 0)) && running; then
    say "Nothing has changed; the agent runs."
    return 0
  fi
  if systemctl restart automator67-agent.service && running; then
    rm -f "$PREVIOUS"
    return 0
  fi
  ((UPGRADE)) || fail "The agent does not start: journalctl -u automator67-agent"
  mv -f "$PREVIOUS" "$BIN"
  unit_put
  systemctl daemon-reload
  systemctl restart automator67-agent.service || true
  running || fail "Neither the new agent starts nor the one before: journalctl -u automator67-agent"
  fail "The new agent does not start (journalctl -u automator67-agent); the one before is back, and runs."
}

uninstall() {
  systemctl disable --now automator67-agent.service 2>/dev/null || true
  rm -f "$UNIT" "$BIN" "$PREVIOUS"
  systemctl daemon-reload || true
  say "The agent is stopped and gone."
  say "Its containers go on running, under nobody's care. To see them, and to end them:"
  say "  docker ps -a --filter label=automator67.node"
  say "  docker rm -f \$(docker ps -aq --filter label=automator67.node)"
  say "What it knew is still in ${DATA_DIR} and ${CONFIG}: a later installation goes on with it."
}

main() {
  options_parse "$@"
  trap clean_up EXIT
  host_check
  if ((OPT_UNINSTALL)); then
    uninstall
    return
  fi
  quickstart_check
  enrolment_check
  WORK=$(mktemp -d)
  engine_install
  binary_take
  unit_put
  config_put
  enrol
  agent_start
  say "The agent runs. How it stands: automator67-agent status. What is wrong, if anything is: automator67-agent doctor"
}

# Read whole before anything is done: a script that comes in by a pipe may be cut off.
main "$@"
