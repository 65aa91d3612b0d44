package faultproxy

import (
	"net/http"
	"strings"
)

// Call is a request, in the words of the Kubernetes API.
type Call struct {
	// Method is that of HTTP.
	Method string
	// Resource, Subresource, Namespace and Name say what it is about. They are empty
	// for paths that are no resource, such as /readyz.
	Resource, Subresource, Namespace, Name string
	// Watch tells a watch.
	Watch bool
	// DryRun tells a write that the server only tries out.
	DryRun bool
	// Path is the path of the URL.
	Path string
	// Code is that of the server's answer; 0 before it came.
	Code int
}

// String returns the call in a few words, such as "PATCH pooledjobs/status".
func (c *Call) String() string {
	what := c.Resource
	if what == "" {
		what = c.Path
	}
	if c.Subresource != "" {
		what += "/" + c.Subresource
	}
	if c.Watch {
		return "WATCH " + what
	}
	if c.Method == http.MethodGet && c.Resource != "" && c.Name == "" {
		return "LIST " + what
	}
	if c.DryRun {
		what += " (dry run)"
	}
	return c.Method + " " + what
}

// newCall reads the path of a request: /api/v1 or /apis/group/version, then a namespace
// if there is one, then resource, name and subresource.
func newCall(r *http.Request) *Call {
	c := &Call{
		Method: r.Method, Path: r.URL.Path, Watch: r.Method == http.MethodGet && r.URL.Query().Get("watch") != "",
		DryRun: r.URL.Query().Get("dryRun") != "",
	}
	if watch := r.URL.Query().Get("watch"); watch == "false" || watch == "0" {
		c.Watch = false
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return c
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		c.Namespace, parts = parts[1], parts[2:]
	}
	for i, field := range []*string{&c.Resource, &c.Name, &c.Subresource} {
		if i < len(parts) {
			*field = parts[i]
		}
	}
	return c
}
