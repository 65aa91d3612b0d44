package logserver

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// reading is one request.
type reading struct {
	backend         Backend
	namespace, name string
	query           query
	run             Run // as it was at the beginning
	out             *output
	// enter takes a place among the requests of a ClusterConnection.
	enter  func(connection string) (leave func(), err error)
	timing timing
}

// read sends the log as it is now.
func (r *reading) read(ctx context.Context) error {
	if r.run.JobUID == "" {
		return noLog(r.name, r.run)
	}
	leave, err := r.enter(r.run.Connection)
	if err != nil {
		return err
	}
	defer leave()
	target, err := r.backend.Open(ctx, r.run)
	if err != nil {
		return err
	}
	defer target.Close()
	pods, err := target.Pods(ctx, r.run.Namespace, r.run.UID)
	if err != nil {
		return targetError(r.run, err)
	}
	ours := podsOf(r.run, pods)
	if len(ours) == 0 && len(pods) > 0 && r.run.Ended {
		return notFound(r.name, fmt.Sprintf("the Job of PooledJob %q is gone from the cluster, and has left its Pods: without it nothing proves that they are the run's. %s",
			r.name, r.run.State))
	}
	chosen, err := r.choose(ours)
	if err != nil {
		return err
	}
	for _, pod := range chosen {
		if err := r.readPod(ctx, target, pod); err != nil {
			return err
		}
	}
	return nil
}

// choose picks the Pods to read.
func (r *reading) choose(pods []*corev1.Pod) ([]*corev1.Pod, error) {
	named := podNamed(pods, r.query.pod)
	switch {
	case r.query.pod != "" && named == nil:
		return nil, notFound(r.name, "PooledJob \""+r.name+"\" has no Pod "+r.query.pod+" on the cluster")
	case named != nil:
		return []*corev1.Pod{named}, nil
	case len(pods) == 0:
		return nil, noLog(r.name, r.run)
	case r.query.allPods:
		return pods, nil
	}
	if speaker := podNamed(pods, r.run.Speaker); speaker != nil {
		return []*corev1.Pod{speaker}, nil
	}
	return pods[len(pods)-1:], nil
}

// readPod sends the log of one Pod as the target gives it.
func (r *reading) readPod(ctx context.Context, target Target, pod *corev1.Pod) error {
	container, err := containerOf(pod, r.query.container)
	if err != nil {
		return err
	}
	if !hasLog(statusOf(pod, container)) {
		if r.query.allPods {
			return nil
		}
		if isOver(pod) {
			return notFound(r.name, fmt.Sprintf("container %s of Pod %s never started: the Pod is %s (%s)", container, pod.Name, pod.Status.Phase, pod.Status.Reason))
		}
		return waiting(pod, container)
	}
	options := r.query.podLogOptions(container)
	if !r.query.allPods {
		options.LimitBytes = r.query.limitBytes
	}
	log, err := target.Log(ctx, pod.Namespace, pod.Name, options)
	if err != nil {
		return targetError(r.run, err)
	}
	defer log.Close()
	if err := r.out.begin(); err != nil {
		return err
	}
	to := r.out.of(pod.Name, r.query.allPods, r.query.timestamps)
	readErr, writeErr := pass(to, log)
	if readErr != nil {
		return targetError(r.run, readErr)
	}
	if writeErr != nil {
		return writeErr
	}
	return to.end()
}
