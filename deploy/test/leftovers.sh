# shellcheck shell=bash
# Nothing of the tests may be left when they are over.

# Daemons whose command line shows that they are of these tests: it names one of
# our directories, or it is the bare dockerd that the quickstart starts.
ours_running() {
  local path words
  for path in /proc/[0-9]*; do
    case $(cat "$path/comm" 2>/dev/null) in
      dockerd | containerd | containerd-shim* | docker-registr* | postgres | automator67-*) ;;
      *) continue ;;
    esac
    words=$(tr '\0' ' ' 2>/dev/null <"$path/cmdline") || continue
    if [[ $words == *a67* || $words == *automator67* || $words =~ ^[^\ ]*dockerd\ $ ]] &&
      process_start_ticks "${path#/proc/}" >/dev/null; then
      printf '%s %s\n' "${path#/proc/}" "$words"
    fi
  done | sort
}

# What ran before is none of our business.
leftovers_note() {
  ours_running >"$WORK/before"
}

leftovers_new() { ours_running | comm -13 "$WORK/before" -; }

leftovers_none() { [[ -z $(leftovers_new) ]]; }

stage_leftovers() {
  # Those that were told to end may need a moment.
  wait_until 15 leftovers_none || { echo "still running:"; leftovers_new; return 1; }
  if compgen -G '/var/run/netns/a67t-*' || ip -o link | grep ' a67t-'; then
    echo "the network was not taken away"
    return 1
  fi
  echo "nothing is left"
}
