# shellcheck shell=bash
# Installs packages of Debian or Ubuntu without letting them start anything we did not ask for.

packages_supported() { command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; }

# systemd_runs: whether this machine is booted with systemd.
systemd_runs() { [[ -d /run/systemd/system ]]; }

# packages_missing PACKAGE...: prints those that are not installed, one per line.
packages_missing() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
      printf '%s\n' "$package"
  done
}

# engine_packages: what brings Docker Engine. Where the kernel has AppArmor,
# containers do not start without its parser, which docker.io only recommends.
engine_packages() {
  printf '%s\n' docker.io
  if [[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]]; then printf '%s\n' apparmor; fi
}

# packages_install PACKAGE...: installs them; must run as root.
#
# Debian's postgresql makes and starts a cluster of its own; ours is private, so
# that is switched off for the time of the installation. On a machine without
# systemd no package may start a daemon either: nobody would know who stops it.
packages_install() (
  set -e
  cluster_conf=/etc/postgresql-common/createcluster.d/automator67.conf
  policy=/usr/sbin/policy-rc.d
  made=()
  trap 'rm -f "${made[@]}"' EXIT
  if [[ ! -e $cluster_conf ]]; then
    mkdir -p "${cluster_conf%/*}"
    made+=("$cluster_conf")
    echo 'create_main_cluster = false' >"$cluster_conf"
  fi
  if ! systemd_runs && [[ ! -e $policy ]]; then
    made+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update || echo 'the package lists could not be refreshed; trying with the old ones'
  apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
)
