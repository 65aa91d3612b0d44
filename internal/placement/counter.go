package placement

import (
	"cmp"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Counter counts the unfinished runs of each ClusterConnection, with those that were placed a moment ago
// and that no cache shows yet. The zero value is ready to use, from any goroutine.
type Counter struct {
	mu           sync.Mutex
	connectionOf map[types.UID]string
	runs         map[string]int // by connection
}

// Place chooses the candidate with the fewest unfinished runs, the first by name among equals, and counts
// the run there. There must be one that is usable.
func (c *Counter) Place(run types.UID, candidates []Candidate) Candidate {
	c.mu.Lock()
	defer c.mu.Unlock()
	usable := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool { return !c.Usable() })
	chosen := slices.MinFunc(usable, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(c.runs[a.Name], c.runs[b.Name]), cmp.Compare(a.Name, b.Name))
	})
	c.move(run, chosen.Name)
	return chosen
}

// Count counts a run on a connection, and no more where it was counted before.
func (c *Counter) Count(run types.UID, connection string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.move(run, connection)
}

// Forget does not count a run any more.
func (c *Counter) Forget(run types.UID) { c.Count(run, "") }

// Runs returns how many runs are counted on a connection.
func (c *Counter) Runs(connection string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[connection]
}

// move counts a run on a connection, or on none. c.mu is held.
func (c *Counter) move(run types.UID, connection string) {
	if c.runs == nil {
		c.connectionOf, c.runs = map[types.UID]string{}, map[string]int{}
	}
	before, ok := c.connectionOf[run]
	if ok && before == connection {
		return
	}
	if ok {
		c.runs[before]--
		delete(c.connectionOf, run)
		if c.runs[before] == 0 {
			delete(c.runs, before)
		}
	}
	if connection != "" {
		c.connectionOf[run] = connection
		c.runs[connection]++
	}
}
