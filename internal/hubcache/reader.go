package hubcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

const (
	resource = "pooledjobs"
	// maxObject bounds a PooledJob in an answer, in bytes. etcd takes requests of 1.5 MiB; of
	// what is stored an answer can have more, such as escaped characters.
	maxObject = 16 << 20
	// pageSize is how many PooledJobs a request for a list asks for.
	pageSize = 500
	// maxReading is how many single PooledJobs are read at once, and getTimeout bounds each.
	maxReading = 8
	getTimeout = 10 * time.Second
)

// Reader reads PooledJobs from the hub's API server itself.
type Reader struct {
	api       rest.Interface // of the API group
	codec     runtime.ParameterCodec
	waits     func(*v1alpha1.PooledJob) bool // for their Jobs, and templates are to be kept
	reading   *semaphore.Weighted
	templates *templates
}

// NewReader returns a Reader for a hub. If dispatches is true, Jobs are created here, so that the templates
// of PooledJobs that wait for theirs are kept.
func NewReader(config *rest.Config, scheme *runtime.Scheme, dispatches bool) (*Reader, error) {
	waits := func(job *v1alpha1.PooledJob) bool {
		return dispatches && job.Status.JobRef.UID == "" && !jobstatus.Finished(&job.Status)
	}
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/apis", &v1alpha1.GroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion() // for errors
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	config.AcceptContentTypes, config.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	api, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client for PooledJobs: %w", err)
	}
	return &Reader{api: api, codec: runtime.NewParameterCodec(scheme), waits: waits, reading: semaphore.NewWeighted(maxReading), templates: newTemplates()}, nil
}

// Get reads a PooledJob without its template.
func (r *Reader) Get(ctx context.Context, name types.NamespacedName) (*v1alpha1.PooledJob, error) {
	var job *v1alpha1.PooledJob
	err := r.get(ctx, name, func(data []byte) (err error) {
		job, _, err = decode(data)
		return err
	})
	return job, err
}

// get reads a PooledJob and hands it to use. Each takes some MiB for a moment, so not many are
// read at once.
func (r *Reader) get(ctx context.Context, name types.NamespacedName, use func(data []byte) error) error {
	if err := r.reading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for others that read PooledJobs: %w", err)
	}
	defer r.reading.Release(1)
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	answer, err := stream(ctx, func() *rest.Request {
		return r.api.Get().Namespace(name.Namespace).Resource(resource).Name(name.Name)
	})
	if err != nil {
		return err
	}
	defer answer.Close()
	data, err := io.ReadAll(io.LimitReader(answer, maxObject))
	if err != nil {
		return fmt.Errorf("reading a PooledJob: %w", err)
	}
	return use(data)
}

// stream sends a request that reads, once more if its connection was lost: the API server has
// closed it.
func stream(ctx context.Context, request func() *rest.Request) (io.ReadCloser, error) {
	answer, err := request().Stream(ctx)
	if isLost(err) {
		answer, err = request().Stream(ctx)
	}
	return answer, err
}

func isLost(err error) bool {
	return err != nil && (utilnet.IsProbableEOF(err) || utilnet.IsConnectionReset(err) || utilnet.IsHTTP2ConnectionLost(err))
}

// TemplateBytes returns how many bytes the templates take that are kept.
func (r *Reader) TemplateBytes() int { return r.templates.bytes() }

// Size returns how many bytes of JSON a PooledJob takes.
func (r *Reader) Size(ctx context.Context, job *v1alpha1.PooledJob) (size int, err error) {
	if known := r.templates.sizeOf(job.UID); known > 0 {
		return known, nil
	}
	err = r.get(ctx, client.ObjectKeyFromObject(job), func(data []byte) error {
		size = len(data)
		return nil
	})
	return size, err
}

// ErrOutdated is the error of Template for a PooledJob that has changed on the hub.
var ErrOutdated = errors.New("the PooledJob has changed")

// ErrBusy is the error of Template when too many large ones are in use.
var ErrBusy = errors.New("too many large templates are in use")

// Template returns the JSON of the template of a PooledJob, which must not be changed. release must be
// called when it is not used any more. One that is not kept is read from the hub, a large one only
// when there is room for it.
func (r *Reader) Template(ctx context.Context, job *v1alpha1.PooledJob) (template []byte, release func(), err error) {
	if kept := r.templates.kept(job.UID); kept != nil {
		return kept, func() {}, nil
	}
	known := r.templates.sizeOf(job.UID)
	release, ok := r.templates.reserve(job.Namespace, known)
	if !ok {
		return nil, nil, ErrBusy
	}
	err = r.get(ctx, client.ObjectKeyFromObject(job), func(data []byte) error {
		live, read, err := decode(data)
		switch {
		case err != nil:
			return err
		case live.UID != job.UID || live.ResourceVersion != job.ResourceVersion:
			return ErrOutdated
		}
		template = read
		if len(read) > maxKeptTemplate && known <= maxKeptTemplate { // its size was not known
			release, ok = r.templates.reserve(job.Namespace, len(data))
		}
		if !ok {
			return ErrBusy
		}
		return nil
	})
	if err != nil {
		if release != nil {
			release()
		}
		return nil, nil, err
	}
	return template, release, nil
}

