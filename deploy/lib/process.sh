# shellcheck shell=bash
# Starts long-running programs, remembers which ones they were, and ends exactly those.
#
# A process id alone is no identity: after a crash or a restart of the machine
# the same number belongs to someone else. So a pid file holds three words, the
# pid, its start time in clock ticks, and the kernel's boot id, and nothing is
# ever signalled unless all three still match.

# process_start_ticks PID: prints when the process started, in clock ticks since boot.
# Fails when there is no such process or when it has ended and only waits to be reaped.
process_start_ticks() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The second field is the program's name in brackets and may hold anything.
  local fields
  read -r -a fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z && ${fields[0]} != X ]] || return 1
  printf '%s\n' "${fields[19]}"
}

# process_record PIDFILE PID: remembers a running process.
process_record() {
  local ticks boot
  ticks=$(process_start_ticks "$2") || return 1
  boot=$(cat /proc/sys/kernel/random/boot_id)
  printf '%s %s %s\n' "$2" "$ticks" "$boot" >"$1.new"
  mv -f "$1.new" "$1"
}

# process_pid PIDFILE: prints the pid if that very process still runs, else fails.
process_pid() {
  local pid ticks boot
  [[ -s $1 ]] || return 1
  read -r pid ticks boot <"$1" || return 1
  [[ $boot == "$(cat /proc/sys/kernel/random/boot_id)" ]] || return 1
  [[ $(process_start_ticks "$pid") == "$ticks" ]] || return 1
  printf '%s\n' "$pid"
}

# process_start PIDFILE LOG COMMAND...: starts a program in a session of its own,
# so that neither Ctrl-C here nor the end of this script reaches it. It gets no
# open file of ours: a lock or a pipe held by a daemon would never be let go.
process_start() {
  local pidfile=$1 log=$2
  shift 2
  (
    exec </dev/null >>"$log" 2>&1
    process_close_files
    exec setsid "$@"
  ) &
  process_record "$pidfile" "$!"
}

# Closes every open file but the three standard ones.
process_close_files() {
  local path fd
  for path in /proc/self/fd/*; do
    fd=${path##*/}
    if [[ $fd =~ ^[0-9]+$ ]] && ((fd > 2)); then
      eval "exec $fd>&-"
    fi
  done
}

# process_stop PIDFILE SIGNAL SECONDS: signals the process and waits for its end.
# Succeeds when it is gone, also when it was not there; the pid file then goes too.
process_stop() {
  local pidfile=$1 signal=$2 seconds=$3 pid deadline
  deadline=$((SECONDS + seconds))
  if pid=$(process_pid "$pidfile"); then
    kill -s "$signal" "$pid" 2>/dev/null || true
    while process_pid "$pidfile" >/dev/null; do
      ((SECONDS <= deadline)) || return 1
      sleep 0.05
    done
  fi
  rm -f "$pidfile"
}

# process_end PIDFILE SECONDS: asks politely, waits, and then kills.
# Returns 1 when it had to kill.
process_end() {
  process_stop "$1" TERM "$2" && return 0
  process_stop "$1" KILL 10 || true
  return 1
}

# wait_until SECONDS COMMAND...: runs the command until it succeeds. Fails at the deadline.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}
