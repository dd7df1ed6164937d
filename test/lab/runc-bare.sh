#!/bin/sh
# runc for a machine whose cpu and memory controllers hang in cgroup v1 while the node has cgroup v2: runc refuses to
# set what the v2 tree does not have, so the limits are taken out of the container's spec (`unified` too: kubelet sets memory.oom.group).
# Freezing works without them.
bundle=
previous=
for argument in "$@"; do
  if [ "$previous" = --bundle ]; then bundle=$argument; fi
  previous=$argument
done
if [ -n "$bundle" ]; then
  sed -i -E 's/,"(cpu|memory|unified)":\{[^{}]*\}//g; s/"(cpu|memory|unified)":\{[^{}]*\},?//g' "$bundle/config.json"
fi
exec runc "$@"
