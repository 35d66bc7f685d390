# shellcheck shell=bash
# One containerd and one dockerd per host, both inside the host's network namespace.
#
# containerd is started by us and not by dockerd, for two reasons: dockerd would
# take the machine's own containerd if there is one, and on most real hosts
# containerd is a service of its own that outlives dockerd. So after
# `engine-kill` the containers go on running under their shims.

engine_pidfile() { printf '%s/run/%s.dockerd.pid\n' "$TB_DIR" "$1"; }
containerd_pidfile() { printf '%s/run/%s.containerd.pid\n' "$TB_DIR" "$1"; }

host_disk_up() {
  local dir
  dir=$(host_dir "$1")
  mkdir -p "$dir/data" "$dir/exec"
  [[ $TB_STORAGE == btrfs ]] || return 0
  if ! mountpoint -q "$dir/data"; then
    truncate -s "${TB_DISK_MIB}M" "$dir/disk.img"
    mkfs.btrfs -q -f "$dir/disk.img" >>"$dir/disk.log" 2>&1
    mount -o loop "$dir/disk.img" "$dir/data"
  fi
}

containerd_start() {
  local host=$1 dir
  dir=$(host_dir "$host")
  process_pid "$(containerd_pidfile "$host")" >/dev/null && return 0
  cat >"$dir/containerd.toml" <<TOML
version = 2
root = "$dir/data/containerd"
state = "$dir/exec/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$dir/containerd.sock"
TOML
  process_start "$(containerd_pidfile "$host")" "$dir/containerd.log" \
    nsenter --net="/var/run/netns/$(host_namespace "$host")" \
    containerd --config "$dir/containerd.toml" --log-level warn
  wait_until 30 test -S "$dir/containerd.sock"
}

# Starts dockerd and returns before it answers; engine_wait waits for that.
engine_launch() {
  local host=$1 dir number
  local options=()
  dir=$(host_dir "$host")
  number=$(host_number "$host")
  process_pid "$(engine_pidfile "$host")" >/dev/null && return 0
  containerd_start "$host" || return 1
  [[ -z $TB_STORAGE ]] || options+=(--storage-driver "$TB_STORAGE")
  [[ $TB_LIVE_RESTORE != 1 ]] || options+=(--live-restore)
  # The machine's own /etc/docker/daemon.json is none of our engines' business.
  echo '{}' >"$dir/daemon.json"
  # An engine that was killed leaves its pid file, and the next one would
  # refuse to start if that number is in use again.
  rm -f "$dir/docker.pid"
  process_start "$(engine_pidfile "$host")" "$dir/dockerd.log" \
    nsenter --net="/var/run/netns/$(host_namespace "$host")" \
    dockerd --config-file "$dir/daemon.json" \
    --host "unix://$dir/docker.sock" --containerd "$dir/containerd.sock" \
    --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/docker.pid" \
    --bip "172.30.$number.1/24" --default-address-pool "base=172.31.0.0/16,size=24" \
    --cgroup-parent "/$TB_CGROUP/$host" --exec-opt native.cgroupdriver=cgroupfs \
    --insecure-registry "$TB_SUBNET" --log-level warn "${options[@]}"
}

engine_answers() {
  curl -s -o /dev/null --max-time 2 --unix-socket "$(host_socket "$1")" http://engine/_ping
}

engine_answers_or_ended() {
  engine_answers "$1" || ! process_pid "$(engine_pidfile "$1")" >/dev/null
}

engine_wait() {
  wait_until 60 engine_answers_or_ended "$1" && engine_answers "$1" && return 0
  tail -n 20 "$(host_dir "$1")/dockerd.log" "$(host_dir "$1")/containerd.log" >&2 || true
  tb_fail "the engine of $1 did not start; its log is $(host_dir "$1")/dockerd.log"
}

engine_kill() {
  process_stop "$(engine_pidfile "$1")" KILL 10 || tb_fail "the engine of $1 does not die"
}

engine_stop() {
  process_stop "$(engine_pidfile "$1")" TERM 60 || tb_fail "the engine of $1 did not stop within 60 s"
}
