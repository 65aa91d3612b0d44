package orphan

import (
	"errors"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/clock"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

// claim is which Job a PooledJob stands behind: that of its present attempt.
type claim struct {
	uid             string // of the Job that was observed; empty if none was
	namespace, name string
	bound           bool   // the run is, to a cluster
	clusterUID      string // of that
}

func claimOf(hubID string, run *v1alpha1.PooledJob) claim {
	intent, bound, _ := jobspec.RunOf(hubID, run).Bound(binding.Intent{})
	c := claim{
		uid:       run.Status.JobRef.UID,
		namespace: jobspec.TargetNamespace(run), name: binding.RemoteName(hubID, run, run.Status.Attempt),
		bound: bound, clusterUID: intent.ClusterUID,
	}
	hubcache.ShareStrings(&c.namespace, &c.clusterUID)
	return c
}

// covers reports whether it is that Job, on the cluster of that UID, whatever its labels say.
func (c claim) covers(job *batchv1.Job, clusterUID string) bool {
	if c.uid == string(job.UID) {
		return true
	}
	return c.name == job.Name && c.namespace == job.Namespace && (!c.bound || c.clusterUID == clusterUID)
}

// claims are those of all PooledJobs that the hub's API server had at the last list, by
// the names of their Jobs. A list costs as much as there are PooledJobs, and after a start
// every connection with an orphan wants one: those that want it at about the same time
// share it.
//
// An old list does no harm: the intent of a run is on the hub before its Job is on the
// target, and neither a PooledJob nor an attempt that is over comes back. So a list that
// began after a Job was seen has whatever stands behind it.
type claims struct {
	mu           sync.Mutex
	listing      bool      // by one caller
	began, ended time.Time // of the list; zero if there is none
	byName       map[string][]claim
	expiry       *time.Timer
}

// errListing is the error while another caller lists. The list is worth another try.
var errListing = errors.New("the PooledJobs are being listed")

// listedAfter returns a list that began after that moment and ended at most maxAge ago. Do
// not change it. It does not wait for another caller's list: those who ask have other work.
func (c *claims) listedAfter(moment time.Time, maxAge time.Duration, clock clock.PassiveClock, list func() (map[string][]claim, error)) (found map[string][]claim, err error) {
	if found, err = c.young(moment, maxAge, clock.Now()); found != nil || err != nil {
		return found, err
	}
	began := clock.Now()
	defer func() { c.keep(found, began, clock.Now(), maxAge) }() // also after a panic
	if found, err = list(); err != nil {
		return nil, err
	}
	return found, nil
}

// young returns the list that is there if it will do. If it returns none and no error, the caller is the
// one who lists.
func (c *claims) young(moment time.Time, maxAge time.Duration, now time.Time) (map[string][]claim, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.listing:
		return nil, errListing
	case c.byName != nil && c.began.After(moment) && now.Sub(c.ended) <= maxAge:
		return c.byName, nil
	}
	c.drop() // free the old list first, and never hold both
	c.listing = true
	return nil, nil
}

// keep keeps a list, unless there is none: it has failed.
func (c *claims) keep(found map[string][]claim, began, ended time.Time, maxAge time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listing = false
	if found == nil {
		return
	}
	c.began, c.ended, c.byName = began, ended, found
	c.expiry = time.AfterFunc(maxAge, func() { c.expire(began) })
}

// expire lets the list go that began then.
func (c *claims) expire(began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.Equal(began) {
		c.drop()
	}
}

// drop lets the list go. c.mu is held.
func (c *claims) drop() {
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.began, c.ended, c.byName, c.expiry = time.Time{}, time.Time{}, nil, nil
}
