package main

import (
	"context"
	"net/url"

	"k8s.io/client-go/tools/metrics"
)

// hubRequests counts requests to the hub. client-go counts those of every client by
// their host, and never forgets one: the series of targets that are gone would stay.
// The pool has figures of its own.
type hubRequests struct {
	metrics.ResultMetric
	host string
}

// Increment implements metrics.ResultMetric.
func (r hubRequests) Increment(ctx context.Context, code, method, host string) {
	if host == r.host {
		r.ResultMetric.Increment(ctx, code, method, host)
	}
}

// countOnly has only the requests to that server counted. It must be called before
// the first client is made.
func countOnly(server string) {
	host := server
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		host = u.Host
	}
	metrics.RequestResult = hubRequests{metrics.RequestResult, host}
}
