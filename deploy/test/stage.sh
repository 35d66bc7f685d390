# shellcheck shell=bash
# Stages: each has a name, a time and an outcome. A failed one does not keep the
# later ones from running, unless they cannot do without it.

STAGE_LINES=()
STAGE_FAILED=0
STAGE_CHILD=

# stage NAME: runs stage_NAME in a shell of its own, in which any failing command ends it.
stage() {
  local name=$1 started=$SECONDS status=0
  printf '\n==> %s\n' "$name"
  (
    trap - EXIT INT TERM
    set -euo pipefail
    "stage_$name"
  ) &
  STAGE_CHILD=$!
  wait "$STAGE_CHILD" || status=$?
  STAGE_CHILD=
  local took=$((SECONDS - started)) outcome=passed
  ((status == 0)) || { outcome="FAILED ($status)"; STAGE_FAILED=1; }
  printf '==> %s: %s in %d s\n' "$name" "$outcome" "$took"
  STAGE_LINES+=("$(printf '%-12s %-14s %5d s' "$name" "$outcome" "$took")")
  if ((status != 0)); then
    case $name in packages | toolchain | build) exit 1 ;; esac
  fi
}

stage_summary() {
  local line
  printf '\n'
  for line in "${STAGE_LINES[@]}"; do printf '  %s\n' "$line"; done
  printf '  %-12s %20d s\n' total "$SECONDS"
  ((STAGE_FAILED == 0))
}

children_of() { ps -e -o pid=,ppid= | awk -v parent="$1" '$2 == parent { print $1 }'; }

# Ends what the interrupted stage still runs, the youngest generation first.
descendants_end() {
  [[ -n $STAGE_CHILD ]] || return 0
  local all=() next=("$STAGE_CHILD") pid
  while ((${#next[@]})); do
    all=("${next[@]}" "${all[@]}")
    mapfile -t next < <(for pid in "${next[@]}"; do children_of "$pid"; done)
  done
  kill -TERM "${all[@]}" 2>/dev/null || true
  wait_until 120 descendants_gone "${all[@]}" || kill -KILL "${all[@]}" 2>/dev/null || true
}

descendants_gone() {
  local pid
  for pid in "$@"; do
    process_start_ticks "$pid" >/dev/null && return 1
  done
  return 0
}

# The controller refuses settings that it does not know, and those it does know
# would change what is tested: nothing of the caller's reaches the tests.
environment_clean() {
  local name
  for name in "${!A67_@}"; do unset "$name"; done
  unset DOCKER_HOST
  export HOME=${HOME:-/root}
  [[ -w $HOME ]] || export HOME=/root
  export PATH=$PATH:/usr/sbin:/sbin
}
