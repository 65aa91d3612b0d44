package jobstatus

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestSeal(t *testing.T) {
	const none, yes, no = metav1.ConditionStatus(""), metav1.ConditionTrue, metav1.ConditionFalse
	failed := func(reason string) *batchv1.Job {
		remote := remoteJob(0, 0, 1, batchv1.JobFailed)
		Verdict(remote).Reason = reason
		return remote
	}
	oom := exit(137, 5, "")
	oom.Reason = "OOMKilled"
	running := func(w *Writer) { w.Observe(remoteJob(1, 0, 0, ""), []*corev1.Pod{pod("a", corev1.PodRunning)}) }
	for name, c := range map[string]struct {
		cancel               bool
		write                func(w *Writer)
		reason               string
		reconciling, stalled metav1.ConditionStatus
	}{
		"nothing was written": {write: func(*Writer) {}},
		"no cluster": {write: func(w *Writer) { w.Accepted(no, v1alpha1.ReasonClusterNotFound, "x") },
			reason: v1alpha1.ReasonClusterNotFound, reconciling: yes},
		"a quota": {write: func(w *Writer) {
			w.Accepted(yes, v1alpha1.ReasonAccepted, "")
			w.Waiting(v1alpha1.ReasonQuotaExceeded, "x")
		}, reason: v1alpha1.ReasonQuotaExceeded, reconciling: yes},
		"no answer yet": {write: func(w *Writer) { w.Accepted(yes, v1alpha1.ReasonAccepted, "") }, reason: v1alpha1.ReasonCreating, reconciling: yes},
		"it runs":       {write: running, reason: v1alpha1.ReasonStarted},
		"the cluster is away": {write: func(w *Writer) {
			running(w)
			w.NotSynced(v1alpha1.ReasonClusterNotReady, "x")
		}, reason: v1alpha1.ReasonClusterNotReady, reconciling: yes},
		"it was moved": {write: func(w *Writer) {
			running(w)
			w.Move("x")
		}, reason: v1alpha1.ReasonFailedOver, reconciling: yes},
		"a cancel is under way": {cancel: true, write: running, reason: v1alpha1.ReasonCancelling, reconciling: yes},
		"a cancel was refused": {cancel: true, write: func(w *Writer) {
			running(w)
			w.Unfulfilled(v1alpha1.ReasonChangeRefused, "x")
		}, reason: v1alpha1.ReasonChangeRefused, reconciling: yes},
		"it was denied": {write: func(w *Writer) {
			w.Accepted(no, v1alpha1.ReasonNotPermitted, "x")
			w.Fail(v1alpha1.ReasonNotPermitted, "x")
		}, reason: v1alpha1.ReasonNotPermitted, stalled: yes},
		"out of memory": {write: func(w *Writer) {
			w.Observe(failed(batchv1.JobReasonBackoffLimitExceeded), []*corev1.Pod{pod("a", corev1.PodFailed, oom)})
		}, reason: "OOMKilled", stalled: yes},
		"no Pod to ask": {write: func(w *Writer) { w.Observe(failed(batchv1.JobReasonBackoffLimitExceeded), nil) },
			reason: batchv1.JobReasonBackoffLimitExceeded, stalled: yes},
		"stopped by somebody, and it ended well": {write: func(w *Writer) {
			killed := pod("a", corev1.PodSucceeded, exit(0, 5, ""))
			killed.DeletionTimestamp = ptr(at(4))
			w.Observe(failed(batchv1.JobReasonBackoffLimitExceeded), []*corev1.Pod{killed})
		}, reason: batchv1.JobReasonBackoffLimitExceeded, stalled: yes},
		"the deadline": {write: func(w *Writer) {
			w.Observe(failed(batchv1.JobReasonDeadlineExceeded), []*corev1.Pod{pod("a", corev1.PodFailed, exit(143, 5, ""))})
		}, reason: v1alpha1.ResultDeadlineExceeded, stalled: yes},
		"it waited, and was deleted while its cluster is away": {write: func(w *Writer) {
			running(w)
			w.NotSynced(v1alpha1.ReasonClusterNotReady, "x")
			w.Deleting(v1alpha1.ReasonClusterFenced, "x")
		}, reason: v1alpha1.ReasonClusterFenced, reconciling: yes},
	} {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: v1alpha1.PooledJobSpec{Cancel: &c.cancel}}
			w := NewWriter(job, epoch)
			c.write(w)
			w.Seal()
			is := func(kind string) metav1.ConditionStatus {
				if found := meta.FindStatusCondition(job.Status.Conditions, kind); found != nil {
					return found.Status
				}
				return none
			}
			if job.Status.Reason != c.reason || is(v1alpha1.ConditionReconciling) != c.reconciling || is(v1alpha1.ConditionStalled) != c.stalled {
				t.Errorf("reason %q, Reconciling %q, Stalled %q; want %q, %q, %q", job.Status.Reason,
					is(v1alpha1.ConditionReconciling), is(v1alpha1.ConditionStalled), c.reason, c.reconciling, c.stalled)
			}
			if len(job.Status.Conditions) > 0 && job.Status.ObservedGeneration != 3 {
				t.Errorf("observedGeneration is %d", job.Status.ObservedGeneration)
			}
		})
	}
}

