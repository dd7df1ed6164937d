#!/bin/sh
# install.sh install|remove, in a pod with three folders of the node:
#   /node/home     /opt/exhibit-criu, read-write
#   /node/sbin     /usr/local/sbin, read-write: the first folder of containerd's PATH
#   /node/usr      /usr, read-only, for `install`
# It writes the program /opt/exhibit-criu/criu and the link /usr/local/sbin/criu that leads to it, which is how its own is known from
# the node's. `remove` takes away just that. A criu that the node has of its own is never touched, and stays the one that is used.
set -eu
link=/node/sbin/criu
target=/opt/exhibit-criu/criu
program=/node/home/criu
# Not `[ -e ]`: in this pod the link leads nowhere.
ours() { [ -L "$link" ] && [ "$(readlink "$link")" = "$target" ]; }
there() { [ -e "$1" ] || [ -L "$1" ]; }
# Chains, since a function whose failure is asked for does not end at its first one by itself.
remove() {
  { ! ours || { rm "$link" && sync /node/sbin; }; } && rm -f "$program" "$program.new" && sync /node/home
}
# Whole or not at all, after a crash of the node too: a half-written criu under its name would be started. One that runs goes on.
put() {
  rm -f "$program.new" \
    && cp /criu "$program.new" && chmod 755 "$program.new" && sync "$program.new" \
    && mv -f -T "$program.new" "$program" && sync /node/home || return
  # Without -f: what somebody put there meanwhile stays.
  ours || { ln -s -T "$target" "$link" && sync /node/sbin; }
}
# The path of the node's own criu, if it has one.
own() {
  for path in /usr/sbin/criu /usr/bin/criu /usr/local/bin/criu; do
    if there "/node$path"; then echo "$path"; return; fi
  done
  if there "$link" && ! ours; then echo /usr/local/sbin/criu; fi
}

case ${1:-} in
install)
  own=$(own)
  if [ -n "$own" ]; then
    # It may have come after exhibit's, which would be found first.
    if ! ours; then
      what='nothing is written'
    elif remove; then
      what='that of exhibit is taken away'
    else
      what='that of exhibit could not be taken away'
    fi
    echo "the node has a criu of its own, $own: $what"
    exit 0
  fi
  if cmp -s /criu "$program" && ours; then
    echo "criu is there already: $target, by the link /usr/local/sbin/criu"
    exit 0
  fi
  if put; then
    echo "criu is at $target, by the link /usr/local/sbin/criu"
  else
    # A full or read-only disk is no reason for a node without an agent: it does without checkpoints.
    rm -f "$program.new" || true
    echo 'criu could not be put on the node, whose agent starts without it'
  fi
  ;;
remove)
  if ours || there "$program"; then said='criu is gone'; else said='there was no criu of exhibit'; fi
  remove
  echo "$said; the empty folder /opt/exhibit-criu stays"
  ;;
*)
  echo "usage: install.sh install|remove" >&2
  exit 2
  ;;
esac
