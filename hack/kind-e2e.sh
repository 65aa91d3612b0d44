#!/usr/bin/env bash
# Runs the end-to-end suite on kind: one hub with the manager's image, two targets.
#
#   hack/kind-e2e.sh            makes the clusters, runs the suite, deletes them
#   KEEP=1 hack/kind-e2e.sh     leaves the clusters
#
# Needs Docker, kind and kubectl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for program in docker kind kubectl; do
  command -v "$program" >/dev/null || { echo "$0 needs $program" >&2; exit 1; }
done

image=pooledjob/manager:e2e
clusters=(pooledjob-hub pooledjob-target-1 pooledjob-target-2)
dir=$(mktemp -d)

clean_up() {
  if [[ -z ${KEEP:-} ]]; then
    for cluster in "${clusters[@]}"; do kind delete cluster --name "$cluster" || true; done
    rm -rf "$dir"
  fi
}
trap clean_up EXIT

docker build --build-arg VERSION=e2e -t "$image" .
for cluster in "${clusters[@]}"; do
  kind create cluster --name "$cluster" --wait 2m --kubeconfig "$dir/$cluster"
  # The hub's Pods reach the targets by their addresses in Docker's network.
  kind get kubeconfig --name "$cluster" --internal >"$dir/$cluster.internal"
done

kind load docker-image "$image" --name pooledjob-hub
make build-installer IMAGE="$image"
kubectl --kubeconfig "$dir/pooledjob-hub" apply --server-side -f dist/install.yaml
kubectl --kubeconfig "$dir/pooledjob-hub" -n pooledjob-system rollout status deployment/pooledjob-manager --timeout=2m

HUB_KUBECONFIG=$dir/pooledjob-hub \
  TARGET_KUBECONFIGS=$dir/pooledjob-target-1:$dir/pooledjob-target-2 \
  TARGET_KUBECONFIGS_FOR_HUB=$dir/pooledjob-target-1.internal:$dir/pooledjob-target-2.internal \
  go test ./test/e2e/... -timeout 30m -v
