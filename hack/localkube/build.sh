#!/usr/bin/env bash
# Builds the localkube binary and, beside it, the folder localkube.d with one
# symbolic link per program, which serves as KUBEBUILDER_ASSETS.
#
#   hack/localkube/build.sh [folder]     default: bin/ of the repository
#
# Does nothing when the binary fits its sources and the Go version.
set -euo pipefail
export CGO_ENABLED=0 # as `make build` has it: libraries of both are compiled once
export LC_ALL=C # the same order of files, and so the same fingerprint, for everybody

programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok)
[[ $(go env GOOS) == linux ]] && programs+=(kubelet realnode)
report_every=15 # seconds between two lines of progress when nobody watches a terminal

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"

checksum() {
  if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi
}

# What the binary is made of; the names are hashed too, for a file may be renamed.
fingerprint() {
  { go env GOVERSION GOOS GOARCH; ls -- *.go; cat -- *.go go.mod go.sum build.sh; } | checksum | cut -d' ' -f1
}

# The version of a module that go.mod requires directly.
required() {
  awk -v module="$1" '$1 == module && $2 ~ /^v[0-9]/ { print $2; exit }' go.mod
}

link_programs() {
  mkdir -p "$out/localkube.d"
  for program in "${programs[@]}"; do
    ln -sfn ../localkube "$out/localkube.d/$program"
  done
}

stamp=$out/localkube.stamp
want=$(fingerprint)
if [[ -x $out/localkube && -f $stamp && $(<"$stamp") == "$want" ]]; then
  link_programs
  exit 0
fi

kubernetes=$(required k8s.io/kubernetes)
if [[ ! $kubernetes =~ ^v([0-9]+)\.([0-9]+)\. ]]; then
  echo "$here/go.mod: no version of k8s.io/kubernetes found" >&2
  exit 1
fi
component=k8s.io/component-base/version
ldflags="-s -w -X main.version=$kubernetes -X $component.gitVersion=$kubernetes"
ldflags+=" -X $component.gitMajor=${BASH_REMATCH[1]} -X $component.gitMinor=${BASH_REMATCH[2]}"

scratch=$(mktemp -d)
mkdir "$scratch/work" # an interrupted go command leaves its work folder behind
export GOTMPDIR=$scratch/work
: >"$scratch/packages"
: >"$scratch/log"
job=
cleanup() {
  # The whole group: the compilers are children of the go command.
  if [[ -n $job ]]; then
    kill -TERM -- "-$job" 2>/dev/null || true
    wait "$job" 2>/dev/null || true
  fi
  rm -rf "$scratch" "$out/localkube.new"
}
trap cleanup EXIT
trap 'echo >&2; echo "localkube: interrupted; what is compiled is kept in the cache" >&2; exit 130' INT TERM HUP

elapsed() { printf '%d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }

# Prints what a job has come to. The go command names each module it downloads
# and each package it compiles on a line of its own, and none it has already.
downloaded() { echo "downloaded $(grep -c '^go: downloading' "$scratch/log" || true) modules"; }
compiled() {
  echo "compiled $(grep -cxFf "$scratch/packages" "$scratch/log" || true) of at most $(grep -c . "$scratch/packages") packages"
}

# One line of progress: rewritten in a terminal, else a new one now and then.
report() {
  if [[ -t 2 ]]; then
    printf '\r\033[K%s  %s' "$(elapsed)" "$1" >&2
  elif ((SECONDS >= next_report)); then
    echo "localkube: $(elapsed)  $1" >&2
    next_report=$((SECONDS + report_every))
  fi
}

# Runs a command, its errors going to the log, and reports its state until it is
# done. If it fails, so does the script, with all errors shown.
watched() {
  local state=$1 status=0
  shift
  set -m # the command gets a process group of its own
  "$@" 2>"$scratch/log" &
  job=$!
  set +m
  while kill -0 "$job" 2>/dev/null; do
    report "$("$state")"
    sleep 1
  done
  wait "$job" || status=$?
  job=
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  if ((status != 0)); then
    grep -vxFf "$scratch/packages" "$scratch/log" >&2 || true
    echo "localkube: the build failed after $(elapsed)" >&2
    exit "$status"
  fi
}

list_packages() { go list -trimpath -deps . >"$scratch/packages.new"; }
compile() { go build -v -trimpath -ldflags "$ldflags" -o "$out/localkube.new" .; }

SECONDS=0
next_report=$report_every
echo "localkube: building a Kubernetes $kubernetes control plane from source, once; up to 8 minutes on two cores" >&2
watched downloaded list_packages
mv "$scratch/packages.new" "$scratch/packages"
watched compiled compile
mv "$out/localkube.new" "$out/localkube"
link_programs
echo "$want" >"$stamp"
echo "localkube: built $out/localkube in $(elapsed)" >&2
