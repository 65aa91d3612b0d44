// Package fakekubelet is what an API server takes for the kubelet of its nodes when it is
// asked for the logs of containers. What those have written, how their logs end or break
// and how fast they are read is up to the test, and for the test to see.
//
//	kubelet := fakekubelet.Start()
//	defer kubelet.Stop()
//	log := kubelet.Log(pod.Namespace, pod.Name, "main")
//	log.Print("one", "two")
//	log.End()
//
// A log that nobody has written to is empty, and is followed as that of a container that
// has just begun. The API server finds the kubelet by the Node's status, see Announce, and
// needs the flag kubelet-preferred-address-types with Hostname in it.
package fakekubelet
