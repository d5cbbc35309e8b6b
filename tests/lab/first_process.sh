# shellcheck shell=sh
# The first process of a lab's namespaces (see namespaces.py): prepares them and holds them
# until its standard input closes.
# Arguments: the directory of the lab, and the root of another system tree or nothing.
set -eu
lab=$1 root=${2:-}
exec 3<&0
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/docker/plugins
# dockerd writes a key there, and reads the plugin specifications of this machine.
mkdir -p /etc/docker
mount -t tmpfs -o mode=755 tmpfs /etc/docker
ip link set lo up
# Shared, so that a volume mounted on either side appears on the other.
if [ -n "$root" ]; then
    mount --bind "$lab" "$lab"
    mount --make-shared "$lab"
    mount --bind "$root" "$root"
    mkdir -p "$root/$lab"
    for shared in /proc /sys /dev /run "$lab"; do mount --rbind "$shared" "$root/$shared"; done
fi
echo ready
# `wait` reaps orphans: dockerd does not start while a dead containerd is still a zombie.
cat <&3 >/dev/null &
wait $!
