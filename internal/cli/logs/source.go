package logs

import (
	"context"
	"io"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/pooledjob/pooledjob/internal/cli/cluster"
)

// group is the aggregated API that hands logs out.
var group = schema.GroupVersion{Group: "stream.pooledjob.io", Version: "v1alpha1"}

// Options say what of a log is wanted; they mean what they mean for Pod logs.
type Options struct {
	Container, Pod       string
	AllPods, Follow      bool
	Timestamps, Previous bool
	Tail, Limit          int64 // negative is all
	Since                time.Duration
	SinceTime            string
}

func (o *Options) query() url.Values {
	q := url.Values{}
	text := map[string]string{"container": o.Container, "pod": o.Pod, "sinceTime": o.SinceTime}
	if o.Tail >= 0 {
		text["tailLines"] = strconv.FormatInt(o.Tail, 10)
	}
	if o.Limit >= 0 {
		text["limitBytes"] = strconv.FormatInt(o.Limit, 10)
	}
	if o.Since > 0 {
		// Rounded up, so that the log begins no later than asked for.
		text["sinceSeconds"] = strconv.FormatInt(int64((o.Since+time.Second-1)/time.Second), 10)
	}
	for key, set := range map[string]bool{"allPods": o.AllPods, "follow": o.Follow, "timestamps": o.Timestamps, "previous": o.Previous} {
		if set {
			text[key] = "true"
		}
	}
	for key, value := range text {
		if value != "" {
			q.Set(key, value)
		}
	}
	return q
}

// Source opens the log of one run.
type Source func(ctx context.Context, query url.Values) (io.ReadCloser, error)

// SourceOf returns the log of a run as the hub has it.
func SourceOf(hub *cluster.Client, run types.NamespacedName) (Source, error) {
	config := rest.CopyConfig(hub.Config)
	config.Timeout = 0 // it would end a stream
	config.GroupVersion, config.APIPath = &group, "/apis"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	api, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, query url.Values) (io.ReadCloser, error) {
		request := api.Get().Namespace(run.Namespace).Resource("pooledjobs").Name(run.Name).SubResource("log").MaxRetries(0)
		for name := range query {
			request.Param(name, query.Get(name))
		}
		return request.Stream(ctx)
	}, nil
}
