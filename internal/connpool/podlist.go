package connpool

import (
	"context"
	"errors"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// This file reads the Pods of one run from a target, in one list. A view shows nearly all of them
// already, so of a list for a Lease only those are kept that it does not show so.

const (
	// maxNews is how much memory the Pods of one list may take that the view does not show so, in
	// bytes: some 600 Pods. Of these freeNews may always be taken. The rest comes out of
	// maxNewsOfConnection and maxNewsOfAll, for all lists that are read at the time.
	maxNews             = 2 << 20
	freeNews            = 64 << 10
	maxNewsOfConnection = 4 << 20
	maxNewsOfAll        = 32 << 20
	// maxLogList is how much memory all Pods of a run may take for those who read logs, in bytes. Logs
	// can be read in a process of their own.
	maxLogList = 16 << 20
)

// ErrTooManyPods is the error of a list of more Pods of a run than there is room for.
var ErrTooManyPods = errors.New("there is no room for so many Pods of one run: 2 MiB for those that are not in view, and 16 MiB for all when logs are read")

// podNews are the Pods of a list that the view does not show so, while it is read.
type podNews struct {
	view *store                 // nil if there is none
	seen map[types.UID]struct{} // Pods of the list that the view shows so
	news []*corev1.Pod

	size    int
	shares  [2]*atomic.Int64 // of the connection, and of all
	counted int64            // in the shares
}

// newsOfAll is how much memory the news of all lists take that are being read, in bytes.
var newsOfAll atomic.Int64

// add looks at one Pod of the list.
func (n *podNews) add(kept prune.Kept) error {
	pod := &corev1.Pod{}
	if err := pod.Unmarshal(kept.Message); err != nil || checkUID(pod.UID) != nil {
		return err
	}
	if n.isShown(pod) {
		n.seen[pod.UID] = struct{}{}
		return nil
	}
	n.news = append(n.news, pod)
	return n.takeRoom(kept.Size)
}

// isShown reports whether the view shows the Pod as it is, and cuts it down to what views show.
func (n *podNews) isShown(pod *corev1.Pod) bool {
	if n.view == nil {
		tidyPod(pod)
		return false
	}
	r, err := n.view.record(pod)
	if err != nil {
		return false
	}
	_, isNew := n.view.known(kindPod, r)
	return !isNew
}

func (n *podNews) takeRoom(size int) error {
	if n.size += size; n.size > maxNews {
		return ErrTooManyPods
	}
	if n.size <= freeNews {
		return nil
	}
	n.counted += int64(size)
	ofConnection, ofAll := n.shares[0].Add(int64(size)), n.shares[1].Add(int64(size))
	if ofConnection > maxNewsOfConnection || ofAll > maxNewsOfAll {
		return ErrTooManyPods
	}
	return nil
}

// done gives back what the news took.
func (n *podNews) done() {
	for _, share := range n.shares {
		share.Add(-n.counted)
	}
	n.counted = 0
}

// with are the Pods of the list: the news, and as the view shows them now those that it showed so.
func (n *podNews) with(shown []*corev1.Pod) []*corev1.Pod {
	pods := n.news
	for _, pod := range shown {
		if _, ok := n.seen[pod.UID]; ok {
			pods = append(pods, pod)
		}
	}
	return pods
}

// readAllPods reads all Pods that a request asks for. They count in the budgets as long as anybody
// has them.
func readAllPods(ctx context.Context, request *rest.Request, counted budgets) ([]*corev1.Pod, error) {
	var pods []*corev1.Pod
	size := 0
	_, err := readList(ctx, request, logPodSchema, func(kept prune.Kept) error {
		if size += kept.Size; size > maxLogList {
			return ErrTooManyPods
		}
		pod := &corev1.Pod{}
		pods = append(pods, pod)
		if err := counted.take(pod, kept.Size, size); err != nil {
			return err
		}
		return pod.Unmarshal(kept.Message)
	})
	return pods, err
}

// ofRun are the options of a request for the Pods of a run.
func ofRun(o Options, key string, options metav1.ListOptions) *metav1.ListOptions {
	options.LabelSelector = o.Selector + "," + o.KeyLabel + "=" + key
	return &options
}
