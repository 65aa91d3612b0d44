package connpool

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podFlights are the lists of the Pods of one run that are asked for at a time. Who asks while one
// is under way waits for the next, which all share who ask meanwhile: what a list shows may be older
// than the question.
type podFlights struct {
	now, next *podFlight
}

// podFlight is one list.
type podFlight struct {
	done chan struct{}
	// Set when done is closed.
	pods []*corev1.Pod
	err  error
}

// Pods are the Pods of the run of that key, as the target has them now. Others are given the same,
// so nobody must change them. The error is ErrTooManyPods if there are more than are read, and one
// that ExceedsLimit if there is no room for them now.
func (c *Stream) Pods(ctx context.Context, namespace, key string) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, c.owner.options.RequestTimeout)
	defer cancel()
	flight := c.board(podWatchKey{namespace, key})
	select {
	case <-flight.done:
		return flight.pods, flight.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// board is the list that begins after now.
func (c *Stream) board(which podWatchKey) *podFlight {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	flights := c.lists[which]
	if flights == nil {
		flights = &podFlights{now: &podFlight{done: make(chan struct{})}}
		c.lists[which] = flights
		go c.streamLine.fly(c.owner, which, flights)
		return flights.now
	}
	if flights.next == nil {
		flights.next = &podFlight{done: make(chan struct{})}
	}
	return flights.next
}

// fly reads one list after the other, as long as somebody asks for one.
func (c *streamLine) fly(s *Streams, which podWatchKey, flights *podFlights) {
	for flight := flights.now; flight != nil; {
		flight.pods, flight.err = c.readPods(s, which)
		close(flight.done)
		s.mu.Lock()
		flight, flights.next = flights.next, nil
		if flight == nil {
			delete(c.lists, which)
		}
		s.mu.Unlock()
	}
}

func (c *streamLine) readPods(s *Streams, which podWatchKey) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(c.ctx, s.options.RequestTimeout)
	defer cancel()
	request := c.askForPods(which.namespace, ofRun(s.options, which.key, metav1.ListOptions{}))
	pods, err := readPods(ctx, request, logPodSchema, &podList{owned: c.budgets(s)})
	return pods, c.clean(err)
}

// budgets are those that Pods of the connection count in.
func (c *streamLine) budgets(s *Streams) budgets { return budgets{c.budget, s.budget} }
