package controllers

import (
	"context"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var _ = Describe("The log of the manager", func() {
	It("contains a line for the creation and the deletion of a Job, and for each phase", func(ctx context.Context) {
		var book logbook
		operator.stop()
		*operator = *startOperator(operator.scheme, book.logger())
		DeferCleanup(func() { operator.restart() })
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		finishDeletion(ctx, remote)
		Eventually(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())

		lines := slices.DeleteFunc(strings.Split(book.text(), "\n"), func(line string) bool { return !strings.Contains(line, job.Name) })
		about := func(message string, more ...string) []string {
			return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
				missing := func(part string) bool { return !strings.Contains(line, part) }
				return missing(`"msg"="`+message+`"`) || slices.ContainsFunc(more, missing)
			})
		}
		of := []string{remote.Name, string(remote.UID), w.name}
		Expect(about("Created the Job", of...)).To(HaveLen(1), "%s", lines)
		Expect(about("Asked for the Job's deletion", of...)).To(HaveLen(1), "%s", lines)
		Expect(about("The phase changed", `"to"="Succeeded"`)).To(HaveLen(1), "%s", lines)
	})
})
