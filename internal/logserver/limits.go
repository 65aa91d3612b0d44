package logserver

import (
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// retryAfter is how many seconds a client is asked to wait that is one too many.
const retryAfter = 10

// limits counts the requests that are served.
type limits struct {
	perUser, perConnection int

	mu          sync.Mutex
	users       map[string]int
	connections map[string]int
}

func newLimits(perUser, perConnection int) *limits {
	return &limits{perUser: perUser, perConnection: perConnection, users: map[string]int{}, connections: map[string]int{}}
}

// enterUser takes a place of a user; leave gives it back.
func (l *limits) enterUser(user string) (leave func(), err error) {
	return l.enter(l.users, user, l.perUser, "user %q follows or reads %d logs already, which is the most; end one of them, or raise --logs-per-user of the manager")
}

// enterConnection takes a place of a ClusterConnection; leave gives it back.
func (l *limits) enterConnection(name string) (leave func(), err error) {
	return l.enter(l.connections, name, l.perConnection, "of ClusterConnection %q %d logs are followed or read already, which is the most; try again later, or raise --logs-per-connection of the manager")
}

func (l *limits) enter(counts map[string]int, key string, most int, words string) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if counts[key] >= most {
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf(words, key, most), retryAfter)
	}
	counts[key]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		counts[key]--
		if counts[key] == 0 {
			delete(counts, key)
		}
	}, nil
}

// served is how many requests of each connection are served.
func (l *limits) served() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	served := make(map[string]int, len(l.connections))
	for name, n := range l.connections {
		served[name] = n
	}
	return served
}
