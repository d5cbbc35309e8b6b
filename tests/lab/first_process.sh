# shellcheck shell=sh
# The first process of a lab's namespaces (see namespaces.py): prepares them and holds them
# until its standard input closes.
# Arguments: the directory of the lab; for another system the root of its tree, and pairs of what of
# this machine appears where in it.
set -eu
lab=$1 root=${2:-}
exec 3<&0
mount -t proc proc /proc
# Copies of mounts from other programs' loop devices would keep those busy until our end. A mount whose
# directory is removed by its owner ends without our help.
mounts=$(cat /proc/self/mountinfo)
while read -r _ _ device _ place _; do
    case $device in 7:*) umount --lazy "$place" 2>/dev/null || : ;; esac
done <<END
$mounts
END
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/docker/plugins
ip link set lo up
if [ -z "$root" ]; then
    # dockerd writes a key there, and reads the plugin specifications of this machine.
    mkdir -p /etc/docker
    mount -t tmpfs -o mode=755 tmpfs /etc/docker
else
    shift 2
    # A layer of our own over the tree, which others use too.
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/changes /mnt/work /mnt/root
    mount -t overlay -o "lowerdir=$root,upperdir=/mnt/changes,workdir=/mnt/work" overlay /mnt/root
    set -- /proc /proc /sys /sys /dev /dev /run /run "$lab" "$lab" "$@"
    while [ $# -gt 0 ]; do
        mkdir -p "/mnt/root$2"
        mount --rbind "$1" "/mnt/root$2"
        shift 2
    done
    # Not chroot: who enters a container's mount namespace (docker exec) comes in at its real root.
    cd /mnt/root
    mkdir machine
    pivot_root . machine
    umount -l /machine
    rmdir /machine
    cd /
fi
echo ready
# `wait` reaps orphans: dockerd does not start while a dead containerd is still a zombie.
cat <&3 >/dev/null &
wait $!
