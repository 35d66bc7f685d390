# shellcheck shell=bash
# What only a machine with systemd and cgroup v2 can show. Each check is a function
# check_NAME in a shell of its own, in which any failing command ends it.

CHECKS=(unit doctor sampling limits memory_limit pids_limit killed hung upgraded engine_restarted rebooted uninstalled)
# Of most of these checks; its container has its own limits of CPU, memory and pids.
WORKER=worker
WORKER_CPU_MILLIS=400
WORKER_MEMORY=100663296
WORKER_PIDS=24

# checks_run [NAME]: all of them, or one.
checks_run() {
  local name started status
  fleet_token
  image_in_guest
  (($# > 0)) || set -- "${CHECKS[@]}"
  for name in "$@"; do
    declare -F "check_$name" >/dev/null || guest_fail "there is no check '$name': ${CHECKS[*]}"
    say "-- ${name//_/ }"
    started=$SECONDS status=0
    # In the background, since where a shell's status is looked at it goes on after errors.
    (
      trap - EXIT
      set -euo pipefail
      "check_$name"
    ) &
    wait "$!" || status=$?
    ((status == 0)) || guest_fail "the check '$name' failed"
    timing "${name//_/ }" "$started"
  done
}

# A busybox image in the guest's engine: the guest has no registry.
image_in_guest() {
  [[ -z $(machine_run 'docker images -q guest:1') ]] || return 0
  "$here/testbed.sh" image "$RUN_DIR/busybox.tar" guest 1
  machine_put "$RUN_DIR/busybox.tar" /root/busybox.tar
  machine_run 'docker load -q -i /root/busybox.tar && rm /root/busybox.tar'
  rm -f "$RUN_DIR/busybox.tar"
  # The first container of a boot waits for modules and profiles of the kernel, for
  # longer than an agent waits for its engine where the processor is emulated.
  machine_run 'docker run --rm guest:1 true'
}

# expect WHAT WANTED GOT
expect() {
  [[ $2 == "$3" ]] || { printf '%s: wanted %s, got %s\n' "$1" "$2" "$3" >&2; return 1; }
  say "   $1: $3"
}

# within WHAT LOWEST HIGHEST GOT: of numbers, also broken ones.
within() {
  awk -v low="$2" -v high="$3" -v got="$4" 'BEGIN { exit !(got != "" && got + 0 >= low && got + 0 <= high) }' ||
    { printf '%s: wanted %s to %s, got %s\n' "$1" "$2" "$3" "$4" >&2; return 1; }
  say "   $1: $4 (of $2 to $3)"
}

# --- what the checks look at -----------------------------------------------------

unit_property() { machine_run "systemctl show -P $1 automator67-agent.service"; }

# deploy NAME JSON: declares a deployment of the guest's image, and waits for its end.
deploy() {
  local operation
  if api GET "/deployments/$1" >/dev/null 2>&1; then return 0; fi
  operation=$(api POST /deployments "$(jq -c --arg name "$1" '. + {name: $name, image: "guest:1"}' <<<"$2")" | jq -r .id)
  succeeds "$operation"
}

delete() { succeeds "$(api DELETE "/deployments/$1" | jq -r .id)"; }

# succeeds OPERATION: waits for its end, longer than one call of the API may last.
succeeds() {
  patient 60 operation_ended "$1" || true
  operation_wait "$1"
}

operation_ended() { [[ $(api GET "/operations/$1?wait_seconds=20" | jq -r .verdict) != null ]]; }

instance() { api GET "/deployments/$1" | jq -r '.instances[0]'; }

# The worker keeps one core busy as far as it may, and 40 MiB of memory in use.
worker_up() {
  deploy "$WORKER" '{"command": ["sh", "-c", "dd if=/dev/zero of=/dev/shm/ballast bs=1M count=40; while :; do :; done"],
    "limits": {"cpu_millis": '"$WORKER_CPU_MILLIS"', "memory_bytes": '"$WORKER_MEMORY"', "pids": '"$WORKER_PIDS"'},
    "stop_grace_seconds": 1}'
  patient 30 worker_runs
}

worker_runs() { [[ $(instance "$WORKER" | jq -r .state) == running ]]; }

# What of a container changes whenever anybody restarts it.
worker_run() { machine_run "docker inspect -f '{{.Id}} {{.State.Running}} {{.State.StartedAt}} {{.State.Pid}}' $(worker_container)"; }

worker_container() { instance "$WORKER" | jq -r .container_id; }

# The worker's control group, below /sys/fs/cgroup.
worker_group() { machine_run "cut -d: -f3 /proc/\$(docker inspect -f '{{.State.Pid}}' $(worker_container))/cgroup"; }

# --- the checks --------------------------------------------------------------------

check_unit() {
  expect "type" notify "$(unit_property Type)"
  expect "state" active "$(unit_property ActiveState)"
  expect "watchdog" 30s "$(unit_property WatchdogUSec)"
  expect "started at boot" enabled "$(machine_run 'systemctl is-enabled automator67-agent')"
  expect "cgroup version" cgroup2fs "$(machine_run 'stat -fc %T /sys/fs/cgroup')"
  expect "capabilities" 0000000000000001 \
    "$(machine_run 'sed -n "s/^CapEff:\t//p" /proc/$(systemctl show -P MainPID automator67-agent)/status')"
  expect "seccomp filter" 2 \
    "$(machine_run 'sed -n "s/^Seccomp:\t//p" /proc/$(systemctl show -P MainPID automator67-agent)/status')"
  local first
  first=$(unit_property WatchdogTimestampMonotonic)
  patient 30 watchdog_later "$first"
  say "   the watchdog hears from it"
  machine_run 'systemd-analyze security --no-pager automator67-agent.service' | tail -n 1
  within "exposure" 0 2.5 "$(machine_run 'systemd-analyze security --no-pager automator67-agent.service' |
    sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')"
}

watchdog_later() { [[ $(unit_property WatchdogTimestampMonotonic) -gt $1 ]]; }

check_doctor() {
  machine_run 'automator67-agent doctor' | sed 's/^/   /'
  machine_run 'automator67-agent status' | sed 's/^/   /'
  # Whatever it found, it left nothing behind.
  expect "files of doctor" "" "$(machine_run 'find /var/lib/automator67/agent -name ".doctor*"')"
}

# The agent's readings beside docker's own, taken while the worker is busy.
check_sampling() {
  local metrics stats memory pids cpu_ours
  worker_up
  # Readings from before the ballast was there say nothing.
  patient 30 sampling_settled
  stats=$(machine_run "docker stats --no-stream --format '{{json .}}' $(worker_container)")
  metrics=$(api GET "/instances/$(instance "$WORKER" | jq -r .id)/metrics")
  memory=$(jq -r .MemUsage <<<"$stats" | cut -d / -f 1 | sizes_bytes)
  pids=$(jq -r .PIDs <<<"$stats")
  # docker stats rounds to hundredths of a MiB.
  within "memory, of docker stats" 0.98 1.02 "$(jq -r --argjson docker "$memory" '.latest.memory_bytes / $docker' <<<"$metrics")"
  expect "memory limit" "$WORKER_MEMORY" "$(jq -r .latest.memory_limit_bytes <<<"$metrics")"
  cpu_ours=$(api GET "/instances/$(instance "$WORKER" | jq -r .id)/metrics" |
    jq -r '[.samples[-9:][].cpu_percent | values] | sort | .[length / 2 | floor]')
  # The percentage that docker stats makes of it divides by the ticks of /proc/stat,
  # of which an emulated processor that has to wait for its turn loses some: it is
  # right on a quiet machine only. What it is made of is right anywhere.
  say "   CPU: ours $cpu_ours %, docker stats $(jq -r .CPUPerc <<<"$stats")"
  within "CPU, of the engine's stats over ten seconds" 0.95 1.05 \
    "$(awk -v a="$cpu_ours" -v b="$(worker_engine_percent)" 'BEGIN { print a / b }')"
  within "CPU, of what the kernel counts in ten seconds" 0.95 1.05 \
    "$(awk -v a="$cpu_ours" -v b="$(worker_cpu_percent)" 'BEGIN { print a / b }')"
  [[ $(jq -r .latest.pids <<<"$metrics") == null ]] || expect "pids" "$pids" "$(jq -r .latest.pids <<<"$metrics")"
}

sampling_settled() {
  local view
  view=$(api GET "/instances/$(instance "$WORKER" | jq -r .id)/metrics") || return 1
  [[ $(jq '[.samples[] | select(.cpu_percent != null and .memory_bytes > 41943040)] | length' <<<"$view") -ge 5 ]]
}

# Sizes as docker writes them, such as 40.7MiB, in bytes.
sizes_bytes() {
  awk '{ n = $1 + 0; f = 1; if ($1 ~ /KiB/) f = 1024; if ($1 ~ /MiB/) f = 1048576; if ($1 ~ /GiB/) f = 1073741824; printf "%d\n", n * f }'
}

# Over ten seconds, by what the engine's stats API says of time and use.
worker_engine_percent() {
  local read
  read="curl -s --unix-socket /var/run/docker.sock http://engine/v1.41/containers/$(worker_container)/stats?stream=false\&one-shot=true"
  machine_run "$read; sleep 10; $read" | jq -s '
    def seconds: (sub("\\.[0-9]+Z"; "Z") | fromdate) + (capture("\\.(?<f>[0-9]+)Z").f | "0.\(.)" | tonumber);
    (.[1].cpu_stats.cpu_usage.total_usage - .[0].cpu_stats.cpu_usage.total_usage) / 1e7
      / ((.[1].read | seconds) - (.[0].read | seconds))'
}

# Over ten seconds, by the clock and the counter of the kernel.
worker_cpu_percent() {
  machine_run "cd /sys/fs/cgroup$(worker_group); now() { echo \$(sed -n 's/^usage_usec //p' cpu.stat) \$(cut -d' ' -f1 /proc/uptime); }
    a=\$(now); sleep 10; b=\$(now); echo \$a \$b" |
    awk '{ print ($3 - $1) / 10000 / ($4 - $2) }'
}

# Of the control group that the kernel holds the container to.
check_limits() {
  local group
  worker_up
  group=$(worker_group)
  expect "cpu.max" "$((WORKER_CPU_MILLIS * 100)) 100000" "$(machine_run "cat /sys/fs/cgroup$group/cpu.max")"
  expect "memory.max" "$WORKER_MEMORY" "$(machine_run "cat /sys/fs/cgroup$group/memory.max")"
  expect "memory.swap.max" 0 "$(machine_run "cat /sys/fs/cgroup$group/memory.swap.max")"
  expect "pids.max" "$WORKER_PIDS" "$(machine_run "cat /sys/fs/cgroup$group/pids.max")"
  within "CPU in percent, limited to $((WORKER_CPU_MILLIS / 10))" 1 $((WORKER_CPU_MILLIS / 10 + 2)) "$(worker_cpu_percent)"
  within "periods in which it was throttled" 1 1000000 \
    "$(machine_run "sed -n 's/^nr_throttled //p' /sys/fs/cgroup$group/cpu.stat")"
}

# More memory than it may have ends a container, and that is how it is told, each time
# that it is tried again. Its first process is the one that takes it: of a shell with a
# child the kernel would kill the child alone.
check_memory_limit() {
  if ! api GET /deployments/greedy >/dev/null 2>&1; then
    api POST /deployments '{"name": "greedy", "image": "guest:1", "limits": {"memory_bytes": 33554432},
      "command": ["dd", "if=/dev/zero", "of=/dev/shm/all", "bs=1M", "count=60"]}' >/dev/null
  fi
  patient 60 greedy_out_of_memory || { instance greedy; return 1; }
  say "   $(instance greedy | jq -c .outcome)"
  delete greedy
}

