// Package localcluster starts real Kubernetes clusters for tests, on one
// machine and without containers.
//
// A cluster is an etcd and a kube-apiserver and, with Options.Workloads, also a
// kube-controller-manager, a kube-scheduler and kwok, which plays the kubelet
// of as many nodes as wanted. All are the real programs, from the one binary
// that `make localkube` builds; only the containers are imagined. With
// Options.RealNode these are real too, see below.
//
// # Promises
//
//   - Start returns when the cluster can be used: with Workloads, Pods created
//     in the namespace default at that moment are admitted, scheduled and run.
//   - Clusters share nothing. Any number of them start and run side by side, in
//     one test process or in several; everything listens on 127.0.0.1 only.
//   - After Stop, or after a Start that failed or was cancelled, no process and
//     no temporary file is left. When the test process itself dies, even by
//     SIGKILL, its clusters' processes end within a second.
//   - The kubeconfigs handed out hold all their data: an https server, its CA
//     and a client certificate, and no paths.
//   - An error of Start quotes the end of the log of the program that failed.
//
// The package needs a Unix system. The third promise, in the case of a killed
// test process, is kept by the localkube binary and not by other binaries that
// KUBEBUILDER_ASSETS may name.
//
// # Failures
//
// [Cluster.StopProgram] and [Cluster.StartProgram] take a single program away and
// bring it back, with its port and state: an unreachable API server, a dead
// scheduler, nodes without kubelets. [Cluster.PauseProgram] makes one stand still until
// [Cluster.ResumeProgram]: an API server that takes connections and says nothing. The
// API server can be paused on Linux only.
//
// # Pods
//
// A Pod runs as soon as it is scheduled, for one second, and then succeeds. The
// Pod's annotations (in a Job, those of the Pod template) change that, see
// [DurationAnnotation], [ExitCodeAnnotation], [ReasonAnnotation],
// [MessageAnnotation] and [WaitingReasonAnnotation]. Init containers complete
// at once; all other containers of a Pod share one fate. A Pod that is deleted
// before its end gets exit code 143 (SIGTERM) and then goes away, as far as its
// finalizers let it.
//
// Not imagined: restarts. The restart policy OnFailure behaves as Never, and
// Always lets the containers run on without end. There are no logs, no exec, no
// probes, and no network between Pods.
//
// # Real nodes
//
// With Options.RealNode a kubelet and the containerd of the distribution take the
// place of kwok, as root and on Linux only: Pods run their programs, with exit codes,
// logs, memory limits and signals as anywhere. The images [TestImage], which does what
// its flags say, and [BusyboxImage] are there without a registry. Of the network a
// Pod has its loopback interface, and nothing that it could reach.
//
// The node's programs and containers live in a PID and a mount namespace of their
// own. Their first process, the program realnode, ends when the test process does, and
// with it the kernel ends all others and drops their mounts; nothing of them is seen
// in the host's /run, /var/lib and /var/log, and the kernel settings that a kubelet
// changes are copies. No network interface and no firewall rule is made.
//
// # Controllers
//
// With Workloads these controllers run: Job, namespace, garbage collector,
// service account, TTL after finished, resource quota, root CA publisher and Pod
// garbage collector. Without Workloads none does: nothing deletes the dependents
// of a deleted object, and a deleted namespace stays Terminating.
package localcluster
