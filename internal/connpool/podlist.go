package connpool

import (
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
	// its turn. Each takes largeListTime at most, and a connection whose list took longer has no
	// turn for Options.LimitPause: a target that is slow must not hold up others.
	maxSmallList  = 1 << 20
	largeListTime = 10 * time.Second
	// maxSmallLists is how much memory all small lists take that are being read, in bytes. While that
	// is exceeded the others need a turn, too.
	maxSmallLists = 16 << 20
)

// ErrTooManyPods is the error of a list of more Pods of a run than are read.
var ErrTooManyPods = errors.New("a list of the Pods of a run exceeds the limit of 8 MiB (16 MiB for logs) of memory; 8 MiB are some 2,500 Pods")

// ErrListBusy is the error of a long list of Pods while others are being read. It is to be asked for
// again, after a second or so.
var ErrListBusy = errors.New("other long lists of Pods are being read")

// errSlowLarge is why a large list is given up.
var errSlowLarge = fmt.Errorf("a long list of Pods took longer than %v", largeListTime)

// largeLists has one place, for the large list that is being read.
var largeLists = semaphore.NewWeighted(1)

// smallLists is how much memory the small lists take that are being read, in bytes.
var smallLists atomic.Int64

// largeTurn says whether a connection may read a large list.
type largeTurn struct {
	pause     time.Duration // without a turn
	taken     atomic.Bool   // one is being read, or waits
	lostUntil atomic.Int64  // Unix nanoseconds
}

// podList is a list of the Pods of one run while it is read.
type podList struct {
	pods    []*corev1.Pod
	size    int
	ctx     context.Context // of the request
	cancel  context.CancelCauseFunc
	budgets budgets    // that the Pods count in, or
	turn    *largeTurn // of the connection, for large lists
	small   int64      // bytes of smallLists
	release func()     // nil while it is small
}

// readPods reads all Pods that a request asks for.
func readPods(ctx context.Context, request *rest.Request, schema *prune.Schema, list *podList) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	list.ctx, list.cancel = ctx, cancel
	defer list.done()
	_, err := readList(ctx, request, schema, list.add)
	if err != nil {
		if context.Cause(ctx) == errSlowLarge { //nolint:errorlint // it is set as it is
			err = errSlowLarge
		}
		return nil, err
	}
	return list.pods, nil
}

func (l *podList) add(kept prune.Kept) error {
	most := maxListedSize
	if l.budgets != nil {
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
	if l.budgets != nil {
		return l.budgets.take(pod, size, l.size)
	}
	if l.release != nil || (l.size <= maxSmallList && l.takeSmall(int64(size))) {
		return nil
	}
	if time.Now().UnixNano() < l.turn.lostUntil.Load() {
		return errSlowLarge
	}
	if !l.turn.taken.CompareAndSwap(false, true) {
		return ErrListBusy
	}
	if largeLists.Acquire(l.ctx, 1) != nil {
		l.turn.taken.Store(false)
		return ErrListBusy
	}
	late := time.AfterFunc(largeListTime, func() {
		l.turn.lostUntil.Store(time.Now().Add(l.turn.pause).UnixNano())
		l.cancel(errSlowLarge)
	})
	l.release = func() {
		late.Stop()
		largeLists.Release(1)
		l.turn.taken.Store(false)
	}
	return nil
}

// takeSmall counts bytes of a small list, if there is room for them.
func (l *podList) takeSmall(size int64) bool {
	if smallLists.Add(size) > maxSmallLists {
		smallLists.Add(-size)
		return false
	}
	l.small += size
	return true
}

func (l *podList) done() {
	smallLists.Add(-l.small)
	l.small = 0
	if l.release != nil {
		l.release()
	}
}

// ofRun are the options of a request for the Pods of a run.
func ofRun(o Options, key string, options metav1.ListOptions) *metav1.ListOptions {
	options.LabelSelector = o.Selector + "," + o.KeyLabel + "=" + key
	return &options
}
