package logserver

import (
	"fmt"
	"maps"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// retryAfter is how many seconds a client is asked to wait that is one too many.
const retryAfter = 10

// Limits bound the requests that are served at a time, in one process: of one user, for the runs
// of one namespace of the hub and of one ClusterConnection, and all together. A namespace has as
// many users as it makes ServiceAccounts.
type Limits struct{ PerUser, PerNamespace, PerConnection, Total int }

// Validate reports what of the limits cannot work.
func (l Limits) Validate() error {
	for flag, most := range map[string]int{
		"logs-per-user": l.PerUser, "logs-per-namespace": l.PerNamespace, "logs-per-connection": l.PerConnection, "logs-total": l.Total,
	} {
		if most < 1 {
			return fmt.Errorf("--%s is %d; it must be at least 1", flag, most)
		}
	}
	return nil
}

// limits counts the requests that are served.
type limits struct {
	Limits

	mu          sync.Mutex
	all         map[string]int // of one key
	users       map[string]int
	namespaces  map[string]int
	connections map[string]int
	refusals    map[string]int // by what the limit is of
}

func newLimits(most Limits) *limits {
	return &limits{
		Limits: most, all: map[string]int{}, users: map[string]int{}, namespaces: map[string]int{}, connections: map[string]int{}, refusals: map[string]int{},
	}
}

// enterFor takes the places of a request of a user that reads so many logs at once of a run in a
// namespace; leave gives them back.
func (l *limits) enterFor(user, namespace string, logs int) (leave func(), err error) {
	var taken []func()
	leave = func() {
		for _, leave := range taken {
			leave()
		}
	}
	for _, enter := range []func() (func(), error){
		func() (func(), error) { return l.enterUser(user, logs) },
		func() (func(), error) { return l.enterNamespace(namespace, logs) },
		func() (func(), error) { return l.enterAll(logs) },
	} {
		one, err := enter()
		if err != nil {
			leave()
			return nil, err
		}
		taken = append(taken, one)
	}
	return leave, nil
}

// enterAll takes a place of all that there are; leave gives it back.
func (l *limits) enterAll(logs int) (leave func(), err error) {
	return l.enter("total", l.all, "log API", logs, l.Total, "the %s serves %d logs already, which is the most; try again later, or raise --logs-total of the manager")
}

// enterNamespace takes a place of a namespace of the hub; leave gives it back.
func (l *limits) enterNamespace(name string, logs int) (leave func(), err error) {
	return l.enter("namespace", l.namespaces, name, logs, l.PerNamespace, "of the PooledJobs in namespace %q %d logs are followed or read already, which is the most; end one of them, or raise --logs-per-namespace of the manager")
}

// enterUser takes a place of a user; leave gives it back.
func (l *limits) enterUser(user string, logs int) (leave func(), err error) {
	return l.enter("user", l.users, user, logs, l.PerUser, "user %q follows or reads %d logs already, which is the most; end one of them, or raise --logs-per-user of the manager")
}

// enterConnection takes the places of so many logs of a ClusterConnection; leave gives them back.
func (l *limits) enterConnection(name string, logs int) (leave func(), err error) {
	return l.enter("connection", l.connections, name, logs, l.PerConnection, "of ClusterConnection %q %d logs are followed or read already, which is the most; try again later, or raise --logs-per-connection of the manager")
}

// enter takes places of a key; of is what the limit is of.
func (l *limits) enter(of string, counts map[string]int, key string, logs, most int, words string) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if counts[key]+min(logs, most) > most {
		l.refusals[of]++
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf(words, key, most), retryAfter)
	}
	counts[key] += logs
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		counts[key] -= logs
		if counts[key] == 0 {
			delete(counts, key)
		}
	}, nil
}

// served returns how many requests of each connection are served.
func (l *limits) served() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.connections)
}

// refused returns how many requests each limit has refused.
func (l *limits) refused() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.refusals)
}
