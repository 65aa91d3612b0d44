package localcluster

import (
	"encoding/json"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testAudit(t *testing.T, audited, other *Cluster) {
	g := NewWithT(t)
	_, err := other.AuditEvents()
	g.Expect(err).To(MatchError(ContainSubstring("Options.Audit")))

	log, err := audited.AuditLog()
	g.Expect(err).NotTo(HaveOccurred())
	_, err = log.Next()
	g.Expect(err).NotTo(HaveOccurred())

	client := clientOf(t, audited)
	job, err := client.BatchV1().Jobs(namespace).Create(t.Context(), newJob("audited", nil), metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = client.BatchV1().Jobs(namespace).Create(t.Context(), newJob("audited", nil), metav1.CreateOptions{})
	g.Expect(err).To(HaveOccurred())
	_, err = client.CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "audited"}}
	_, err = client.CoreV1().Secrets(namespace).Create(t.Context(), secret, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	stranger := clientAs(t, audited, "stranger")
	_, err = stranger.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	g.Expect(err).To(MatchError(apierrors.IsForbidden, "IsForbidden"))
	event := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "audited"}}
	_, err = stranger.EventsV1().Events(namespace).Create(t.Context(), event, metav1.CreateOptions{})
	g.Expect(err).To(MatchError(apierrors.IsForbidden, "IsForbidden"))

	request := func(verb, resource, name string, code int) gtypes.GomegaMatcher {
		return And(HaveField("Verb", verb), HaveField("ObjectRef.Resource", resource), HaveField("ObjectRef.Name", name),
			HaveField("ResponseStatus.Code", code), HaveField("User.Username", "admin"),
			HaveField("Received", BeTemporally("~", time.Now(), time.Minute)))
	}
	var events []AuditEvent
	g.Eventually(func() []AuditEvent {
		events, err = audited.AuditEvents()
		g.Expect(err).NotTo(HaveOccurred())
		return events
	}).Should(ContainElements(request("create", "jobs", "audited", 201), request("create", "jobs", "audited", 409), request("get", "namespaces", "kube-system", 200),
		And(HaveField("User.Username", "stranger"), HaveField("Verb", "list"), HaveField("ObjectRef.Resource", "nodes")),
		And(HaveField("User.Username", "stranger"), HaveField("Verb", "create"), HaveField("ObjectRef.Resource", "events"))))
	g.Expect(events).NotTo(ContainElement(And(HaveField("ObjectRef.Resource", "nodes"), HaveField("User.Username", "admin"))))
	g.Expect(events).NotTo(ContainElement(HaveField("ObjectRef.Resource", "secrets")))
	later, err := log.Next()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(later).To(ContainElement(request("create", "jobs", "audited", 201)))
	g.Expect(len(later)).To(BeNumerically("<=", len(events)))
	g.Expect(log.Next()).NotTo(ContainElement(request("create", "jobs", "audited", 201)))
	for _, event := range events {
		if event.ObjectRef.Name == "audited" && event.ResponseStatus.Code == 201 {
			var created metav1.PartialObjectMetadata
			g.Expect(json.Unmarshal(event.ResponseObject, &created)).To(Succeed())
			g.Expect(created.UID).To(Equal(job.UID))
			g.Expect(event.String()).To(HaveSuffix("admin create jobs " + namespace + "/audited: 201"))
		}
	}
}