greedy_out_of_memory() { [[ $(instance greedy | jq -r .outcome.oom) == true ]]; }

check_pids_limit() {
  worker_up
  # The shell that starts them is one, and the worker itself another.
  local forks
  forks=$(machine_run "docker exec $(worker_container) sh -c 'for i in \$(seq 100); do sleep 20 & done 2>&1; echo; cat /proc/loadavg' 2>&1" || true)
  grep -q "fork" <<<"$forks" || { printf 'it made 100 processes: %s\n' "$forks" >&2; return 1; }
  say "   $(grep -m 1 fork <<<"$forks")"
  within "refused forks" 1 1000 "$(machine_run "sed -n 's/^max //p' /sys/fs/cgroup$(worker_group)/pids.events")"
}

# SIGKILL: systemd starts the agent anew, and no container notices.
check_killed() {
  local before restarts
  worker_up
  before=$(worker_run) restarts=$(unit_property NRestarts)
  machine_run 'systemctl kill -s KILL --kill-who=main automator67-agent'
  patient 30 agent_restarted_since "$restarts"
  patient 30 node_seen_since "$(date -u +%FT%TZ)"
  expect "the container's run" "$before" "$(worker_run)"
  expect "its state" running "$(instance "$WORKER" | jq -r .state)"
}

