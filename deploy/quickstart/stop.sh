# shellcheck shell=bash
# Stops what was started, in order: first who acts, then who decides, then the engine.

RUN_COMPLETE=0

stop_one() {
  local what=$1 pidfile=$2 seconds=$3
  process_pid "$pidfile" >/dev/null || { rm -f "$pidfile"; return 0; }
  printf 'Stopping %s ... ' "$what"
  if process_end "$pidfile" "$seconds"; then
    printf 'done\n'
  else
    printf 'did not end within %d s, killed\n' "$seconds"
  fi
}

stop_agent() { stop_one "the agent (its containers stay)" "$AGENT_PID" 30; }

stop_controller() { stop_one "the controller" "$CONTROLLER_PID" 60; }

# The engine stops its containers first, and keeps them.
stop_engine() {
  if [[ -e $ENGINE_UNIT_MARK ]]; then
    printf 'Stopping Docker, which an earlier run started ... '
    systemctl stop docker.service docker.socket >>"$LOG_DIR/dockerd.log" 2>&1 || true
    rm -f "$ENGINE_UNIT_MARK"
    printf 'done\n'
  fi
  stop_one "Docker Engine (its containers stop, and are kept)" "$DOCKERD_PID" 60
}

down() {
  if [[ ! -d $RUN_DIR ]]; then
    printf 'Nothing of %s runs.\n' "$DATA_DIR"
    return
  fi
  [[ -O $RUN_DIR ]] || fail "$DATA_DIR belongs to user $(stat -c %U "$RUN_DIR"); run --down as that user."
  stop_agent
  stop_controller
  stop_engine
  printf 'Down. The data stays in %s\n' "$DATA_DIR"
}

# A run that fails or is interrupted stops what it started itself, and leaves
# what an earlier run had started.
on_exit() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  if [[ -n $STEP_CHILD ]]; then
    kill "$STEP_CHILD" 2>/dev/null || true
    wait "$STEP_CHILD" || true
  fi
  ((RUN_COMPLETE)) && exit "$status"
  if ((status != 0)) && [[ -n $STEP_TITLE ]]; then
    printf '\nStep %d of %d was not finished: %s\nIts log is %s\n' \
      "$STEP_NUMBER" "$STEP_TOTAL" "$STEP_TITLE" "$STEP_LOG" >&2
  fi
  if ((AGENT_STARTED_HERE)); then stop_agent; fi
  if ((CONTROLLER_STARTED_HERE)); then stop_controller; fi
  if ((ENGINE_STARTED_HERE)); then stop_engine; fi
  exit "$status"
}
