# shellcheck shell=bash
# Docker Engine: uses the one that answers, else starts the one that is installed.

ENGINE_STARTED_HERE=0

engine_answers() {
  [[ $ENGINE_URL == unix://* ]] || return 1
  if ! command -v curl >/dev/null; then
    docker --host "$ENGINE_URL" version >/dev/null 2>&1
    return
  fi
  curl -sf -o /dev/null --max-time 5 --unix-socket "${ENGINE_URL#unix://}" http://engine/_ping 2>/dev/null
}

# The socket is there, and we may not use it.
engine_refuses() {
  [[ $ENGINE_URL == unix://* ]] || return 1
  local socket=${ENGINE_URL#unix://}
  [[ -S $socket && ! -w $socket ]]
}

# Debian keeps dockerd where a user's PATH does not look.
dockerd_find() { PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin command -v dockerd; }

step_engine() {
  step_begin "Docker Engine" "$LOG_DIR/dockerd.log"
  # Its package, or the machine's start, may be starting it just now; that is not our doing.
  if systemd_runs && [[ $(systemctl is-active docker.service) == activ* ]]; then
    wait_until 30 engine_answers || true
  fi
  if engine_answers; then
    step_done "answers"
    return
  fi
  ((EUID == 0)) || fail "No engine answers at $ENGINE_URL, and only root can start one."
  dockerd_find >/dev/null || fail "dockerd is not installed."
  ENGINE_STARTED_HERE=1
  if systemd_runs; then
    run_logged systemctl start docker || fail "systemd could not start docker; see: journalctl -u docker"
    : >"$ENGINE_UNIT_MARK"
  else
    cgroups_mount
    process_start "$DOCKERD_PID" "$STEP_LOG" env PATH="$PATH:/usr/sbin:/sbin" "$(dockerd_find)" ||
      fail "dockerd ended at once."
  fi
  wait_until 60 engine_answers_or_ended || true
  engine_answers || fail "dockerd was started and does not answer at $ENGINE_URL."
  step_done "started"
}

engine_answers_or_ended() {
  engine_answers && return 0
  [[ ! -e $DOCKERD_PID ]] && return 1
  ! process_pid "$DOCKERD_PID" >/dev/null
}

# Without an init system nobody may have mounted the control groups yet.
cgroups_mount() {
  [[ -e /sys/fs/cgroup/cgroup.controllers || -d /sys/fs/cgroup/memory ]] && return 0
  mount -t cgroup2 cgroup2 /sys/fs/cgroup >>"$STEP_LOG" 2>&1 ||
    fail "No control groups are mounted at /sys/fs/cgroup, and they cannot be."
}
