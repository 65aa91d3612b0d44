package streams

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sharedLists are the lists of the Pods of one run that are asked for at a time. Who asks while one
// is under way waits for the next, which all share who ask meanwhile: what a list shows may be older
// than the question.
type sharedLists struct {
	now, next *sharedList
}

// sharedList is one list.
type sharedList struct {
	done chan struct{}
	// Set when done is closed.
	pods []*corev1.Pod
	err  error
}

// Pods returns the Pods of the run of that key, as the target has them now. Others are given the same,
// so nobody must change them. The error is ErrTooManyPods if there are more than are read, and one
// that ExceedsLimit if there is no room for them now.
func (c *Stream) Pods(ctx context.Context, namespace, key string) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, c.owner.options.RequestTimeout)
	defer cancel()
	list := c.joinList(podWatchKey{namespace, key})
	select {
	case <-list.done:
		return list.pods, list.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// joinList returns the list that begins after now.
func (c *Stream) joinList(which podWatchKey) *sharedList {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	lists := c.lists[which]
	if lists == nil {
		lists = &sharedLists{now: &sharedList{done: make(chan struct{})}}
		c.lists[which] = lists
		go c.connection.readLists(c.owner, which, lists)
		return lists.now
	}
	if lists.next == nil {
		lists.next = &sharedList{done: make(chan struct{})}
	}
	return lists.next
}

// readLists reads one list after the other, as long as somebody asks for one.
func (c *connection) readLists(s *Streams, which podWatchKey, lists *sharedLists) {
	for list := lists.now; list != nil; {
		list.pods, list.err = c.readPods(s, which)
		close(list.done)
		s.mu.Lock()
		list, lists.next = lists.next, nil
		if list == nil {
			delete(c.lists, which)
		}
		s.mu.Unlock()
	}
}

func (c *connection) readPods(s *Streams, which podWatchKey) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(c.ctx, s.options.RequestTimeout)
	defer cancel()
	request := c.askForPods(which.namespace, s.options.ofRun(which.key, metav1.ListOptions{}))
	pods, err := readAllPods(ctx, request, c.budget)
	return pods, c.clean(err)
}
