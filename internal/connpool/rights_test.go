package connpool

import (
	"context"
	"errors"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const reviewsPath = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

var _ = Describe("A connection whose identity lacks rights", func() {
	It("names every missing right, and becomes Ready by itself once they are granted", func(ctx context.Context) {
		user, r := uniqueName("user"), newRig()
		grant(ctx, user, "", "namespaces", "get")
		grant(ctx, user, "batch", "jobs", "get", "list")
		r.pool.Connect(target, userConfig(user))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
		Expect(r.status().Err).To(MatchError(And(
			HavePrefix("missing rights: watch jobs.batch, create jobs.batch, patch jobs.batch, delete jobs.batch, "+
				"list pods, watch pods, delete pods in all namespaces. "),
			ContainSubstring(user), // the target's own words follow
		)))

		grant(ctx, user, "batch", "jobs", "watch", "create", "patch", "delete")
		Eventually(ctx, func() error { return r.status().Err }).Should(MatchError(HavePrefix("missing rights: list pods, watch pods, delete pods in all namespaces. ")))
		grant(ctx, user, "", "pods", "list", "watch", "delete")
		Eventually(ctx, r.transitions).Should(HaveExactElements(Forbidden, Forbidden, Ready), "nobody asked meanwhile")
		Expect(r.status().Err).NotTo(HaveOccurred())
		job := r.createJob(ctx)
		Eventually(ctx, r.inView(target, job)).Should(BeTrue())
	})

	It("names only the namespace in which rights are missing", func(ctx context.Context) {
		user, r := uniqueName("user"), newRig()
		open, closed := newNamespace(ctx), newNamespace(ctx)
		grant(ctx, user, "", "namespaces", "get")
		grantRun(ctx, user, open)
		grantInNamespace(ctx, user, closed, "", "pods", "list", "watch", "delete")
		config := userConfig(user)
		config.Namespaces = []string{open, closed}
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
		Expect(r.status().Err).To(MatchError(HavePrefix("missing rights: list jobs.batch, watch jobs.batch, get jobs.batch, create jobs.batch, " +
			"patch jobs.batch, delete jobs.batch in namespace \"" + closed + "\". ")))
		Expect(r.status().Err).NotTo(MatchError(ContainSubstring(open)))

		grantInNamespace(ctx, user, closed, "batch", "jobs", "get", "list", "watch", "create", "patch", "delete")
		Eventually(ctx, r.transitions).Should(HaveExactElements(Forbidden, Ready))
	})

	It("becomes Ready although it lacks rights that only calls need", func(ctx context.Context) {
		user, r := uniqueName("user"), newRig()
		grant(ctx, user, "", "namespaces", "get")
		grant(ctx, user, "batch", "jobs", "list", "watch")
		grant(ctx, user, "", "pods", "list", "watch")
		lease := r.connect(ctx, target, userConfig(user))
		_, _, err := lease.CreateJob(ctx, toCreate(r.newJob()))
		Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("becomes Forbidden when a watch is denied later, even if access reviews are not answered", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.WatchRenewal = 1200 * time.Millisecond })
		r.connect(ctx, target, s.config("token"))
		s.answer(reviewsPath, func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() })
		s.answer(podsPath, answerError(apierrors.NewForbidden(corev1.Resource("pods"), "", nil)))
		Eventually(ctx, r.stateOf(target)).WithTimeout(8 * time.Second).Should(Equal(Forbidden))
		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError(ContainSubstring("pods is forbidden")))
	})

	It("becomes Forbidden when a right is withdrawn, and Ready when it is given back", func(ctx context.Context) {
		user := uniqueName("user")
		// The API server goes on serving a watch whose right was taken away; the
		// next one is denied.
		r := newRig(func(o *Options) { o.WatchRenewal = 1200 * time.Millisecond })
		grant(ctx, user, "", "namespaces", "get")
		grant(ctx, user, "batch", "jobs", "get", "list", "watch", "create", "patch", "delete")
		grant(ctx, user, "", "pods", "list", "watch", "delete")
		lease := r.connect(ctx, target, userConfig(user))
		revokeOf(ctx, user, "pods")
		Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
		Expect(r.status().Err).To(MatchError(HavePrefix("missing rights: list pods, watch pods, delete pods in all namespaces. ")))
		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError(ContainSubstring("connection target is Forbidden: missing rights: ")))
		_, err = lease.Pods(metav1.NamespaceDefault)
		Expect(err).To(MatchError(ErrClosed), "a view without a watch still answers")

		job := r.createJob(ctx)
		grant(ctx, user, "", "pods", "list", "watch", "delete")
		Eventually(ctx, r.transitions).Should(HaveExactElements(Ready, Forbidden, Ready))
		Eventually(ctx, r.inView(target, job)).Should(BeTrue())
	})
})

