#!/bin/sh
# restricted-pod.sh SCRATCH ROOT PROGRAM NODE VOLUMES UID MOUNT:ro|rw... -- ARGUMENT...: exhibit as a container of the profile
# `restricted` runs it: another user, no capability and no way to get one, a root that is read-only, and the mounts that are named,
# which are folders of the same path below VOLUMES. Run in mount and network namespaces of its own: they end with it.
set -eu
scratch=$1 lower=$2 program=$3 node=$4 volumes=$5 uid=$6
shift 6
mount -t tmpfs tmpfs "$scratch"
root=$scratch/root
mkdir "$scratch/upper" "$scratch/work" "$root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
mkdir -p "$root/opt/exhibit" "$root/opt/node" "$root/proc"
mount --bind "$program" "$root/opt/exhibit"
mount --bind "$node" "$root/opt/node"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
  at=${1%:*}
  mkdir -p "$root$at"
  mount --bind "$volumes$at" "$root$at"
  if [ "${1##*:}" = ro ]; then mount -o remount,bind,ro "$root$at"; fi
  shift
done
shift
for at in /opt/exhibit /opt/node ""; do mount -o remount,bind,ro "$root$at"; done
ip link set lo up
exec chroot "$root" /usr/bin/setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all --bounding-set=-all --pdeathsig KILL \
  --no-new-privs /opt/node/node /opt/exhibit/cli/main.ts "$@"
