package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"
)

// Content types of requests.
const (
	asJSON       = "application/json"
	asMergePatch = "application/merge-patch+json"
	asMetadata   = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)

// Resources, with what comes before them in a path.
const (
	pooledJobs    = "/apis/pooledjob.io/v1alpha1/namespaces/" + namespace + "/pooledjobs"
	othersJobs    = "/apis/pooledjob.io/v1alpha1/namespaces/" + otherTenant + "/pooledjobs"
	jobs          = "/apis/batch/v1/namespaces/" + namespace + "/jobs"
	pods          = "/api/v1/namespaces/" + namespace + "/pods"
	connections   = "/apis/pooledjob.io/v1alpha1/clusterconnections"
	secrets       = "/api/v1/namespaces/" + managerNamespace + "/secrets"
	allPooledJobs = "/apis/pooledjob.io/v1alpha1/pooledjobs"
	allJobs       = "/apis/batch/v1/jobs"
)

// endpoint is an API server as the benchmark itself uses it: with plain HTTP, and
// nothing of what the product is made of. Requests share one connection, watches another.
type endpoint struct {
	url       string
	requests  *http.Client
	watches   *http.Client
	transport []*http.Transport
}

func newEndpoint(config *rest.Config) (*endpoint, error) {
	e := &endpoint{url: strings.TrimSuffix(config.Host, "/")}
	for _, client := range []**http.Client{&e.requests, &e.watches} {
		transport, err := newTransport(config)
		if err != nil {
			return nil, err
		}
		*client = &http.Client{Transport: transport}
		e.transport = append(e.transport, transport)
	}
	return e, nil
}

// newTransport makes one that shares its connections with no other.
func newTransport(config *rest.Config) (*http.Transport, error) {
	settings, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("TLS settings: %w", err)
	}
	return &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}, nil
}

func (e *endpoint) close() {
	for _, t := range e.transport {
		t.CloseIdleConnections()
	}
}

// statusError is an answer that is no success.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.message) }

// isCode reports whether an error is an answer with that code.
func isCode(err error, code int) bool {
	var status *statusError
	return errors.As(err, &status) && status.code == code
}

// do sends one request, and decodes the answer into into unless that is nil.
func (e *endpoint) do(ctx context.Context, method, path, contentType string, body []byte, into any) error {
	answer, err := e.send(ctx, e.requests, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, answer)
	} else {
		err = json.NewDecoder(answer).Decode(into)
	}
	if err != nil {
		return fmt.Errorf("%s %s: reading the answer: %w", method, path, err)
	}
	return nil
}

func (e *endpoint) send(ctx context.Context, client *http.Client, method, path, contentType string, body []byte) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, e.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Accept", asJSON)
	if method != http.MethodGet {
		request.Header.Set("Accept", asMetadata) // nobody needs what was just sent
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<12))
		return nil, fmt.Errorf("%s %s: %w", method, path, &statusError{response.StatusCode, string(text)})
	}
	return response.Body, nil
}

func (e *endpoint) post(ctx context.Context, path string, body []byte) error {
	return e.do(ctx, http.MethodPost, path, asJSON, body, nil)
}

func (e *endpoint) patch(ctx context.Context, path string, body []byte) error {
	return e.do(ctx, http.MethodPatch, path, asMergePatch, body, nil)
}

// delete deletes an object or, with a path of a resource, all; what is gone is no error.
func (e *endpoint) delete(ctx context.Context, path string) error {
	err := e.do(ctx, http.MethodDelete, path, "", nil, nil)
	if isCode(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// event is what a watch tells, as far as the benchmark cares.
type event struct {
	Type   string `json:"type"`
	Object object `json:"object"`
}

// object is a PooledJob, a Job or a Pod, as far as the benchmark cares.
type object struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
		Finalizers        []string          `json:"finalizers"`
	} `json:"metadata"`
	Status struct {
		Phase          string `json:"phase"`
		Active         int    `json:"active"`
		Succeeded      int    `json:"succeeded"`
		CompletionTime string `json:"completionTime"`
	} `json:"status"`
}

// watch hands over everything that happens to a resource from now on, until ctx is done.
// It returns when the watch is open; handle must not block. A watch that the server ends,
// as it does when a CRD is new, goes on where it was.
func (e *endpoint) watch(ctx context.Context, path string, handle func(event)) error {
	var list object
	if err := e.do(ctx, http.MethodGet, path+"?limit=1", "", nil, &list); err != nil {
		return err
	}
	version := list.Metadata.ResourceVersion
	open := func() (io.ReadCloser, error) { return e.openWatch(ctx, path, url.Values{"resourceVersion": {version}}) }
	body, err := open()
	if err != nil {
		return err
	}
	go func() {
		for err == nil {
			err = readWatch(body, func(told event) {
				version = told.Object.Metadata.ResourceVersion
				handle(told)
			})
			if err == nil {
				body, err = open()
			}
		}
		if ctx.Err() == nil {
			fail(fmt.Errorf("the watch of %s ended: %w", path, err))
		}
	}()
	return nil
}

func (e *endpoint) openWatch(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	query.Set("watch", "1")
	query.Set("timeoutSeconds", "86400")
	return e.send(ctx, e.watches, http.MethodGet, path+"?"+query.Encode(), "", nil)
}

// readWatch reads a watch until the server ends it.
func readWatch(body io.ReadCloser, handle func(event)) error {
	defer body.Close()
	lines := bufio.NewReaderSize(body, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte(`{"type":"ERROR"`)) {
			return fmt.Errorf("it tells: %s", line)
		}
		var told event
		if err := json.Unmarshal(line, &told); err != nil {
			return err
		}
		handle(told)
	}
}
