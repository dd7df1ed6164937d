#!/bin/sh
# build.sh VERSION IMAGE: compiles IMAGE/source/criu_VERSION.orig.tar.xz and fills the folder IMAGE: criu, the busybox that runs
# install.sh, and the licences of both and of what is linked into criu. In Debian, with the packages of the Dockerfile.
set -eu
version=$1 image=$2

mkdir -p /build
tar -xf "$image/source/criu_$version.orig.tar.xz" -C /build
cd "/build/criu-$version"
# WRAPFLAGS ends the linker's line, and being of the environment is added to, not replaced: `-static` for what runs, and not for the
# code that criu puts into other processes. A static program can load no plugin that was linked to the node's C library, so it is
# to look for plugins where there are none. GnuTLS (encrypted migration) and nftables have no static library in Debian.
WRAPFLAGS='-static -Wl,-Map=/build/criu.map' make -j"$(nproc)" NO_GNUTLS=1 PLUGINDIR=/opt/exhibit-criu/plugins criu
strip -o "$image/criu" criu/criu
# By the program's own header: with an interpreter or a library to load it would be what it must not be.
if readelf --wide --program-headers "$image/criu" | grep -E 'INTERP|DYNAMIC'; then
  echo 'criu is not linked statically' >&2
  exit 1
fi
"$image/criu" --version

mkdir -p "$image/bin" "$image/licences/criu"
cp "$(command -v busybox)" "$image/bin/busybox"
for applet in sh chmod cmp cp ln mv readlink rm sleep sync; do ln -s busybox "$image/bin/$applet"; done
cp COPYING "$image/licences/criu/"

# What the linker says that it took, by Debian's packages; one a line: /build/linked.
sed -n 's|^\(/[^ (]*\.a\)(.*|\1|p' /build/criu.map | sort -u | while read -r archive; do
  dpkg-query --search "$(readlink -f "$archive")"
done | sed 's/:.*//' | sort -u > /build/linked
for package in $(cat /build/linked) busybox-static; do
  mkdir "$image/licences/$package"
  cp -L "/usr/share/doc/$package/copyright" "$image/licences/$package/"
done
# The texts that those files only name.
mkdir "$image/licences/common"
grep -rhoE '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' "$image/licences" | sort -u | while read -r licence; do
  cp -L "$licence" "$image/licences/common/"
done
