package main

import (
	"context"
	"errors"
	"io"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// tableWatch prints a line for each run, and one more whenever what the line says has changed.
type tableWatch struct {
	hub     *cluster
	list    []client.ListOption
	options *listOptions
	names   []string
	wide    bool
	out     interface { // remembers how wide the columns are
		io.Writer
		Flush() error
	}

	printed map[types.UID][]any // the cells of the last line of each run
	begun   bool
}

// follow prints what was listed and then what changes, until the context ends. A hub that does not
// answer for a while is asked again.
func (t *tableWatch) follow(ctx context.Context, list *v1alpha1.PooledJobList) error {
	t.printed = map[types.UID][]any{}
	backoff := retries()
	for {
		err := t.print(list.Items)
		if err == nil {
			err = t.watch(ctx, list.ResourceVersion)
		}
		for {
			switch {
			case ctx.Err() != nil:
				return nil // it was interrupted, which is how it ends
			case err != nil && !mayPass(err):
				return err
			}
			if pause(ctx, &backoff) != nil {
				return nil
			}
			list = &v1alpha1.PooledJobList{}
			if err = t.hub.List(ctx, list, t.list...); err == nil {
				backoff = retries()
				break
			}
		}
	}
}

// watch prints changes for as long as the hub lets us.
func (t *tableWatch) watch(ctx context.Context, version string) error {
	options := append(slices.Clone(t.list), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}})
	events, err := t.hub.Watch(ctx, &v1alpha1.PooledJobList{}, options...)
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		if job, ok := event.Object.(*v1alpha1.PooledJob); ok && event.Type != watch.Deleted {
			if err := t.print([]v1alpha1.PooledJob{*job}); err != nil {
				return err
			}
		}
	}
	return nil
}

// print prints the lines of runs that have changed. One that is listed no more because it has ended
// gets a last line.
func (t *tableWatch) print(jobs []v1alpha1.PooledJob) error {
	table := jobTable(nil, t.options.all)
	for i := range jobs {
		job := &jobs[i]
		before, known := t.printed[job.UID]
		if !known && !t.options.shows(job, t.names) {
			continue
		}
		row := jobTable(jobs[i:i+1], t.options.all).Rows[0]
		if known && sameCells(before, row.Cells) {
			continue
		}
		t.printed[job.UID] = row.Cells
		table.Rows = append(table.Rows, row)
	}
	if len(table.Rows) == 0 {
		return nil
	}
	printer := printers.NewTablePrinter(printers.PrintOptions{Wide: t.wide, NoHeaders: t.options.noHeaders || t.begun})
	t.begun = true
	return errors.Join(printer.PrintObj(table, t.out), t.out.Flush())
}

// sameCells reports whether two lines say the same, but for the age.
func sameCells(a, b []any) bool {
	return slices.Equal(withoutAge(a), withoutAge(b))
}

func withoutAge(cells []any) []any {
	cells = slices.Clone(cells)
	cells[len(cells)-3] = "" // before the two columns of -o wide
	return cells
}
