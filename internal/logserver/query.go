package logserver

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxSince bounds sinceSeconds: a century.
const maxSince = 100 * 365 * 24 * 60 * 60

// query is what a client asks for. The parameters are those of Pod logs, and pod and
// allPods.
type query struct {
	container, pod                        string
	follow, previous, timestamps, allPods bool
	tailLines, limitBytes                 *int64
	sinceTime                             *metav1.Time
}

// logsAtOnce returns how many logs are read at a time.
func (q *query) logsAtOnce() int {
	if q.allPods && q.follow {
		return podsAtOnce
	}
	return 1
}

// parseQuery reads the parameters. One that is unknown is refused: a slip would else
// give another log than the one that was meant.
func parseQuery(values url.Values, now time.Time) (query, error) {
	var q query
	if values.Has("sinceTime") && values.Has("sinceSeconds") {
		return q, badQuery("sinceTime and sinceSeconds exclude each other; leave one of them out")
	}
	for name, given := range values {
		if len(given) != 1 {
			return q, badQuery("%s is given %d times; give it once", name, len(given))
		}
		if err := q.set(name, given[0], now); err != nil {
			return q, err
		}
	}
	err := q.check()
	return q, err
}

func (q *query) set(name, value string, now time.Time) error {
	switch name {
	case "container":
		q.container = value
	case "pod":
		q.pod = value
	case "follow":
		return setBool(&q.follow, name, value)
	case "previous":
		return setBool(&q.previous, name, value)
	case "timestamps":
		return setBool(&q.timestamps, name, value)
	case "allPods":
		return setBool(&q.allPods, name, value)
	case "tailLines":
		return setNumber(&q.tailLines, name, value, 0)
	case "limitBytes":
		return setNumber(&q.limitBytes, name, value, 1)
	case "sinceSeconds":
		var seconds *int64
		if err := setNumber(&seconds, name, value, 1); err != nil {
			return err
		}
		since := now.Add(-time.Duration(min(*seconds, maxSince)) * time.Second) // the same for each Pod
		q.sinceTime = &metav1.Time{Time: since}
	case "sinceTime":
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return badQuery("sinceTime is %q; give a time as RFC 3339 has it, such as 2006-01-02T15:04:05Z", value)
		}
		q.sinceTime = &metav1.Time{Time: at}
	default:
		return badQuery("there is no parameter %q; there are allPods, container, follow, limitBytes, pod, previous, sinceSeconds, sinceTime, tailLines and timestamps", name)
	}
	return nil
}

func setBool(field *bool, name, value string) (err error) {
	if *field, err = strconv.ParseBool(value); err != nil {
		return badQuery("%s is %q; give true or false", name, value)
	}
	return nil
}

func setNumber(field **int64, name, value string, least int64) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < least {
		return badQuery("%s is %q; give a number, at least %d", name, value, least)
	}
	*field = &n
	return nil
}

func (q *query) check() error {
	switch {
	case q.pod != "" && q.allPods:
		return badQuery("pod and allPods exclude each other; leave one of them out")
	case q.previous && q.follow:
		return badQuery("a previous container cannot be followed; leave out follow or previous")
	}
	return nil
}

func badQuery(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}

// podLogOptions returns the options for one container's log.
func (q *query) podLogOptions(container string) *corev1.PodLogOptions {
	return &corev1.PodLogOptions{
		Container: container, Previous: q.previous, Timestamps: q.timestamps,
		TailLines: q.tailLines, SinceTime: q.sinceTime,
	}
}
