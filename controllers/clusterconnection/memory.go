package clusterconnection

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// memory is what one process remembers of one ClusterConnection. Nothing depends on it being there. Only
// the worker that reconciles the connection uses it, and a connection is never reconciled twice at the
// same time.
type memory struct {
	// countedAt is when status.jobs was last refreshed.
	countedAt time.Time
	// idleSince is since when no job has needed the connection; zero while one does.
	idleSince time.Time
	// renewal is of the renewals of its token.
	renewal renewalMemory
	// identity is the one that the pool was given last, and how often it may change.
	identity identityChange
	// warned holds, for each reason, the expiry that an Event has reported: while the target is away
	// the condition of the credential is Unknown, and its return is no news.
	warned map[string]time.Time
}

// isFirstWarning reports whether this is the first Event of that reason and expiry, if any.
func (m *memory) isFirstWarning(reason string, expiry *metav1.Time) bool {
	var at time.Time
	if expiry != nil {
		at = expiry.Time
	}
	if warned, ok := m.warned[reason]; ok && warned.Equal(at) {
		return false
	}
	if m.warned == nil {
		m.warned = map[string]time.Time{}
	}
	m.warned[reason] = at
	return true
}

// memories are those of all ClusterConnections. The zero value is ready.
type memories struct {
	mu     sync.Mutex
	byName map[string]*memory
}

// get returns the memory of a connection, which is empty at first.
func (m *memories) get(name string) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byName == nil {
		m.byName = map[string]*memory{}
	}
	if m.byName[name] == nil {
		m.byName[name] = &memory{}
	}
	return m.byName[name]
}

func (m *memories) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byName, name)
}
