# shellcheck shell=bash
# Numbered steps with progress. A step that fails names itself and its log.

STEP_TITLE=
STEP_LOG=
STEP_NUMBER=0
STEP_TOTAL=0
STEP_STARTED=0
# Pid of the command that run_logged waits for; whoever handles Ctrl-C ends it.
STEP_CHILD=

# step_begin TITLE LOG
step_begin() {
  STEP_TITLE=$1 STEP_LOG=$2 STEP_STARTED=$SECONDS
  STEP_NUMBER=$((STEP_NUMBER + 1))
  printf '[%d/%d] %s ... ' "$STEP_NUMBER" "$STEP_TOTAL" "$STEP_TITLE"
}

# step_done [WORDS]
step_done() {
  local took=$((SECONDS - STEP_STARTED)) text=${1:-done}
  if ((took > 1)); then text="$text ($took s)"; fi
  step_clear
  printf '%s\n' "$text"
  STEP_TITLE=
}

step_clear() {
  if [[ -t 1 ]]; then
    printf '\r\033[K[%d/%d] %s ... ' "$STEP_NUMBER" "$STEP_TOTAL" "$STEP_TITLE"
  fi
}

# step_progress WORDS: replaces the end of the line on a terminal, adds to it elsewhere.
step_progress() {
  step_clear
  printf '%s ... ' "$1"
}

# fail MESSAGE...: ends the program; inside a step it says which one and shows
# the end of its log.
fail() {
  if [[ -n $STEP_TITLE ]]; then
    printf 'FAILED\n'
    printf '\nStep %d of %d failed: %s\n' "$STEP_NUMBER" "$STEP_TOTAL" "$STEP_TITLE" >&2
  fi
  printf '%s\n' "$@" >&2
  if [[ -n $STEP_TITLE && -s $STEP_LOG ]]; then
    printf '\nThe end of %s:\n' "$STEP_LOG" >&2
    tail -n 15 "$STEP_LOG" | cut -c 1-400 | sed 's/^/  /' >&2
  elif [[ -n $STEP_TITLE && -n $STEP_LOG ]]; then
    printf 'Its log is %s\n' "$STEP_LOG" >&2
  fi
  STEP_TITLE=
  exit 1
}

# run_logged COMMAND...: runs a long command into the step's log, and shows that
# time passes: each second on a terminal, each minute elsewhere.
run_logged() {
  local started=$SECONDS shown=$SECONDS every=60
  if [[ -t 1 ]]; then every=1; fi
  "$@" >>"$STEP_LOG" 2>&1 </dev/null &
  STEP_CHILD=$!
  while kill -0 "$STEP_CHILD" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - shown >= every)); then
      shown=$SECONDS
      step_progress "$((SECONDS - started)) s"
    fi
  done
  local status=0
  wait "$STEP_CHILD" || status=$?
  STEP_CHILD=
  return "$status"
}