agent_restarted_since() { [[ $(unit_property NRestarts) -gt $1 && $(unit_property ActiveState) == active ]]; }

node_seen_since() { [[ $(api GET /nodes/guest | jq -r .last_seen_at) > $1 ]] && node_ready; }

# An agent that stands still says nothing to the watchdog, and is started anew.
check_hung() {
  local before restarts
  worker_up
  before=$(worker_run) restarts=$(unit_property NRestarts)
  machine_run 'systemctl kill -s STOP --kill-who=main automator67-agent'
  patient 60 agent_restarted_since "$restarts"
  patient 30 node_seen_since "$(date -u +%FT%TZ)"
  expect "the container's run" "$before" "$(worker_run)"
  machine_run 'journalctl --no-pager -u automator67-agent | grep -i watchdog | tail -n 1'
}

# In place, by the script: another program, the same containers.
check_upgraded() {
  local before process
  worker_up
  before=$(worker_run) process=$(unit_property MainPID)
  machine_run 'cp /root/automator67-agent /root/newer && printf "\0" >>/root/newer && /root/install-agent.sh --binary /root/newer'
  [[ $(unit_property MainPID) != "$process" ]] || { echo "it is the same process" >&2; return 1; }
  patient 30 node_seen_since "$(date -u +%FT%TZ)"
  expect "the container's run" "$before" "$(worker_run)"
  machine_run 'cmp /root/newer /usr/local/bin/automator67-agent'
}

