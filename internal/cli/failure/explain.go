package failure

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// explained is an error that says what to do already.
type explained struct {
	text string
	err  error
}

func (e explained) Error() string { return e.text }
func (e explained) Unwrap() error { return e.err }

// Advisef puts an error into a sentence that says what to do about it.
func Advisef(err error, format string, args ...any) error {
	return explained{fmt.Sprintf(format, args...), err}
}

// Explain puts an error of the API, of the network or of the kubeconfig into a
// sentence that says what to do.
func Explain(err error) error {
	var status apierrors.APIStatus
	var network *url.Error
	var done explained
	switch {
	case errors.As(err, &done):
		return err
	case errors.As(err, &status):
		return explainStatus(err, status.Status())
	case clientcmd.IsEmptyConfig(err):
		return errors.New("there is no kubeconfig: set KUBECONFIG, or give --kubeconfig")
	case errors.As(err, &network):
		return Advisef(err, "%v; check that the cluster is up and that --context and --kubeconfig name the right one", err)
	}
	return err
}

func explainStatus(err error, status metav1.Status) error {
	switch {
	case apierrors.IsUnauthorized(err):
		return Advisef(err, "the cluster does not accept your credentials (%v): renew them in your kubeconfig", err)
	case apierrors.IsForbidden(err) && strings.Contains(status.Message, " cannot "):
		return Advisef(err, "%v; ask who runs the cluster for that right (on a hub the role edit has what runs need, view what reading needs)", err)
	case IsMissingAPI(err):
		return Advisef(err, "the cluster does not know PooledJobs (%v): install PooledJob there, or name the hub by --context", err)
	case isNotFoundOf(err, status, "pooledjob"):
		return Advisef(err, "there is no PooledJob %q in this namespace; see `kubectl pooledjob list -A`, and give the namespace with -n", status.Details.Name)
	case isNotFoundOf(err, status, "clusterconnection"):
		return Advisef(err, "there is no ClusterConnection %q; see `kubectl pooledjob clusters`", status.Details.Name)
	}
	return err
}

// isNotFoundOf reports whether one of our objects does not exist. The log API has 404s of
// its own, about Pods and containers of runs that do exist; they speak for themselves.
func isNotFoundOf(err error, status metav1.Status, kind string) bool {
	return apierrors.IsNotFound(err) && status.Details != nil &&
		status.Details.Group == v1alpha1.GroupVersion.Group && strings.HasPrefix(status.Details.Kind, kind)
}

// IsMissingAPI reports whether a 404 means that the server does not have the resource at
// all, and not that an object does not exist.
func IsMissingAPI(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
