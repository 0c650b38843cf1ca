#!/bin/bash
# Drives a daemon whose home is on a disk of 48 MiB. Run inside a private mount namespace:
#   unshare -m --propagation private bash full-disk.sh NODE DIRECTORY
# Prints one line for each step; the test compares them.
set -u
node=$1
disk=$2
catalog() { "$node" "$(dirname "$0")/../../src/cli/main.ts" "$@" --home "$disk/home" --json; }
mount -t tmpfs -o size=48m tmpfs "$disk" || exit 1
catalog init >/dev/null || exit 1
printf 'network: catalog\nstorage: { reserveBytes: 8388608 }\n' >"$disk/home/config.yaml"
CATALOG_LOG_LEVEL=silent "$node" "$(dirname "$0")/../../src/cli/main.ts" daemon --home "$disk/home" --listen /ip4/127.0.0.1/udp/0/quic-v1 >"$disk/ready" &
daemon=$!
trap 'kill -9 $daemon 2>/dev/null' EXIT
for _ in $(seq 100); do [ -s "$disk/ready" ] && break; sleep 0.1; done

package() {
  mkdir -p "$work/$1"
  printf '{"apiVersion":"catalog.v1","kind":"AssetPackage","metadata":{"name":"%s","version":"1.0.0"},"spec":{"description":"x"}}' "$1" >"$work/$1/catalog.json"
  head -c "$2" /dev/urandom >"$work/$1/data.bin"
}
field() { "$node" -e 'const t=require("fs").readFileSync(0,"utf8");const v=JSON.parse(t);console.log(eval("v."+process.argv[1]))' "$1"; }
work=$(mktemp -d)
trap 'kill -9 $daemon 2>/dev/null; rm -rf "$work"' EXIT
package small 4000000
package big 40000000
package after 1000000
catalog publish "$work/small" >/dev/null && echo "published small"
error=$(catalog publish "$work/big" 2>&1 >/dev/null)
echo "refused big: $(field error.code <<<"$error") exit $(catalog publish "$work/big" >/dev/null 2>&1; echo $?)"
echo "listed $(catalog list | field releases.length)"
catalog publish "$work/after" >/dev/null && echo "published after"
echo "listed $(catalog list | field releases.length)"
catalog fetch small --out "$work/out" >/dev/null && cmp -s "$work/out/data.bin" "$work/small/data.bin" && echo "read back"
kill -TERM $daemon
wait $daemon