// What was refused is said until the Job was looked at again, and no longer.
func TestARefusedChangeIsSaidUntilTheNextLook(t *testing.T) {
	job := &v1alpha1.PooledJob{}
	reason := func(change func(w *Writer)) string {
		w := NewWriter(job, epoch)
		change(w)
		w.Seal()
		return job.Status.Reason
	}
	look := func(w *Writer) { w.Observe(remoteJob(1, 0, 0, ""), []*corev1.Pod{pod("a", corev1.PodRunning)}) }
	refused := func(w *Writer) {
		look(w)
		w.Unfulfilled(v1alpha1.ReasonChangeRefused, "x")
	}
	for _, step := range []struct {
		change func(w *Writer)
		want   string
	}{
		{refused, v1alpha1.ReasonChangeRefused},
		{func(*Writer) {}, v1alpha1.ReasonChangeRefused},
		{func(w *Writer) {
			look(w)
			w.Unsent()
		}, v1alpha1.ReasonChangeRefused},
		{look, v1alpha1.ReasonStarted},
	} {
		if got := reason(step.change); got != step.want {
			t.Errorf("reason %s, want %s", got, step.want)
		}
	}
}

// A deletion is a generation of its own. It must not cost a write.
func TestSealLeavesWhatIsDeletedAsItIs(t *testing.T) {
	for name, write := range map[string]func(w *Writer){
		"it waits":  func(w *Writer) { w.Accepted(metav1.ConditionFalse, v1alpha1.ReasonClusterNotFound, "x") },
		"it failed": func(w *Writer) { w.Fail(v1alpha1.ReasonRejected, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
			w := NewWriter(job, epoch)
			write(w)
			w.Seal()
			before := job.DeepCopy()
			job.DeletionTimestamp, job.Generation = ptr(at(1)), 2
			NewWriter(job, epoch).Seal()
			if diff := cmp.Diff(before.Status, job.Status); diff != "" {
				t.Errorf("the status changed:\n%s", diff)
			}
		})
	}
}

// Clients read conditions by their place in the list, and health checks go by what sums them up.
func TestSealInAllWalks(t *testing.T) {
	reconciled := 0
	walks(t, func(t *testing.T, r *walk, before *v1alpha1.PooledJob) {
		status := &r.job.Status
		for i, c := range before.Status.Conditions {
			if len(status.Conditions) <= i || status.Conditions[i].Type != c.Type {
				t.Fatalf("condition %s was taken off or moved", c.Type)
			}
		}
		reconciling := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReconciling)
		stalled := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled)
		waiting := reconciling != nil && reconciling.Status == metav1.ConditionTrue
		if reconciling != nil && !waiting {
			reconciled++
		}
		switch {
		case len(status.Conditions) == 0:
			return
		case status.Reason == "":
			t.Error("there is no reason")
		case waiting && Finished(status):
			t.Error("a run that has ended waits for something")
		case stalled != (status.Phase == v1alpha1.PooledJobFailed):
			t.Errorf("Stalled is %t of a run that is %s", stalled, status.Phase)
		case !Finished(status) && !waiting && !Dispatched(status):
			t.Error("a run without a Job waits for nothing")
		}
		sealed := r.job.DeepCopy()
		NewWriter(sealed, r.now).Seal()
		if diff := cmp.Diff(r.job.Status, sealed.Status); diff != "" {
			t.Errorf("to seal it twice is not to seal it once:\n%s", diff)
		}
	})
	if reconciled < 100 {
		t.Errorf("only %d steps were after a wait", reconciled)
	}
}