var _ = Describe("An identity that may see two namespaces only", func() {
	var (
		user, first, second string
		r                   *rig
	)
	BeforeEach(func(ctx context.Context) {
		user, r = uniqueName("user"), newRig()
		first, second = newNamespace(ctx), newNamespace(ctx)
		grant(ctx, user, "", "namespaces", "get")
		grantRun(ctx, user, first)
		grantRun(ctx, user, second)
	})
	of := func(namespaces ...string) Config {
		config := userConfig(user)
		config.Namespaces = namespaces
		return config
	}

	It("makes the connection Ready when the connection is restricted to these namespaces", func(ctx context.Context) {
		before := r.createJob(ctx, inNamespace(first))
		lease := r.connect(ctx, target, of(first, second))
		Expect(lease.Job(first, before.Name)).To(HaveField("UID", before.UID), "it was there from the start")
		for _, namespace := range []string{first, second} {
			created, _, err := lease.CreateJob(ctx, toCreate(r.newJobIn(namespace)))
			Expect(err).NotTo(HaveOccurred())
			Eventually(ctx, r.inView(target, created)).Should(BeTrue())
			pod := r.createPodIn(ctx, namespace, created.Name)
			Eventually(ctx, keyed(lease, created.Name).Pods).WithArguments(namespace).Should(HaveExactElements(HaveField("UID", pod.UID)))
			Expect(lease.DeleteJob(ctx, namespace, created.Name, created.UID, "")).To(Succeed())
		}
		elsewhere := r.createJob(ctx)
		_, err := lease.Job(elsewhere.Namespace, elsewhere.Name)
		Expect(err).To(MatchError(ErrNotWatched), "absence must not be read from this")
		_, err = lease.Pods(elsewhere.Namespace)
		Expect(err).To(MatchError(ErrNotWatched))
		Expect(r.changesOf(elsewhere.Name)()).To(BeZero())
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("makes the connection Forbidden with the missing rights when no namespaces are configured", func(ctx context.Context) {
		r.pool.Connect(target, of())
		Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
		Expect(r.status().Err).To(MatchError(HavePrefix("missing rights: list jobs.batch, watch jobs.batch, get jobs.batch, create jobs.batch, " +
			"patch jobs.batch, delete jobs.batch, list pods, watch pods, delete pods in all namespaces. ")))

		r.pool.Connect(target, of(first, second))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
	})
})

var _ = Describe("A connection whose namespaces change", func() {
	It("keeps the views of the other namespaces, and the same TCP connection", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		kept, other := newNamespace(ctx), newNamespace(ctx)
		watching := func(namespaces ...string) Config {
			config := adminConfig(p)
			config.Namespaces = namespaces
			return config
		}
		lease := r.connect(ctx, target, watching(kept))
		undisturbed := func() {
			GinkgoHelper()
			now := r.lease(target)
			Expect(now.session).To(BeIdenticalTo(lease.session), "it was connected anew")
			Expect(now.views[kept]).To(BeIdenticalTo(lease.views[kept]), "the view was made anew")
			job := r.createJob(ctx, inNamespace(kept))
			Eventually(ctx, lease.Job).WithArguments(kept, job.Name).ShouldNot(BeNil())
			Expect(p.dialled()).To(Equal(1))
		}
		watches := lease.session.entry.watches.Load
		Expect(watches()).To(BeEquivalentTo(2))

		r.pool.Connect(target, watching(kept, other))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Expect(watches()).To(BeEquivalentTo(4))
		undisturbed()
		job := r.createJob(ctx, inNamespace(other))
		Eventually(ctx, r.inView(target, job)).Should(BeTrue())
		both := r.lease(target)

		r.pool.Connect(target, watching(kept))
		Expect(r.stateOf(target)()).To(Equal(Ready), "one less to wait for")
		undisturbed()
		_, err := r.lease(target).Job(other, job.Name)
		Expect(err).To(MatchError(ErrNotWatched))
		_, err = both.Job(other, job.Name)
		Expect(err).To(MatchError(ErrClosed), "a view that is no longer watched still answers")
		Eventually(ctx, watches).Should(BeEquivalentTo(2))
		Expect(r.transitions()).NotTo(ContainElement(BeElementOf(Unreachable, Stale, Forbidden)))
	})

	It("becomes Forbidden for a namespace without rights, while the views of others continue", func(ctx context.Context) {
		user, r := uniqueName("user"), newRig()
		open, closed := newNamespace(ctx), newNamespace(ctx)
		grant(ctx, user, "", "namespaces", "get")
		grantRun(ctx, user, open)
		config := userConfig(user)
		config.Namespaces = []string{open}
		lease := r.connect(ctx, target, config)
		config.Namespaces = []string{open, closed}
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
		Expect(r.status().Err).To(MatchError(ContainSubstring("in namespace %q", closed)))
		job := r.createJob(ctx, inNamespace(open))
		Eventually(ctx, lease.Job).WithArguments(open, job.Name).ShouldNot(BeNil())

		config.Namespaces = []string{open}
		r.pool.Connect(target, config)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Expect(r.lease(target).views[open]).To(BeIdenticalTo(lease.views[open]))
	})
})

var _ = Describe("A connection whose target does not say which rights are missing", func() {
	denial := apierrors.NewForbidden(batchJobs, "", errors.New("says the target"))
	DescribeTable("becomes Forbidden with the target's own message for the denial",
		func(ctx context.Context, answer http.HandlerFunc) {
			s := newAPIServer()
			s.answer(jobsPath, answerError(denial))
			s.answer(reviewsPath, answer)
			r := newRig(func(o *Options) { o.RequestTimeout = 300 * time.Millisecond })
			r.pool.Connect(target, s.config("token"))
			Eventually(ctx, r.stateOf(target)).Should(Equal(Forbidden))
			Expect(r.status().Err).To(MatchError(And(HaveSuffix(denial.Error()), Not(ContainSubstring("missing rights")))))
			Expect(s.asked(reviewsPath)).NotTo(BeEmpty())
			Consistently(ctx, r.transitions).Should(Equal([]State{Forbidden}))

			s.answer(jobsPath, answerNone(&batchv1.Job{}, &batchv1.JobList{}))
			Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		},
		Entry("when reviews are denied", answerError(apierrors.NewForbidden(batchJobs, "", errors.New("no reviews for you")))),
		Entry("when reviews fail", answerError(apierrors.NewInternalError(errors.New("no webhook")))),
		Entry("when a proxy answers", answerPage(http.StatusBadGateway)),
		Entry("when reviews are not answered", http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })),
		Entry("when everything is said to be allowed", answerCode(http.StatusCreated, &authorizationv1.SelfSubjectAccessReview{
			Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true},
		})),
	)
})