# systemd's restart of Docker ends containers; the agent has them running again.
check_engine_restarted() {
  local before
  worker_up
  before=$(worker_run)
  machine_run 'systemctl restart docker'
  patient 60 worker_runs_since "$before"
}

worker_runs_since() {
  local now
  now=$(worker_run 2>/dev/null) || return 1
  [[ $now == *" true "* && $now != "$1" ]] && worker_runs
}

check_rebooted() {
  local before started
  worker_up
  before=$(worker_run)
  machine_reboot
  started=$SECONDS
  patient 60 worker_runs_since "$before"
  say "   its container runs again $((SECONDS - started)) s after the guest was up"
  machine_run 'automator67-agent status' | sed 's/^/   /'
  machine_run "systemd-analyze | head -n 1; journalctl -b --no-pager -o short-monotonic -u automator67-agent | grep -m 1 Started"
}

# Last: what is left is a host with containers and no agent.
check_uninstalled() {
  local before
  worker_up
  before=$(worker_run)
  machine_run '/root/install-agent.sh --uninstall'
  expect "the container's run" "$before" "$(worker_run)"
  expect "the program" gone "$(machine_run 'command -v automator67-agent || echo gone')"
  expect "the unit" gone "$(machine_run 'systemctl cat automator67-agent >/dev/null 2>&1 || echo gone')"
  # And back, as the same node, whose container it adopts.
  machine_run '/root/install-agent.sh --binary /root/automator67-agent'
  patient 30 node_seen_since "$(date -u +%FT%TZ)"
  expect "the container's run" "$before" "$(worker_run)"
  delete "$WORKER"
}
