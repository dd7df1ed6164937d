# First program of a lab machine, in namespaces of its own: makes the machine's file system, then becomes init.pl.
# usage: sh boot.sh ROOT SCRATCH CGROUP HOSTNAME STATE [DISK]
#   ROOT     the debootstrapped system; lower layer, never written to
#   SCRATCH  an empty folder; a tmpfs goes over it that nobody outside sees
#   CGROUP   v2, v1 (the machine's own tree as it is) or none
#   STATE    folder inside that must not lie on an overlay (containerd's snapshots are overlays themselves)
#   DISK     a folder on a real disk to hold STATE in place of memory
set -eu
root=$1 scratch=$2 cgroup=$3 hostname=$4 state=$5 disk=${6:-}
init=$(dirname "$0")/init.pl

mount -t tmpfs -o mode=755 exhibit-lab "$scratch"
mkdir "$scratch/lower" "$scratch/upper" "$scratch/work" "$scratch/new" "$scratch/state"
mount --bind "$root" "$scratch/lower"
mount -t overlay -o "lowerdir=$scratch/lower,upperdir=$scratch/upper,workdir=$scratch/work" exhibit-lab "$scratch/new"

new=$scratch/new
mkdir -p "$new$state" "$new/.old"
mount --bind "${disk:-$scratch/state}" "$new$state"
mount -t proc proc "$new/proc"
mount --rbind /sys "$new/sys"
mount --rbind /dev "$new/dev"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
if [ "$cgroup" = v2 ]; then
  umount -l "$new/sys/fs/cgroup"
  mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
fi
cp "$init" "$new/usr/sbin/lab-init"

cd "$new"
pivot_root . .old
umount -l /.old
rmdir /.old
mount --make-rshared /
hostname "$hostname"
ip link set lo up 2>/dev/null || true
exec perl /usr/sbin/lab-init
