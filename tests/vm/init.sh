#!/bin/sh
# The first process of a guest: what volplug expects of a machine, then the agent.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/docker/plugins
modprobe -a loop virtio_pci virtio_net
cat /sys/devices/virtual/dmi/id/board_asset_tag >/proc/sys/kernel/hostname
/lib/systemd/systemd-udevd --daemon
# No route further than to the host.
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
# Not exec: this process has to reap the orphans.
python3 /opt/agent.py
