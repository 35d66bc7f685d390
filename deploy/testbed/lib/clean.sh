# shellcheck shell=bash
# Takes a testbed away, whatever state it is in.
#
# It trusts no list of what was started: the run that wrote it may have been
# killed, and its directory deleted. It looks for what carries the testbed's
# name: processes in its namespaces, processes in its control groups, mounts
# and loop devices in its directory.

# Pids of everything in our namespaces: engines, shims, and what tests started there.
pids_in_namespaces() {
  local path
  for path in /var/run/netns/"$TB_NAME"-h*; do
    [[ -e $path ]] || continue
    ip netns pids "${path##*/}" 2>/dev/null || true
  done
}

# Pids of everything in our control groups: the containers' processes.
pids_in_cgroups() {
  local dir
  while read -r dir; do
    find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done < <(cgroup_dirs)
}

# With version 1 there is one hierarchy per controller, with version 2 one for all.
cgroup_dirs() {
  local dir
  for dir in "/sys/fs/cgroup/$TB_CGROUP" /sys/fs/cgroup/*/"$TB_CGROUP"; do
    if [[ -d $dir ]]; then printf '%s\n' "$dir"; fi
  done
}

# Shims are looked for last: a container whose shim is killed first is still
# found by its control group, and the other way round.
everything_ours() { { pids_in_namespaces; pids_in_cgroups; } | sort -un; }

processes_down() {
  local pidfile pid deadline=$((SECONDS + 30))
  # Engines first, so that nobody starts a container again while we clean up.
  for pidfile in "$TB_DIR"/run/*.dockerd.pid "$TB_DIR"/run/*.containerd.pid "$TB_DIR"/run/registry.pid; do
    [[ -e $pidfile ]] || continue
    process_stop "$pidfile" KILL 10 || true
  done
  while true; do
    local found=0
    for pid in $(everything_ours); do
      found=1
      kill -KILL "$pid" 2>/dev/null || true
    done
    ((found)) || return 0
    ((SECONDS < deadline)) || tb_fail "these processes do not die: $(everything_ours | tr '\n' ' ')"
    sleep 0.1
  done
}

mounts_below() {
  # Field 5 of mountinfo is the mount point; the last mounted comes off first.
  awk -v dir="$TB_DIR/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac
}

mounts_down() {
  local point
  while read -r point; do
    umount "$point" 2>/dev/null || umount -l "$point" || true
  done < <(mounts_below)
}

loops_down() {
  local device
  while read -r device; do
    losetup -d "$device" || true
  done < <(losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v dir="$TB_DIR/" 'index($2, dir) == 1 { print $1 }')
}

cgroups_down() {
  local dir
  while read -r dir; do
    find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(cgroup_dirs)
}

# The registry listens on the bridge and lives in no namespace of ours; without
# its pid file it is known by its configuration file, which lies in our directory.
registry_down() {
  local path
  for path in /proc/[0-9]*; do
    [[ $(cat "$path/comm" 2>/dev/null) == docker-registr* ]] || continue
    if tr '\0' '\n' 2>/dev/null <"$path/cmdline" | grep -qxF "$TB_DIR/registry.yml"; then
      kill -KILL "${path#/proc/}" 2>/dev/null || true
    fi
  done
}

testbed_down() {
  processes_down
  registry_down
  mounts_down
  loops_down
  network_down
  cgroups_down
  if [[ -d $TB_DIR && ! -L $TB_DIR && -O $TB_DIR ]]; then
    rm -rf --one-file-system "$TB_DIR"
  fi
}
