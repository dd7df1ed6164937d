#!/bin/sh
# build.sh FOLDER: the files of the image, of a Debian that has criu, patchelf and busybox-static. The image runs busybox alone;
# criu is in it to be copied to /opt/exhibit-criu of a node, and works only there.
set -eu
image=$1
home=/opt/exhibit-criu
folder=$image/criu
mkdir -p "$folder/lib" "$image/bin"
cp "$(command -v busybox)" "$image/bin/busybox"
for applet in sh cp ln mkdir mv readlink rm rmdir sleep; do ln -s busybox "$image/bin/$applet"; done
cp "$(command -v criu)" "$folder/criu"
loader=$(patchelf --print-interpreter "$folder/criu")
cp -L "$loader" "$folder/lib/"
ldd "$folder/criu" | while read -r name arrow file _; do
  case $arrow in '=>') cp -L "$file" "$folder/lib/$name" ;; esac
done
# RPATH and not RUNPATH: it counts for the libraries of libraries too.
patchelf --set-interpreter "$home/lib/$(basename "$loader")" --force-rpath --set-rpath "$home/lib" "$folder/criu"
cp /usr/share/doc/criu/copyright "$folder/copyright" 2>/dev/null || true
