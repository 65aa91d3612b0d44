package connpool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/pause"
	"github.com/pooledjob/pooledjob/internal/connpool/store"
	"github.com/pooledjob/pooledjob/internal/connpool/transport"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// informers are the two of a view.
type informers struct {
	options Options
	schemas [store.Kinds]*prune.Schema
	ctx     context.Context // done when they are to end
	budget  *budget.Budget  // of the connection
	store   *store.Store
	jobs    *informer
	pods    *informer
	failed  func(error)           // is called with what keeps one from its list or watch
	trouble atomic.Pointer[error] // that one had last
	watches *atomic.Int64         // open ones
	news    *runNews
}

// newInformers makes the informers of a view. A right that is missing, and an answer that is too
// large, end them, by denied; any other trouble of a watch is the reflector's to mend and the probe's to
// judge.
func newInformers(ctx context.Context, v *view, denied context.CancelCauseFunc) *informers {
	i := &informers{
		options: v.session.options, schemas: v.session.schemas, ctx: ctx, budget: v.session.entry.budget, store: store.New(v.session.entry.pool.labels, v.session.entry.budget), watches: &v.session.entry.watches,
	}
	i.news = newRunNews(ctx, i.options.OnChange, v.session.entry.looks)
	i.failed = func(err error) {
		v.session.unauthorized(err)
		i.trouble.Store(&err)
		if isForbidden(err) || ExceedsLimit(err) {
			denied(err)
		}
	}
	transport := v.session.transport
	i.budget.Hold(i, i.failed)
	i.jobs = i.informer(store.KindJob, func() *rest.Request {
		return transport.Batch.RESTClient().Get().Namespace(v.scope).Resource("jobs")
	})
	i.pods = i.informer(store.KindPod, func() *rest.Request {
		return transport.Core.RESTClient().Get().Namespace(v.scope).Resource("pods")
	})
	return i
}

// run runs both informers until their context is done.
func (i *informers) run() {
	var other sync.WaitGroup
	other.Go(i.jobs.run)
	i.pods.run()
	other.Wait()
	i.jobs.pending.Close()
	i.pods.pending.Close()
	i.store.Close()
	i.budget.Release(i)
}

// whyNotSynced is what is known of why the first list takes long.
func (i *informers) whyNotSynced() error {
	if trouble := i.trouble.Load(); trouble != nil {
		return fmt.Errorf("%w: %w", errSlowList, *trouble)
	}
	return errSlowList
}

// lastWords returns when the more silent of the two watches last said something.
func (i *informers) lastWords() int64 { return min(i.jobs.heard.Load(), i.pods.heard.Load()) }

// informer keeps the objects of one kind in a store as the target has them.
type informer struct {
	pair      *informers
	kind      store.Kind
	ask       func() *rest.Request // for all of its objects
	reflector *cache.Reflector
	synced    chan struct{}    // closed after the first list
	pending   *budget.Pending  // what it has brought that the store does not have yet
	opened    watch.Interface  // the watch that the reflector opened last
	guard     *transport.Guard // of that watch
	// heard is when its watch last said something, Unix nanoseconds.
	heard atomic.Int64
	// current is since when the store follows a watch, Unix nanoseconds; 0 while none is open, or the open
	// one has not sent its first events, which initial says that it begins with.
	current atomic.Int64
	initial bool
}

// lateAt returns when the store last did not follow a watch: now if it does not.
func (i *informer) lateAt() time.Time {
	if at := i.current.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Now()
}

func (i *informers) informer(k store.Kind, ask func() *rest.Request) *informer {
	made := &informer{pair: i, kind: k, ask: ask, synced: make(chan struct{}), pending: budget.NewPending(i.budget)}
	made.reflector = cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: made.list, WatchFuncWithContext: made.watch,
	}, k.NewObject(), made, cache.ReflectorOptions{Name: "connpool"})
	return made
}

// run lists and watches until the context is done. What a reflector cannot go on from it
// is made to begin anew for, after a while.
func (i *informer) run() {
	attempts := pause.Attempts{Shortest: i.pair.options.MinBackoff, Longest: i.pair.options.MaxBackoff}
	for {
		attempts.Begin()
		err := i.reflector.ListAndWatchWithContext(i.pair.ctx)
		i.stopWatch()
		if err != nil {
			i.pair.failed(err)
		}
		if !pause.For(i.pair.ctx, attempts.Pause()) {
			return
		}
	}
}

func (i *informer) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, i.pair.options.SyncTimeout)
	defer cancel()
	o.LabelSelector = i.pair.options.Selector
	if o.Continue == "" {
		i.pending.Clear()
		i.initial = false
	}
	i.pending.Add(pageCost)
	if err := i.pair.budget.Check(); err != nil {
		return nil, err
	}
	listed := &metav1.List{}
	meta, err := transport.ReadList(transport.ViewRead(ctx), i.ask().VersionedParams(&o, metav1.ParameterCodec), i.schema(), func(kept prune.Kept) error {
		obj, err := i.decode(kept)
		if err != nil {
			return err
		}
		r, err := i.gather(obj)
		listed.Items = append(listed.Items, runtime.RawExtension{Object: r})
		return err
	})
	if err != nil {
		return nil, err
	}
	listed.ListMeta = meta
	i.heard.Store(time.Now().UnixNano())
	return listed, nil
}

