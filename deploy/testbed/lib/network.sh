# shellcheck shell=bash
# One bridge, and one cable from it to each host's network namespace.
#
# Hosts have no way out of the testbed: what they need comes from its registry
# or is loaded into them, so a test cannot come to depend on the internet.

bridge_up() {
  ip link show "$TB_BRIDGE" >/dev/null 2>&1 || ip link add "$TB_BRIDGE" type bridge
  ip address replace "$TB_GATEWAY/24" dev "$TB_BRIDGE"
  ip link set "$TB_BRIDGE" up
  firewall_up
}

# Docker on this machine sets the policy of FORWARD to DROP, and bridged frames
# pass through that chain where br_netfilter is loaded.
firewall_up() {
  local side
  for side in -i -o; do
    iptables -w 10 -C FORWARD "$side" "$TB_BRIDGE" -m comment --comment "$TB_MARK" -j ACCEPT 2>/dev/null ||
      iptables -w 10 -I FORWARD "$side" "$TB_BRIDGE" -m comment --comment "$TB_MARK" -j ACCEPT
  done
}

firewall_down() {
  local side
  for side in -i -o; do
    while iptables -w 10 -D FORWARD "$side" "$TB_BRIDGE" -m comment --comment "$TB_MARK" -j ACCEPT 2>/dev/null; do :; done
  done
}

host_network_up() {
  local host=$1 namespace link
  namespace=$(host_namespace "$host")
  link=$(host_link "$host")
  [[ -e /var/run/netns/$namespace ]] || ip netns add "$namespace"
  if ! ip link show "$link" >/dev/null 2>&1; then
    ip link add "$link" type veth peer name eth0 netns "$namespace"
  fi
  ip link set "$link" master "$TB_BRIDGE" up
  ip -n "$namespace" address replace "$(host_address "$host")/24" dev eth0
  ip -n "$namespace" link set lo up
  ip -n "$namespace" link set eth0 up
}

# Pulls the cable out of the bridge. Both ends stay up, so neither side gets an
# error at once: frames just vanish, as with a dead switch.
host_cut() { ip link set "$(host_link "$1")" nomaster; }

host_heal() { ip link set "$(host_link "$1")" master "$TB_BRIDGE" up; }

host_is_cut() {
  ! ip -o link show "$(host_link "$1")" 2>/dev/null | grep -q "master $TB_BRIDGE "
}

# Removes every namespace, cable and rule with our name on it, known or not.
network_down() {
  local path name
  for path in /var/run/netns/"$TB_NAME"-h*; do
    [[ -e $path ]] || continue
    ip netns delete "${path##*/}" || true
  done
  while read -r name; do
    ip link delete "$name" 2>/dev/null || true
  done < <(ip -o link show type veth 2>/dev/null | sed -n "s/^[0-9]*: \($TB_NAME-h[0-9]*\)@.*/\1/p")
  ip link delete "$TB_BRIDGE" 2>/dev/null || true
  firewall_down
}
