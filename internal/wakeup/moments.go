package wakeup

import (
	"sync"
	"time"
)

// Moments remembers when something began with each of the keys, until somebody takes it.
type Moments[K comparable] struct {
	mu sync.Mutex
	at map[K]time.Time
}

// Note remembers a moment, unless an earlier one was not taken yet.
func (m *Moments[K]) Note(key K, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.at[key]; ok {
		return
	}
	if m.at == nil {
		m.at = map[K]time.Time{}
	}
	m.at[key] = now
}

// Take returns the moment and forgets it; zero if there is none.
func (m *Moments[K]) Take(key K) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.at[key]
	delete(m.at, key)
	return at
}
