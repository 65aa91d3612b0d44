package connpool

import (
	"context"
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// Lease lends the client and the informers of one session. It is meant for one
// piece of work, not to be kept: after the session has ended every call fails
// with ErrClosed.
//
// Errors of calls to the target are those of client-go, as they came.
type Lease struct{ session *session }

// ClusterUID is the UID of the cluster that the session is connected to.
func (l *Lease) ClusterUID() string { return l.session.clusterUID }

// Job is the watched Job of that name, cut down to metadata, backoffLimit and
// status; nil when the informer has none. The object is shared: do not change it.
func (l *Lease) Job(namespace, name string) (*batchv1.Job, error) {
	if l.session.ctx.Err() != nil {
		return nil, ErrClosed
	}
	obj, ok, err := l.session.jobs.GetIndexer().GetByKey(namespace + "/" + name)
	if err != nil || !ok {
		return nil, err
	}
	job, ok := obj.(*batchv1.Job)
	if !ok {
		return nil, fmt.Errorf("the informer of Jobs holds a %T", obj)
	}
	return job, nil
}

// Pods are the Pods with that value of Options.KeyLabel that the target has, cut
// down to metadata and how they ended. The objects are shared: do not change them.
func (l *Lease) Pods(key string) ([]*corev1.Pod, error) {
	if l.session.ctx.Err() != nil {
		return nil, ErrClosed
	}
	objects, err := l.session.pods.GetIndexer().ByIndex(byKey, key)
	if err != nil {
		return nil, err
	}
	pods := make([]*corev1.Pod, 0, len(objects))
	for _, obj := range objects {
		if pod, ok := obj.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// EndedPods are Pods that had ended and were deleted since, while their Job was
// there: what is remembered of them.
func (l *Lease) EndedPods(key string) []*corev1.Pod { return l.session.gone.of(key) }

// CreateJob creates a Job. A field that the target does not know is refused by it.
// The request is sent once: by itself the client would send it up to eleven times to
// a target that answers 429, and hold the caller meanwhile.
func (l *Lease) CreateJob(ctx context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	return call(ctx, l, func(ctx context.Context) (*batchv1.Job, error) {
		created := &batchv1.Job{}
		options := &metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}
		err := l.session.transport.client.BatchV1().RESTClient().Post().MaxRetries(0).
			Namespace(job.Namespace).Resource("jobs").VersionedParams(options, scheme.ParameterCodec).
			Body(job).Do(ctx).Into(created)
		return created, err
	})
}

// GetJob reads a Job from the target itself, whatever its labels.
func (l *Lease) GetJob(ctx context.Context, namespace, name string) (*batchv1.Job, error) {
	return call(ctx, l, func(ctx context.Context) (*batchv1.Job, error) {
		return l.session.transport.client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

// LabelJob sets labels of the Job of that UID.
func (l *Lease) LabelJob(ctx context.Context, namespace, name string, uid types.UID, labels map[string]string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid, "labels": labels}})
	if err != nil {
		return fmt.Errorf("encoding labels: %w", err)
	}
	_, err = call(ctx, l, func(ctx context.Context) (*batchv1.Job, error) {
		return l.session.transport.client.BatchV1().Jobs(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	})
	return err
}

// DeleteJob deletes the Job of that UID in the foreground: it is gone when its
// Pods are.
func (l *Lease) DeleteJob(ctx context.Context, namespace, name string, uid types.UID) error {
	foreground := metav1.DeletePropagationForeground
	_, err := call(ctx, l, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, l.session.transport.client.BatchV1().Jobs(namespace).Delete(ctx, name,
			metav1.DeleteOptions{PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &uid}})
	})
	return err
}

// DeletePod deletes the Pod of that UID, with the grace period that it has.
func (l *Lease) DeletePod(ctx context.Context, namespace, name string, uid types.UID) error {
	_, err := call(ctx, l, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, l.session.transport.client.CoreV1().Pods(namespace).Delete(ctx, name,
			metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	})
	return err
}

// ListPods reads from the target itself the Pods with that value of
// Options.KeyLabel, which Options.Selector picks too.
func (l *Lease) ListPods(ctx context.Context, namespace, key string) ([]*corev1.Pod, error) {
	list, err := call(ctx, l, func(ctx context.Context) (*corev1.PodList, error) {
		options := l.session.options
		return l.session.transport.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
			LabelSelector: options.Selector + "," + options.KeyLabel + "=" + key,
		})
	})
	if err != nil {
		return nil, err
	}
	pods := make([]*corev1.Pod, 0, len(list.Items))
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	return pods, nil
}

// ReadClusterUID asks the target, over the same transport as every other call,
// which cluster it is.
func (l *Lease) ReadClusterUID(ctx context.Context) (string, error) {
	return call(ctx, l, l.session.readClusterUID)
}

// call makes one bounded request, if the session lives and not too many are under
// way already.
func call[T any](ctx context.Context, l *Lease, request func(context.Context) (T, error)) (T, error) {
	if l.session.ctx.Err() != nil {
		var zero T
		return zero, ErrClosed
	}
	select {
	case l.session.slots <- struct{}{}:
		defer func() { <-l.session.slots }()
	default:
		var zero T
		return zero, ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, l.session.options.RequestTimeout)
	defer cancel()
	answer, err := request(ctx)
	return answer, redact(err, l.session.token)
}
