package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// simulatorWorkers is how many requests a simulator has under way at once.
const simulatorWorkers = 32

// simulator plays the controllers of a target: it makes Jobs run, end and, when they are
// deleted, go. It is the same for whoever creates the Jobs: each has one Pod, whose status is
// written when it runs and when it has ended, as the Job's own is.
type simulator struct {
	target *endpoint
	ledger *ledger
	work   chan func(context.Context) error
	// hold leaves Jobs running until end is called of them; else they run for runTime.
	hold atomic.Bool
	// observeOnly leaves everything to the target's own controllers.
	observeOnly bool
}

// runTime is how long a Job runs that is not held: longer than the manager waits before it
// tells that it does.
const runTime = 2 * time.Second

func newSimulator(ctx context.Context, target *endpoint, l *ledger, observeOnly bool) (*simulator, error) {
	s := &simulator{target: target, ledger: l, observeOnly: observeOnly, work: make(chan func(context.Context) error, 1<<17)}
	for range simulatorWorkers {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case task := <-s.work:
					if err := task(ctx); err != nil && ctx.Err() == nil {
						fail(fmt.Errorf("simulating a Job: %w", err))
					}
				}
			}
		}()
	}
	return s, target.watch(ctx, allJobs, s.told)
}

// told notes what the target's watch tells of a Job, and acts on it.
func (s *simulator) told(e event) {
	now, o := time.Now(), e.Object
	source := sourceOf(&o)
	s.ledger.note(source, func(r *record) {
		switch e.Type {
		case "DELETED":
			r.remoteGone = now
			return
		case "ADDED":
			r.jobs++
			r.dispatched, r.path = first(r.dispatched, now), pathOf(&o)
		}
		if o.Status.Active > 0 {
			r.runningRemote = first(r.runningRemote, now)
		}
		if o.Status.CompletionTime != "" {
			r.endedRemote = first(r.endedRemote, now)
		}
	})
	switch {
	case s.observeOnly || e.Type == "DELETED":
	case e.Type == "ADDED":
		s.work <- func(ctx context.Context) error { return s.start(ctx, source, &o) }
	case o.Metadata.DeletionTimestamp != "" && len(o.Metadata.Finalizers) > 0:
		s.work <- func(ctx context.Context) error { return s.collect(ctx, &o) }
	}
}

// start lets a Job run and, unless it is held, end after a while.
func (s *simulator) start(ctx context.Context, source string, o *object) error {
	if err := s.startPod(ctx, o); err != nil {
		return err
	}
	err := s.target.patch(ctx, pathOf(o)+"/status", encode(fields{"status": fields{"active": 1, "ready": 1, "startTime": stamp()}}))
	if err != nil {
		return ignoreGone(err)
	}
	answered := time.Now()
	s.ledger.note(source, func(r *record) { r.runningRemote = first(r.runningRemote, answered) })
	if !s.hold.Load() {
		time.AfterFunc(runTime, func() {
			s.work <- func(ctx context.Context) error { return s.end(ctx, source) }
		})
	}
	return nil
}

// pathOf returns that of a Job.
func pathOf(o *object) string {
	return "/apis/batch/v1/namespaces/" + o.Metadata.Namespace + "/jobs/" + o.Metadata.Name
}

// startPod makes the Pod of a Job, which runs.
func (s *simulator) startPod(ctx context.Context, o *object) error {
	labels := fields{"batch.kubernetes.io/job-name": o.Metadata.Name, "job-name": o.Metadata.Name}
	for _, name := range []string{"pooledjob.io/hub", uidLabel} {
		labels[name] = o.Metadata.Labels[name]
	}
	template, _ := jobTemplate()["spec"].(fields)
	pod, _ := template["template"].(fields)
	spec, _ := pod["spec"].(fields)
	spec["nodeName"] = "node-1"
	body := encode(fields{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": fields{
			"name": podName(o.Metadata.Name), "labels": labels, "finalizers": []string{"batch.kubernetes.io/job-tracking"},
			"ownerReferences": []fields{{"apiVersion": "batch/v1", "kind": "Job", "name": o.Metadata.Name, "uid": o.Metadata.UID, "controller": true}},
		}, "spec": spec,
	})
	if err := s.target.post(ctx, podsOf(pathOf(o)), body); err != nil {
		return err
	}
	return s.target.patch(ctx, podOf(pathOf(o))+"/status", encode(fields{"status": fields{
		"phase": "Running", "startTime": stamp(), "podIP": "10.0.0.1",
		"conditions": []fields{{"type": "Ready", "status": "True", "lastTransitionTime": stamp()}},
		"containerStatuses": []fields{{
			"name": "task", "ready": true, "started": true, "restartCount": 0, "image": "registry.example.com/team-a/task:1.2.3", "imageID": "",
			"containerID": "containerd://0123456789abcdef", "state": fields{"running": fields{"startedAt": stamp()}},
		}},
	}}))
}

func podName(job string) string { return job + "-abcde" }

// podsOf returns where the Pods of a Job's namespace are, and podOf the Pod of that Job.
func podsOf(job string) string {
	return "/api/v1/namespaces/" + strings.Split(job, "/")[5] + "/pods"
}

func podOf(job string) string {
	return podsOf(job) + "/" + podName(job[strings.LastIndexByte(job, '/')+1:])
}

// end lets the Job of a source end with success.
func (s *simulator) end(ctx context.Context, source string) error {
	path, at := s.ledger.of(source).path, stamp()
	if err := s.endPod(ctx, podOf(path)); err != nil {
		return ignoreGone(err)
	}
	err := s.target.patch(ctx, path+"/status", encode(fields{"status": fields{
		"active": 0, "ready": 0, "succeeded": 1, "completionTime": at,
		"conditions": []fields{
			{"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached", "lastTransitionTime": at},
			{"type": "Complete", "status": "True", "reason": "CompletionsReached", "lastTransitionTime": at},
		},
	}}))
	if err != nil {
		return ignoreGone(err)
	}
	answered := time.Now()
	s.ledger.note(source, func(r *record) { r.endedRemote = first(r.endedRemote, answered) })
	return nil
}

func (s *simulator) endPod(ctx context.Context, pod string) error {
	return s.target.patch(ctx, pod+"/status", encode(fields{"status": fields{
		"phase": "Succeeded",
		"containerStatuses": []fields{{
			"name": "task", "ready": false, "restartCount": 0, "image": "registry.example.com/team-a/task:1.2.3", "imageID": "",
			"state": fields{"terminated": fields{"exitCode": 0, "reason": "Completed", "startedAt": stamp(), "finishedAt": stamp()}},
		}},
	}}))
}

// collect lets a deleted Job go, with its Pod, as the garbage collector would.
func (s *simulator) collect(ctx context.Context, o *object) error {
	if err := s.target.patch(ctx, podOf(pathOf(o)), encode(fields{"metadata": fields{"finalizers": nil}})); err != nil {
		return ignoreGone(err)
	}
	if err := s.target.delete(ctx, podOf(pathOf(o))+"?gracePeriodSeconds=0"); err != nil {
		return err
	}
	return ignoreGone(s.target.patch(ctx, pathOf(o), encode(fields{"metadata": fields{"finalizers": nil}})))
}

func ignoreGone(err error) error {
	if isCode(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// stamp returns the present as the API has it.
func stamp() string { return time.Now().UTC().Format(time.RFC3339) }
