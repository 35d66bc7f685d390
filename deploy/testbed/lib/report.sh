# shellcheck shell=bash
# Says what there is, for programs and for people.

# env: the whole testbed as JSON; env HOST: one host as shell assignments.
env_print() {
  if [[ $# -eq 0 ]]; then
    env_print_json
    return
  fi
  host_require "$1"
  printf 'HOST=%s\nNAMESPACE=%s\nNETNS=/var/run/netns/%s\nADDRESS=%s\nDOCKER_HOST=unix://%s\n' \
    "$1" "$(host_namespace "$1")" "$(host_namespace "$1")" "$(host_address "$1")" "$(host_socket "$1")"
}

env_print_json() {
  local host separator=
  printf '{"name":"%s","directory":"%s","bridge":"%s","subnet":"%s","gateway":"%s","registry":"%s","hosts":[' \
    "$TB_NAME" "$TB_DIR" "$TB_BRIDGE" "$TB_SUBNET" "$TB_GATEWAY" "$TB_REGISTRY"
  for host in $(hosts_list); do
    printf '%s{"name":"%s","namespace":"%s","netns":"/var/run/netns/%s","address":"%s","socket":"%s","docker_host":"unix://%s","cgroup_parent":"/%s/%s"}' \
      "$separator" "$host" "$(host_namespace "$host")" "$(host_namespace "$host")" "$(host_address "$host")" \
      "$(host_socket "$host")" "$(host_socket "$host")" "$TB_CGROUP" "$host"
    separator=,
  done
  printf ']}\n'
}

status_print() {
  local host engine link containers pid
  if [[ ! -d $TB_DIR ]]; then
    printf 'testbed %s is down\n' "$TB_NAME"
    return
  fi
  printf '%-5s %-14s %-5s %-18s %s\n' HOST ADDRESS LINK ENGINE CONTAINERS
  for host in $(hosts_list); do
    engine=down containers=- link=up
    if host_is_cut "$host"; then link="cut"; fi
    if pid=$(process_pid "$(engine_pidfile "$host")"); then
      engine="silent, pid $pid"
      if engine_answers "$host"; then
        engine="up, pid $pid"
        containers="$(host_docker "$host" ps -q | wc -l) running of $(host_docker "$host" ps -aq | wc -l)"
      fi
    fi
    printf '%-5s %-14s %-5s %-18s %s\n' "$host" "$(host_address "$host")" "$link" "$engine" "$containers"
  done
  if registry_answers; then
    printf 'registry up at %s\n' "$TB_REGISTRY"
  else
    printf 'registry down\n'
  fi
}