// Patch sends a merge patch for a PooledJob, or for a subresource of it, and returns what of its
// metadata says something to the manager.
func (r *Reader) Patch(ctx context.Context, before *metav1.ObjectMeta, patch []byte, subresources ...string) (*metav1.ObjectMeta, error) {
	if len(before.Finalizers) > MaxFinalizers && len(subresources) == 0 {
		return nil, ErrTooManyFinalizers
	}
	answer, err := r.api.Patch(types.MergePatchType).Namespace(before.Namespace).Resource(resource).Name(before.Name).
		SubResource(subresources...).SetHeader("Accept", onlyMetadata).Body(patch).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	meta, err := readMetadata(io.LimitReader(answer, maxObject))
	_, _ = io.Copy(io.Discard, answer) // else the connection could not be used again
	return meta, err
}

// onlyMetadata asks for the metadata of an object.
const onlyMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// Delete deletes a PooledJob, if it is still in the version that is given. The answer, which has
// all of it, is not read.
func (r *Reader) Delete(ctx context.Context, job *metav1.ObjectMeta) error {
	options, err := json.Marshal(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion}})
	if err != nil {
		return fmt.Errorf("encoding preconditions: %w", err)
	}
	answer, err := r.api.Delete().Namespace(job.Namespace).Resource(resource).Name(job.Name).Body(options).Stream(ctx)
	if err != nil {
		return err
	}
	defer answer.Close()
	_, _ = io.Copy(io.Discard, answer) // else the connection could not be used again
	return nil
}

// Each calls f for every PooledJob, without its template, page by page of one state of the hub.
func (r *Reader) Each(ctx context.Context, f func(*v1alpha1.PooledJob) error) error {
	for options := (&metav1.ListOptions{Limit: pageSize}); ; {
		meta, err := r.list(ctx, options, func(job *v1alpha1.PooledJob, _ []byte, _ int) error { return f(job) })
		if err != nil || meta.Continue == "" {
			return err
		}
		options.Continue = meta.Continue
	}
}

// list reads one page, object by object.
func (r *Reader) list(ctx context.Context, options *metav1.ListOptions, each func(job *v1alpha1.PooledJob, template []byte, size int) error) (metav1.ListMeta, error) {
	answer, err := stream(ctx, func() *rest.Request { return r.api.Get().Resource(resource).VersionedParams(options, r.codec) })
	if err != nil {
		return metav1.ListMeta{}, err
	}
	defer answer.Close()
	return readList(answer, func(data []byte) error {
		job, template, err := decode(data)
		if err != nil {
			return err
		}
		return each(job, template, len(data))
	})
}

// ListerWatcher returns the source of an informer for PooledJobs. Templates of those that wait for their
// Job are kept.
func (r *Reader) ListerWatcher() cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			if options.Continue == "" {
				r.templates.reset()
			}
			listed := &v1alpha1.PooledJobList{}
			meta, err := r.list(ctx, &options, func(job *v1alpha1.PooledJob, template []byte, size int) error {
				r.keepTemplate(job, template, size)
				listed.Items = append(listed.Items, *job)
				return nil
			})
			listed.ListMeta = meta
			return listed, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			if options.SendInitialEvents != nil && *options.SendInitialEvents {
				r.templates.reset()
			}
			answer, err := r.api.Get().Resource(resource).VersionedParams(&options, r.codec).Stream(ctx)
			if isLost(err) || utilnet.IsTimeout(err) {
				return watch.NewEmptyWatch(), nil // as client-go has it: the reflector goes on where it was
			}
			if err != nil {
				return nil, err
			}
			return watch.NewStreamWatcher(&events{reader: r, answer: answer, json: json.NewDecoder(answer)},
				apierrors.NewClientErrorReporter(http.StatusInternalServerError, "watch", "ClientWatchDecoding")), nil
		},
	}
}

// keepTemplate keeps the template of a PooledJob that waits for its Job.
func (r *Reader) keepTemplate(job *v1alpha1.PooledJob, template []byte, size int) {
	if !r.waits(job) {
		r.templates.forget(job.UID)
		return
	}
	r.templates.keep(job.UID, template, size)
}

// events decodes the events of a watch.
type events struct {
	reader *Reader
	answer io.Closer
	json   *json.Decoder
}

// Decode implements watch.Decoder.
func (e *events) Decode() (watch.EventType, runtime.Object, error) {
	var event struct {
		Type   watch.EventType `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := e.json.Decode(&event); err != nil {
		return "", nil, err
	}
	if event.Type == watch.Error {
		status := &metav1.Status{}
		err := json.Unmarshal(event.Object, status)
		return event.Type, status, err
	}
	job, template, err := decode(event.Object)
	switch {
	case err != nil:
		return "", nil, err
	case event.Type == watch.Deleted:
		e.reader.templates.forget(job.UID)
	case event.Type != watch.Bookmark:
		e.reader.keepTemplate(job, template, len(event.Object))
	}
	return event.Type, job, nil
}

// Close implements watch.Decoder.
func (e *events) Close() { _ = e.answer.Close() }
