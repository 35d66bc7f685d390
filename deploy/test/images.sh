# shellcheck shell=bash
# Base images made from what is installed here, since tests reach no image registry.

# libraries_copy ROOT FILE...: copies the shared libraries that the programs need.
libraries_copy() {
  local root=$1
  shift
  # A line is "NAME => PATH (ADDRESS)", or "PATH (ADDRESS)" for the loader.
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// && $2 ~ /^\(/ { print $1 }' |
    sort -u | while read -r library; do cp -L --parents "$library" "$root/"; done
}

# root_make ROOT: a small root file system with busybox as shell and tools.
root_make() {
  local root=$1 command
  mkdir -p "$root"/{bin,etc,tmp,root,proc,sys,dev,run,var/lib,usr/local/bin}
  chmod 1777 "$root/tmp"
  cp /bin/busybox "$root/bin/busybox"
  for command in $(/bin/busybox --list); do
    [[ $command == busybox ]] || ln -s busybox "$root/bin/$command"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\npostgres:x:70:\n' >"$root/etc/group"
}

# base_image_make DOCKER_HOST BINARIES: base image with the libraries of our binaries.
base_image_make() {
  local root=$WORK/base
  root_make "$root"
  libraries_copy "$root" "$2/automator67-controller" "$2/automator67-agent"
  tar -C "$root" -c . | docker -H "$1" import - a67-base:1 >/dev/null
}

# postgres_image_make DOCKER_HOST: a stand-in for the public postgres image, with
# as much of its behaviour as compose.yaml uses.
postgres_image_make() {
  local root=$WORK/postgres bin programs
  bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
  root_make "$root"
  programs=("$bin"/{postgres,initdb,pg_isready})
  cp --parents "${programs[@]}" "$root/"
  cp -r --parents "${bin%/bin}/lib" "/usr/share/postgresql/$(basename "${bin%/bin}")" "$root/"
  [[ ! -d /usr/share/zoneinfo ]] || cp --parents /usr/share/zoneinfo/UTC "$root/"
  libraries_copy "$root" "${programs[@]}" "${bin%/bin}"/lib/{plpgsql,dict_snowball}.so
  mkdir -p "$root/var/lib/postgresql/data"
  chown -R 70:70 "$root/var/lib/postgresql"
  chmod 700 "$root/var/lib/postgresql/data"
  cp "$here/test/postgres-entrypoint.sh" "$root/usr/local/bin/entrypoint.sh"
  tar -C "$root" -c . | docker -H "$1" import --change "ENV PATH=$bin:/bin PGDATA=/var/lib/postgresql/data" \
    --change 'USER 70:70' --change 'ENTRYPOINT ["/bin/sh","/usr/local/bin/entrypoint.sh"]' \
    - a67-postgres:1 >/dev/null
}
