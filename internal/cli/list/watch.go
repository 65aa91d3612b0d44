package list

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/failure"
)

// tableWatch prints a line for each run, and one more whenever what the line says has changed.
type tableWatch struct {
	hub       *cluster.Client
	selection []client.ListOption
	options   *listOptions
	names     []string
	wide      bool
	out       interface { // a tab writer, which remembers how wide the columns are
		io.Writer
		Flush() error
	}
	// onSilence is called once when the hub does not answer, with the error.
	onSilence func(error)

	printed  map[types.UID][]any // the cells of the last line of each run
	begun    bool
	refusals failure.Refusals
}

// outputError is an error of the output, which ends the watch.
type outputError struct{ error }

// follow prints what was listed and then what changes, until the context ends. A hub that does not
// answer for a while is asked again.
func (t *tableWatch) follow(ctx context.Context, list *v1alpha1.PooledJobList) error {
	t.printed = map[types.UID][]any{}
	backoff, silenceTold := failure.NewBackoff(), false
	for {
		err := t.printAndWatch(ctx, list)
		list = nil // it is read again
		var unwritten outputError
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was interrupted, which is how it ends
		case err == nil: // the watch has expired
			backoff, silenceTold = failure.NewBackoff(), false
		case errors.As(err, &unwritten) || !t.refusals.MayTryAgain(err):
			return err
		case !silenceTold:
			silenceTold = true
			t.onSilence(err)
		}
		if failure.Pause(ctx, &backoff) != nil {
			return nil
		}
	}
}

// printAndWatch prints what is listed, and changes of it for as long as the hub lets us.
func (t *tableWatch) printAndWatch(ctx context.Context, list *v1alpha1.PooledJobList) error {
	if list == nil {
		list = &v1alpha1.PooledJobList{}
		if err := t.hub.List(ctx, list, t.selection...); err != nil {
			return err
		}
	}
	t.forgetAllBut(list.Items)
	if err := t.print(list.Items); err != nil {
		return err
	}
	options := append(slices.Clone(t.selection), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	events, err := t.hub.Watch(ctx, &v1alpha1.PooledJobList{}, options...)
	if err != nil {
		return err
	}
	defer events.Stop()
	t.refusals = 0
	for event := range events.ResultChan() {
		job, ok := event.Object.(*v1alpha1.PooledJob)
		switch {
		case event.Type == watch.Error:
			return apierrors.FromObject(event.Object)
		case !ok:
		case event.Type == watch.Deleted:
			delete(t.printed, job.UID)
		default:
			if err := t.print([]v1alpha1.PooledJob{*job}); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetAllBut drops what is known of runs that are not there any more.
func (t *tableWatch) forgetAllBut(jobs []v1alpha1.PooledJob) {
	listed := map[types.UID]bool{}
	for i := range jobs {
		listed[jobs[i].UID] = true
	}
	maps.DeleteFunc(t.printed, func(uid types.UID, _ []any) bool { return !listed[uid] })
}

// print prints the lines of runs that have changed. One that is listed no more because it has ended
// gets a last line.
func (t *tableWatch) print(jobs []v1alpha1.PooledJob) error {
	table, changed := jobTable(nil, t.options.all), map[types.UID][]any{}
	for i := range jobs {
		job := &jobs[i]
		before, known := t.printed[job.UID]
		if !known && !t.options.includes(job, t.names) {
			continue
		}
		row := jobTable(jobs[i:i+1], t.options.all).Rows[0]
		cells := t.comparedCells(row.Cells)
		if known && slices.Equal(before, cells) {
			continue
		}
		changed[job.UID] = cells
		table.Rows = append(table.Rows, row)
	}
	if len(table.Rows) == 0 {
		return nil
	}
	printer := printers.NewTablePrinter(printers.PrintOptions{Wide: t.wide, NoHeaders: t.options.noHeaders || t.begun})
	if err := errors.Join(printer.PrintObj(table, t.out), t.out.Flush()); err != nil {
		return outputError{err}
	}
	t.begun = true
	maps.Copy(t.printed, changed)
	return nil
}

// comparedCells returns the cells of a line by which it differs from another: those of -o wide, which
// come last, only if they are printed, and not the age before them.
func (t *tableWatch) comparedCells(cells []any) []any {
	const wideColumns = 2
	compared := slices.Clone(cells[:len(cells)-wideColumns-1])
	if t.wide {
		compared = append(compared, cells[len(cells)-wideColumns:]...)
	}
	return compared
}
