# shellcheck shell=bash
# The guest's file system: Debian from the mirror, with systemd, a kernel and
# Docker Engine. Made once; a guest gets a copy.

IMAGE_PACKAGES=systemd,systemd-sysv,dbus,udev,kmod,initramfs-tools,linux-image-cloud-amd64
IMAGE_PACKAGES+=,docker.io,iptables,apparmor,openssh-server,iproute2,ca-certificates,curl,procps

# What the image follows from. Another text here, and it is made anew.
image_recipe() {
  {
    cat "$here/guest/image.sh"
    printf '%s\n' "$GUEST_SUITE" "$GUEST_DISK"
  } | sha256sum | cut -d ' ' -f 1
}

image_make() {
  local root=$IMAGE_DIR.new/root started=$SECONDS
  [[ $(cat "$IMAGE_DIR/recipe" 2>/dev/null) != "$(image_recipe)" ]] || return 0
  say "making the image (about five minutes, 250 MB from $GUEST_MIRROR)"
  rm -rf --one-file-system "$IMAGE_DIR.new"
  mkdir -m 0700 "$IMAGE_DIR.new"
  if ! debootstrap --variant=minbase --arch=amd64 --include="$IMAGE_PACKAGES" \
    "$GUEST_SUITE" "$root" "$GUEST_MIRROR" >"$IMAGE_DIR.new/log" 2>&1; then
    tail -n 20 "$IMAGE_DIR.new/log" >&2
    guest_fail "debootstrap failed; its log is $IMAGE_DIR.new/log"
  fi
  ssh-keygen -q -t ed25519 -N '' -C guest -f "$IMAGE_DIR.new/key"
  image_configure "$root"
  cp "$root"/boot/vmlinuz-* "$IMAGE_DIR.new/vmlinuz"
  cp "$root"/boot/initrd.img-* "$IMAGE_DIR.new/initrd.img"
  mke2fs -q -t ext4 -d "$root" "$IMAGE_DIR.new/disk.img" "$GUEST_DISK"
  rm -rf --one-file-system "$root"
  image_recipe >"$IMAGE_DIR.new/recipe"
  rm -rf --one-file-system "$IMAGE_DIR"
  mv "$IMAGE_DIR.new" "$IMAGE_DIR"
  timing "image" "$started"
}

image_configure() {
  local root=$1 unit
  echo guest >"$root/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 guest\n' >"$root/etc/hosts"
  echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
  # QEMU's user networking: always these addresses.
  rm -f "$root/etc/resolv.conf"
  echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
  mkdir -p "$root/etc/systemd/network"
  cat >"$root/etc/systemd/network/10-guest.network" <<'TEXT'
[Match]
Name=en*
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
TEXT
  chroot "$root" systemctl --quiet enable systemd-networkd.service
  # The log of an earlier boot says what a restart of the guest was like.
  mkdir -p "$root/var/log/journal"
  # What only costs time here.
  for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer dpkg-db-backup.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  install -d -m 0700 "$root/root/.ssh"
  cp "$IMAGE_DIR.new/key.pub" "$root/root/.ssh/authorized_keys"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
}
