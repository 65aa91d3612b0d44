package localcluster

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// auditPolicy says which requests are written down, and how much of them.
//
//go:embed audit-policy.yaml
var auditPolicy []byte

// AuditEvent is a request that an API server has answered: what the tests need of
// an audit.k8s.io/v1 Event.
type AuditEvent struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	UserAgent      string          `json:"userAgent"`
	ObjectRef      ObjectReference `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	// RequestObject and ResponseObject are recorded of creations of Jobs only.
	RequestObject  json.RawMessage `json:"requestObject"`
	ResponseObject json.RawMessage `json:"responseObject"`
	// Received is when the request came, by the cluster's clock.
	Received time.Time `json:"requestReceivedTimestamp"`
}

// ObjectReference is what a request is about.
type ObjectReference struct {
	Resource    string    `json:"resource"`
	Subresource string    `json:"subresource"`
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	UID         types.UID `json:"uid"`
}

// DryRun reports whether a request was to change nothing.
func (e AuditEvent) DryRun() bool {
	uri, err := url.Parse(e.RequestURI)
	return err == nil && uri.Query().Get("dryRun") != ""
}

// String returns the event in one line.
func (e AuditEvent) String() string {
	resource := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		resource += "/" + e.ObjectRef.Subresource
	}
	return fmt.Sprintf("%s %s %s %s %s/%s: %d", e.Received.Format("15:04:05.000"), e.User.Username, e.Verb, resource,
		e.ObjectRef.Namespace, e.ObjectRef.Name, e.ResponseStatus.Code)
}

// AuditEvents returns the requests that the API server has answered since the
// cluster's start, in the order of the answers: all that concern PooledJobs,
// ClusterConnections and Jobs, writes of Pods and of Namespaces, reads of kube-system,
// and whatever else users asked for that are no part of the cluster. Watches, Leases,
// probes and discovery are left out, and requests that ended because the API server did.
// It needs Options.Audit.
func (c *Cluster) AuditEvents() ([]AuditEvent, error) {
	log, err := c.AuditLog()
	if err != nil {
		return nil, err
	}
	return log.Next()
}

// AuditLog reads what AuditEvents returns bit by bit.
type AuditLog struct {
	cluster *Cluster
	read    int64
}

// AuditLog begins to read at the cluster's start.
func (c *Cluster) AuditLog() (*AuditLog, error) {
	if !c.audit {
		return nil, fmt.Errorf("cluster %s was started without Options.Audit", c.name)
	}
	return &AuditLog{cluster: c}, nil
}

// Next returns what has come since the last call.
func (l *AuditLog) Next() ([]AuditEvent, error) {
	fail := func(err error) ([]AuditEvent, error) {
		return nil, fmt.Errorf("reading the audit log of cluster %s: %w", l.cluster.name, err)
	}
	file, err := os.Open(l.cluster.auditLog())
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	if _, err := file.Seek(l.read, io.SeekStart); err != nil {
		return fail(err)
	}
	var events []AuditEvent
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // what follows the last line end is being written
		}
		if err != nil {
			return fail(err)
		}
		var event AuditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return fail(err)
		}
		l.read += int64(len(line))
		events = append(events, event)
	}
}

func (c *Cluster) auditLog() string { return filepath.Join(c.dir, "audit.log") }

// configureAudit makes the API server write its audit log, if that is wanted. An event
// is written when its answer is complete, so it may come a moment after the answer.
func (c *Cluster) configureAudit() error {
	if !c.audit {
		return nil
	}
	policy := filepath.Join(c.dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, auditPolicy, 0o600); err != nil {
		return fmt.Errorf("writing the audit policy: %w", err)
	}
	c.plane.APIServer.Configure().
		Set("audit-policy-file", policy).
		Set("audit-log-path", c.auditLog()).
		Set("audit-log-mode", "blocking").
		Set("audit-log-maxsize", "100000")
	return nil
}
