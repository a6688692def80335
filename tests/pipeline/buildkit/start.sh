#!/bin/sh
# In a container that is not privileged the control groups are mounted read-only, and each RUN makes one.
awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts | while read -r group; do
  mount -o remount,bind,rw "$group"
done
exec buildkitd "$@"
