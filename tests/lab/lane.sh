# shellcheck shell=sh
# Runs a program in a lane: mount, process, network, UTS and cgroup namespaces of its own (see lane.py).
# Usage: lane.sh DIRECTORY PROGRAM ARGUMENT...
# Descriptor 9 of the lane's first process is the network namespace outside, for what needs a package mirror.
set -eu
cgroups=/sys/fs/cgroup

hierarchies() {
    if [ -e $cgroups/cgroup.procs ]; then echo $cgroups; else find $cgroups -mindepth 1 -maxdepth 1 -type d; fi
}

if [ "$1" != --inside ]; then
    mkdir -p "$1"
    group=$(echo "$1" | tr / - | cut -c2-)
    for hierarchy in $(hierarchies); do
        mkdir -p "$hierarchy/$group"
        # A cpuset takes no process before it has processors and memory.
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$hierarchy/cgroup.clone_children" ] || [ ! -e "$hierarchy/$file" ] ||
                cat "$hierarchy/$file" >"$hierarchy/$group/$file"
        done
        echo $$ >"$hierarchy/$group/cgroup.procs"
    done
    exec 9</proc/self/ns/net
    exec unshare --mount --pid --net --uts --cgroup --fork --kill-child --propagation private \
        sh "$0" --inside "$group" "$@"
fi

group=$2 directory=$3
shift 3
mount -t proc proc /proc
mkdir -p /run/docker /run/netns
for hierarchy in $(hierarchies); do
    # In place of the whole hierarchy, not over it: engines look at the first mount that they find.
    mount --bind "$hierarchy/$group" /run/docker
    umount --lazy "$hierarchy"
    mount --move /run/docker "$hierarchy"
    # With cgroup v2 a group has either processes or groups with limits.
    if [ -e "$hierarchy/cgroup.controllers" ]; then
        mkdir -p "$hierarchy/first"
        echo 0 >"$hierarchy/first/cgroup.procs"
    fi
done
mount -t tmpfs -o mode=755 tmpfs /run/docker
mount -t tmpfs -o mode=755 tmpfs /run/netns
mkdir /run/docker/plugins
ip link set lo up
echo "$(basename "$directory")" >/proc/sys/kernel/hostname
export VOLPLUG_LANE="$directory" VOLPLUG_LANE_NETWORK=/proc/$$/fd/9
# Not exec: a shell that waits reaps orphans.
"$@"
