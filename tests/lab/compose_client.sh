# shellcheck shell=sh
# Runs Docker Compose of another system, in a mount namespace of its own (see compose.py).
# Arguments: the root of the system's tree, the directory of the project, the command.
set -eu
root=$1 project=$2
shift 2
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/mnt"
# By its last part Compose calls the project.
there=/mnt/${project##*/}
mkdir "$root$there"
mount --bind "$project" "$root$there"
exec chroot "$root" env --chdir="$there" "$@"
