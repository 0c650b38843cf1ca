#!/bin/bash
# Two daemons, whose homes are DIRECTORY/a and DIRECTORY/b, find each other by multicast DNS on a link of their own.
# Run inside a new network namespace:
#   unshare -n bash mdns.sh NODE DIRECTORY
# Prints "met" once each sees the other, or "refused" once each says that it does not let the other in.
set -u
node=$1
dir=$2
catalog() { "$node" "$(dirname "$0")/../../src/cli/main.ts" "$@"; }
ip link set lo up
ip link add link0 type veth peer name link1 && ip addr add 10.77.0.1/24 dev link0 && ip link set link0 up multicast on && ip link set link1 up || exit 1
ip route add 224.0.0.0/4 dev link0
pids=
trap 'kill -9 $pids 2>/dev/null' EXIT
for name in a b; do
  "$node" "$(dirname "$0")/../../src/cli/main.ts" daemon --home "$dir/$name" --mdns --log-level silent --listen /ip4/10.77.0.1/udp/0/quic-v1 >"$dir/$name.ready" &
  pids="$pids $!"
done
for _ in $(seq 150); do
  a=$(catalog peers --home "$dir/a" --json 2>/dev/null | grep -c 12D3)
  b=$(catalog peers --home "$dir/b" --json 2>/dev/null | grep -c 12D3)
  [ "$a$b" = 11 ] && echo met && exit 0
  a=$(catalog status --home "$dir/a" --json 2>/dev/null | grep -c '"by":')
  b=$(catalog status --home "$dir/b" --json 2>/dev/null | grep -c '"by":')
  [ "$a$b" = 11 ] && echo refused && exit 0
  sleep 0.2
done
exit 1
