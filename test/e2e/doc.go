// Package e2e tests PooledJob as its users meet it: kubeconfigs of one hub and of
// the targets are all that it knows.
//
// With HUB_KUBECONFIG (a path) and TARGET_KUBECONFIGS (paths, separated by the
// system's list separator) it runs against those clusters; the hub must have
// PooledJob installed. TARGET_KUBECONFIGS_FOR_HUB are, if the hub reaches the
// targets by other addresses than this machine, the kubeconfigs to give to it.
// Without the variables the suite starts clusters and a manager of its own.
//
// Specs with the label local break things (the manager, an API server), which they
// can only do to clusters of their own; elsewhere they are skipped.
//
// E2E_ROTATION_JOBS and E2E_ROTATIONS are how many runs and changes of credentials the
// rotation has (450 and 30, together about a minute), and E2E_SEED what their order
// follows; without it that is Ginkgo's seed.
package e2e
