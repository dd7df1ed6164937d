#!/bin/sh
# install.sh install|remove, in a pod with three folders of the node:
#   /node/home     /opt/exhibit-criu, read-write
#   /node/sbin     /usr/local/sbin, read-write: the first folder of containerd's PATH
#   /node/usr      /usr, read-only
# It writes /opt/exhibit-criu/criu and lib/, and the link /usr/local/sbin/criu. `remove` takes away just that. A criu that the node
# has of its own stays the one that is used.
set -eu
link=/node/sbin/criu
target=/opt/exhibit-criu/criu
# Not `[ -e ]`: in this pod the link leads nowhere.
ours() { [ -L "$link" ] && [ "$(readlink "$link")" = "$target" ]; }

case ${1:-} in
install)
  for own in /node/usr/sbin/criu /node/usr/bin/criu /node/usr/local/bin/criu "$link"; do
    if { [ -e "$own" ] || [ -L "$own" ]; } && ! { [ "$own" = "$link" ] && ours; }; then
      echo "the node has a criu of its own (${own#/node}): nothing is written"
      exit 0
    fi
  done
  # Whole or not at all: a half-copied criu under its name would be started.
  rm -rf /node/home/.new
  mkdir /node/home/.new
  cp -a /criu/. /node/home/.new/
  rm -rf /node/home/lib
  mv /node/home/.new/lib /node/home/lib
  for file in /node/home/.new/*; do mv -f "$file" /node/home/; done
  rmdir /node/home/.new
  ln -sfn "$target" "$link"
  echo "criu is at $target, by the link /usr/local/sbin/criu"
  ;;
remove)
  if ours; then rm "$link"; fi
  rm -rf /node/home/lib /node/home/.new /node/home/criu /node/home/copyright
  echo "criu is gone; the empty folder /opt/exhibit-criu stays"
  ;;
*)
  echo "usage: install.sh install|remove" >&2
  exit 2
  ;;
esac
