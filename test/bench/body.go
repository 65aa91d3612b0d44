package main

import (
	"encoding/json"
	"fmt"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

const (
	// namespace has all runs, on the hub and on the targets, but for those of otherTenant.
	namespace   = "bench"
	otherTenant = "bench-other"
	// managerNamespace is where the kubeconfig Secrets are.
	managerNamespace = "pooledjob-system"

	// sourceAnnotation names the PooledJob on its remote Job.
	sourceAnnotation = "pooledjob.io/source"
	uidLabel         = "pooledjob.io/uid"
)

type fields map[string]any

// encode returns the JSON of something that is known to have one.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// jobTemplate returns that of a task as schedulers send it: one container with a command, some
// environment and resources.
func jobTemplate() fields {
	env := make([]fields, 8)
	for i := range env {
		env[i] = fields{"name": fmt.Sprintf("PARAMETER_%d", i), "value": fmt.Sprintf("the value of parameter number %d", i)}
	}
	resources := fields{"cpu": "500m", "memory": "512Mi"}
	return fields{"spec": fields{
		"backoffLimit": 0,
		"template": fields{
			"metadata": fields{
				"labels": fields{"app": "bench", "team": "a"}, "annotations": fields{localcluster.DurationAnnotation: runTime.String()},
			},
			"spec": fields{
				"restartPolicy": "Never",
				"containers": []fields{{
					"name": "task", "image": "registry.example.com/team-a/task:1.2.3",
					"command": []string{"/bin/sh", "-c", "exec /opt/task --input s3://bucket/in --output s3://bucket/out --date 2026-01-01"},
					"env":     env, "resources": fields{"requests": resources, "limits": resources},
				}},
			},
		},
	}}
}

// pooledJob returns the body of a PooledJob for a connection; its namespace is that of the request.
func pooledJob(name, connection string) []byte {
	return encode(fields{
		"apiVersion": "pooledjob.io/v1alpha1", "kind": "PooledJob",
		"metadata": fields{"name": name},
		"spec":     fields{"clusterName": connection, "template": jobTemplate()},
	})
}

// remoteJob returns the Job that somebody other than the manager makes of it, with the same
// metadata that the manager's has.
func remoteJob(name string) []byte {
	labels := fields{"pooledjob.io/hub": "00000000000000000000000000000000", uidLabel: "00000000-0000-0000-0000-000000000000"}
	template := jobTemplate()
	spec, _ := template["spec"].(fields)
	pod, _ := spec["template"].(fields)
	pod["metadata"] = fields{
		"labels":      fields{"app": "bench", "team": "a", "pooledjob.io/hub": labels["pooledjob.io/hub"], uidLabel: labels[uidLabel]},
		"annotations": fields{localcluster.DurationAnnotation: runTime.String()},
	}
	return encode(fields{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": fields{
			"name": name, "namespace": namespace, "labels": labels,
			"annotations": fields{sourceAnnotation: namespace + "/" + name},
		},
		"spec": spec,
	})
}

// clusterConnection returns the body of a ClusterConnection to a target.
func clusterConnection(name, secret string) []byte {
	return encode(fields{
		"apiVersion": "pooledjob.io/v1alpha1", "kind": "ClusterConnection",
		"metadata": fields{"name": name},
		"spec": fields{
			"kubeconfigSecretRef": fields{"name": secret, "key": "kubeconfig"},
			"access":              []fields{{"hubNamespaces": fields{}, "targetNamespaces": fields{"same": true}}},
		},
	})
}

// kubeconfigSecret returns the body of the Secret with a kubeconfig.
func kubeconfigSecret(name string, kubeconfig []byte) []byte {
	return encode(fields{
		"apiVersion": "v1", "kind": "Secret", "metadata": fields{"name": name, "namespace": managerNamespace},
		"data": fields{"kubeconfig": kubeconfig},
	})
}

// conditionOf returns a condition of a status.
func conditionOf(kind, reason, at string) fields {
	return fields{"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": at}
}

// hubRunning and hubEnded are what the floor writes into a PooledJob's status: as much
// as a status has at least.
func hubRunning(at string) []byte {
	return encode(fields{"status": fields{
		"phase": "Running", "active": 1, "startTime": at,
		"conditions": []fields{conditionOf("Dispatched", "Dispatched", at)},
	}})
}

func hubEnded(at string) []byte {
	return encode(fields{"status": fields{
		"phase": "Succeeded", "active": 0, "succeeded": 1, "completionTime": at,
		"conditions": []fields{conditionOf("Dispatched", "Dispatched", at), conditionOf("Complete", "Completed", at)},
	}})
}
