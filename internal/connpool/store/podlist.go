package store

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/sanitize"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// This file reads the Pods of one run from a target, in one list. A view shows nearly all of them
// already, so of a list for a Lease only those are kept that it does not show so.

const (
	// maxUnseen is how much memory one list may take, in bytes: some 600 Pods that the view does not
	// show so, or 20,000 that it does.
	maxUnseen = 2 << 20
	// shortList is what a list may take without waiting for others, in bytes. Longer ones are asked for
	// again, and count in the budget of their connection then.
	shortList = 64 << 10
	// ItemCost is what an item of a list counts at least, in bytes, whatever is in it: else a list without
	// an end would cost nothing.
	ItemCost = 100
)

// ErrTooManyPods is the error of a list of more Pods of a run than are read.
var ErrTooManyPods = errors.New("the run has too many Pods")

var (
	errTooManyUnseen = fmt.Errorf("%w: those that are not in view take more than %d MiB", ErrTooManyPods, maxUnseen>>20)
)

// PodList is a list of the Pods of one run, while it is read.
type PodList struct {
	view                     *Store // nil if there is none
	keyLabel, key, namespace string
	long                     *budget.Pending // what it counts as, if it may become a long one

	shown  map[*Record]struct{} // of the view, as they are in the list
	unseen []*corev1.Pod        // the others
	size   int                  // bytes that all this takes
}

// NewPodList returns a list of the Pods of a run in a namespace, beside a view; nil if there is none. It may
// become a long one if it counts as long.
func NewPodList(view *Store, labels *Labels, key, namespace string, long *budget.Pending) *PodList {
	return &PodList{view: view, keyLabel: labels.key, key: key, namespace: namespace, shown: map[*Record]struct{}{}, long: long}
}

// Add looks at one Pod of the list. Whatever is not of the run takes time, and is left out.
func (l *PodList) Add(kept prune.Kept) error {
	pod := &corev1.Pod{}
	if err := pod.Unmarshal(kept.Message); err != nil {
		return err
	}
	if pod.Namespace != l.namespace || pod.Labels[l.keyLabel] != l.key || sanitize.CheckUID(pod.UID) != nil {
		return l.takeRoom(ItemCost)
	}
	if r := l.shows(pod); r != nil {
		l.shown[r] = struct{}{}
		return l.takeRoom(ItemCost)
	}
	l.unseen = append(l.unseen, pod)
	return l.takeRoom(ItemCost + kept.Size)
}

// shows returns the record of a Pod that the view shows as it is, else nil. It cuts the Pod down to what
// views show.
func (l *PodList) shows(pod *corev1.Pod) *Record {
	if l.view == nil {
		sanitize.Pod(pod)
		return nil
	}
	r, err := l.view.Record(pod)
	if err != nil {
		return nil
	}
	if known, isNew := l.view.Known(KindPod, r); !isNew {
		return known
	}
	return nil
}

// ErrLongList is the error of a list that has become a long one.
var ErrLongList = errors.New("the list is a long one")

// ErrNoRoom is the error of a long list for which there is no room now. It is no fault of the target's.
var ErrNoRoom = errors.New("there is no room for a list of many Pods now")

func (l *PodList) takeRoom(size int) error {
	l.size += size
	switch {
	case l.size > maxUnseen:
		return errTooManyUnseen
	case l.long != nil:
		l.long.Add(size)
		if err := l.long.Check(); err != nil {
			return fmt.Errorf("%w: %s", ErrNoRoom, err.Error())
		}
	case l.size > shortList:
		return ErrLongList
	}
	return nil
}

// Pods returns the Pods of the list. Those that the view shows so, or has shown meanwhile, are made of its
// records, if they are not in made.
func (l *PodList) Pods(made MadePods) []*corev1.Pod {
	pods := l.unseen
	for r := range l.shown {
		pods = append(pods, made.pod(l.view, r))
	}
	return pods
}

// MadePods are Pods that were made of records, so that none is made twice.
type MadePods map[*Record]*corev1.Pod

func (m MadePods) pod(s *Store, r *Record) *corev1.Pod {
	if m[r] == nil {
		m[r] = s.readPod(r)
	}
	return m[r]
}