var _ = Describe("An ordinary call that is answered 401", func() {
	never := func(o *Options) { o.ProbeInterval, o.MinBackoff, o.MaxBackoff = time.Hour, time.Hour, time.Hour }

	It("makes the connection Rejected when the immediate probe is answered 401 too", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(never)
		lease := r.connect(ctx, target, s.config("token"))
		s.answer(jobPath, answerError(apierrors.NewUnauthorized("no more")))
		s.answer(readyPath, answerError(apierrors.NewUnauthorized("no more")))
		_, err := lease.GetJob(ctx, "default", "job")
		Expect(apierrors.IsUnauthorized(err)).To(BeTrue(), "%v", err)
		Eventually(ctx, r.stateOf(target)).Should(Equal(Rejected))
		Expect(r.status().Err).To(MatchError(ContainSubstring("no more")))
		Expect(r.transitions()).To(Equal([]State{Ready, Rejected}))
		expectClosed(ctx, lease)
	})

	It("leaves the connection Ready when the immediate probe succeeds", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(never)
		lease := r.connect(ctx, target, s.config("token"))
		probes := len(s.asked(readyPath))
		s.answer(jobPath, answerError(apierrors.NewUnauthorized("says a webhook")))
		_, err := lease.GetJob(ctx, "default", "job")
		Expect(apierrors.IsUnauthorized(err)).To(BeTrue(), "%v", err)
		Eventually(ctx, func() []request { return s.asked(readyPath) }).Should(HaveLen(probes + 1))
		Consistently(ctx, r.transitions).Should(Equal([]State{Ready}))
		Expect(lease.ReadClusterUID(ctx)).To(Equal("fake"))
	})
})

// newNamespace makes a namespace.
func newNamespace(ctx context.Context) string {
	name := uniqueName("namespace")
	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return name
}

// grantInNamespace gives the user a right in one namespace.
func grantInNamespace(ctx context.Context, user, namespace, group, resource string, verbs ...string) {
	name := uniqueName(user)
	_, err := client.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}},
	}, metav1.CreateOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	_, err = client.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
}

// grantRun gives the user all that runs need in one namespace.
func grantRun(ctx context.Context, user, namespace string) {
	grantInNamespace(ctx, user, namespace, "batch", "jobs", "get", "list", "watch", "create", "patch", "delete")
	grantInNamespace(ctx, user, namespace, "", "pods", "list", "watch", "delete")
}

// revokeOf takes away what grant gave the user of a resource.
func revokeOf(ctx context.Context, user, resource string) {
	GinkgoHelper()
	bindings, err := client.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	Expect(err).NotTo(HaveOccurred())
	for i := range bindings.Items {
		b := &bindings.Items[i]
		if len(b.Subjects) == 0 || b.Subjects[0].Name != user {
			continue
		}
		role, err := client.RbacV1().ClusterRoles().Get(ctx, b.RoleRef.Name, metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())
		if role.Rules[0].Resources[0] == resource {
			Expect(client.RbacV1().ClusterRoleBindings().Delete(ctx, b.Name, metav1.DeleteOptions{})).To(Succeed())
		}
	}
}

// inNamespace puts a Job into a namespace.
func inNamespace(namespace string) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Namespace = namespace }
}

func (r *rig) newJobIn(namespace string) *batchv1.Job {
	job := r.newJob()
	inNamespace(namespace)(job)
	return job
}

// createPodIn creates a Pod with the key in a namespace.
func (r *rig) createPodIn(ctx context.Context, namespace, key string) *corev1.Pod {
	pod, err := client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: uniqueName("pod"), Labels: map[string]string{runLabel: r.run, keyLabel: key}},
		Spec:       podSpec(),
	}, metav1.CreateOptions{})
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return pod
}
