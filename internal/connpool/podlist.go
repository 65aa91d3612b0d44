package connpool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// This file reads the Pods of one run from a target, in one list.

const (
	// maxListed is how many Pods of one run are read, and maxListedSize how much memory they may
	// take, in bytes. For those who read logs it is maxLogListSize: logs can be read in a process
	// of their own.
	maxListed      = 20_000
	maxListedSize  = 8 << 20
	maxLogListSize = 16 << 20
	// maxSmallList is how much memory a list takes that may always be read, in bytes. Of the
	// larger ones one is read at a time in the whole process, and one of each connection waits for
	// its turn. Each takes largeListTime at most: a target that is slow must not hold up others.
	maxSmallList  = 1 << 20
	largeListTime = 10 * time.Second
)

// ErrTooManyPods is the error of a list of more Pods of a run than are read.
var ErrTooManyPods = errors.New("a list of the Pods of a run exceeds the limit of 8 MiB (16 MiB for logs) of memory; 8 MiB are some 2,500 Pods")

// errLargeLists is why a list is not read now.
var errLargeLists = errors.New("another long list of Pods of this connection is being read; this one is asked for again")

// errSlowLarge is why a large list is given up.
var errSlowLarge = fmt.Errorf("a long list of Pods took longer than %v", largeListTime)

// largeLists has one place, for the large list that is being read.
var largeLists = semaphore.NewWeighted(1)

// podList is a list of the Pods of one run while it is read.
type podList struct {
	pods    []*corev1.Pod
	size    int
	ctx     context.Context // of the request
	cancel  context.CancelCauseFunc
	owned   budgets      // which the Pods count in, or
	large   *atomic.Bool // whether a large list of the connection is being read, or waits
	release func()       // nil while it is small
}

// readPods reads all Pods that a request asks for.
func readPods(ctx context.Context, request *rest.Request, schema *prune.Schema, list *podList) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	list.ctx, list.cancel = ctx, cancel
	defer list.done()
	_, err := readList(ctx, request, schema, list.add)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return list.pods, nil
}

func (l *podList) add(kept prune.Kept) error {
	most := maxListedSize
	if l.owned != nil {
		most = maxLogListSize
	}
	if l.size += kept.Size; len(l.pods) == maxListed || l.size > most {
		return ErrTooManyPods
	}
	pod := &corev1.Pod{}
	l.pods = append(l.pods, pod)
	if err := l.takeRoom(pod, kept.Size); err != nil {
		return err
	}
	return pod.Unmarshal(kept.Message)
}

func (l *podList) takeRoom(pod *corev1.Pod, size int) error {
	if l.owned != nil {
		return l.owned.take(pod, size)
	}
	if l.release != nil || l.size <= maxSmallList {
		return nil
	}
	if !l.large.CompareAndSwap(false, true) {
		return errLargeLists
	}
	if err := largeLists.Acquire(l.ctx, 1); err != nil {
		l.large.Store(false)
		return fmt.Errorf("waiting for other long lists of Pods: %w", err)
	}
	late := time.AfterFunc(largeListTime, func() { l.cancel(errSlowLarge) })
	l.release = func() {
		late.Stop()
		largeLists.Release(1)
		l.large.Store(false)
	}
	return nil
}

func (l *podList) done() {
	if l.release != nil {
		l.release()
	}
}

// ofRun are the options of a request for the Pods of a run.
func ofRun(o Options, key string, options metav1.ListOptions) *metav1.ListOptions {
	options.LabelSelector = o.Selector + "," + o.KeyLabel + "=" + key
	return &options
}