func (i *informer) schema() *prune.Schema { return i.pair.schemas[i.kind] }

func (i *informer) decode(kept prune.Kept) (runtime.Object, error) {
	obj := i.kind.NewObject()
	return obj, obj.Unmarshal(kept.Message)
}

// watch opens a watch. A request for one that is never answered would hold the
// reflector for ever.
func (i *informer) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	i.stopWatch()
	ctx, cancel := context.WithCancel(ctx)
	impatient := time.AfterFunc(min(i.pair.options.RequestTimeout, i.pair.options.WatchRenewal), cancel)
	defer impatient.Stop()
	g := &transport.Guard{Cancel: cancel, Renewal: i.pair.options.WatchRenewal, Heard: &i.heard, Open: i.pair.watches, Closed: func() { i.current.Store(0) }}
	o.LabelSelector, o.Watch = i.pair.options.Selector, true
	i.pending.Clear()
	opened, err := transport.ReadWatch(transport.Guarded(ctx, g), i.ask().VersionedParams(&o, metav1.ParameterCodec),
		&transport.Events{Schema: i.schema(), Unpack: i.decode, Told: g.Told, Failed: i.pair.failed})
	if err != nil {
		_ = g.Close() // else it is closed by the end of the watch
		return nil, err
	}
	i.opened, i.guard, i.initial = opened, g, o.SendInitialEvents != nil
	if !i.initial {
		i.current.Store(time.Now().UnixNano())
	}
	return opened, nil
}

// stopWatch stops the watch that was opened last, if its reflector has not. It does not stop one whose first
// events its store has refused, and nobody reads that one any more; and one that was cut before it was
// granted is stopped by nobody else.
func (i *informer) stopWatch() {
	if i.opened != nil {
		i.opened.Stop()
		_ = i.guard.Close()
		i.opened, i.guard = nil, nil
	}
}

// An informer is the store of its reflector.
var _ cache.TransformingStore = &informer{}

// Transformer implements cache.TransformingStore: what a reflector gathers before it has
// all is packed as well.
func (i *informer) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		r, err := i.gather(obj)
		if ExceedsLimit(err) {
			i.pair.failed(err)
		}
		return r, err
	}
}

// gather makes the record of an object in a list, if there is room for it.
func (i *informer) gather(obj any) (*store.Record, error) {
	r, err := i.pair.store.Record(obj)
	if err != nil {
		return nil, err
	}
	r, isNew := i.pair.store.Known(i.kind, r)
	if isNew {
		i.pending.Add(r.Size())
	}
	i.pending.Add(store.ItemCost)
	return r, i.pair.budget.Check()
}

// pageCost is what a page of a list counts at least, in bytes, whatever is in it: else one without an end
// would cost nothing.
const pageCost = 16 << 10

// Add implements cache.ReflectorStore.
func (i *informer) Add(obj any) error { return i.change(i.pair.store.Put, obj) }

// Update implements cache.ReflectorStore.
func (i *informer) Update(obj any) error { return i.change(i.pair.store.Put, obj) }

// Delete implements cache.ReflectorStore.
func (i *informer) Delete(obj any) error { return i.change(i.pair.store.Remove, obj) }

func (i *informer) change(apply func(store.Kind, *store.Record) []string, obj any) error {
	r, err := i.pair.store.Record(obj)
	if err != nil {
		return err
	}
	changed := apply(i.kind, r)
	if err := i.checkSize(); err != nil {
		return err // what is too much is not to be looked at
	}
	i.notifyRuns(changed)
	return nil
}

// checkSize ends the view when the store has become too large.
func (i *informer) checkSize() error {
	err := i.pair.budget.Check()
	if err != nil {
		i.pair.failed(err)
	}
	return err
}

// Replace implements cache.ReflectorStore. The first list is no news of single runs: the view
// becomes Ready after it, and that is.
func (i *informer) Replace(list []any, _ string) error {
	records := make([]*store.Record, 0, len(list))
	for _, obj := range list {
		r, err := i.pair.store.Record(obj)
		if err != nil {
			return err
		}
		records = append(records, r)
	}
	changed := i.pair.store.Replace(i.kind, records)
	i.pending.Clear()
	if i.initial {
		i.current.Store(time.Now().UnixNano())
	}
	if err := i.checkSize(); err != nil {
		return err
	}
	select {
	case <-i.synced:
		i.notifyRuns(changed)
	default:
		close(i.synced)
	}
	return nil
}

// Resync implements cache.ReflectorStore. It is never called for.
func (*informer) Resync() error { return nil }

func (i *informer) notifyRuns(changed []string) {
	for _, key := range changed {
		if key != "" {
			i.pair.news.notify(key, i.pair.store.SizeOf(key))
		}
	}
}
