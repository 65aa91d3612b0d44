package hubcache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// maxAnnotation bounds an annotation that says something to the manager, in bytes: the largest is a
// run's intent.
const maxAnnotation = 4 << 10

// MaxFinalizers is how many finalizers a PooledJob may have for its metadata to be written: a patch
// has all of them.
const MaxFinalizers = 32

// metadata is what of a PooledJob's metadata says something to the manager. API servers bound the
// annotations of an object, and neither its labels nor its owners.
type metadata struct {
	Name                       string         `json:"name"`
	Namespace                  string         `json:"namespace"`
	UID                        types.UID      `json:"uid"`
	ResourceVersion            string         `json:"resourceVersion"`
	Generation                 int64          `json:"generation"`
	CreationTimestamp          metav1.Time    `json:"creationTimestamp"`
	DeletionTimestamp          *metav1.Time   `json:"deletionTimestamp"`
	DeletionGracePeriodSeconds *int64         `json:"deletionGracePeriodSeconds"`
	Finalizers                 finalizers     `json:"finalizers"`
	Annotations                ownAnnotations `json:"annotations"`
}

func (m *metadata) objectMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
		DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds, Finalizers: m.Finalizers, Annotations: m.Annotations,
	}
}

// finalizers are the first ones of an object.
type finalizers []string

// UnmarshalJSON implements json.Unmarshaler.
func (f *finalizers) UnmarshalJSON(data []byte) error {
	return f.read(json.NewDecoder(bytes.NewReader(data)))
}

func (f *finalizers) read(decoder *json.Decoder) error {
	return array(decoder, func() error {
		var name string
		if err := decoder.Decode(&name); err != nil || len(*f) > MaxFinalizers {
			return err
		}
		*f = append(*f, name)
		return nil
	})
}

// ErrTooManyFinalizers is why a PooledJob is not written: those that are not known here would be
// lost.
var ErrTooManyFinalizers = fmt.Errorf("the PooledJob has more than %d finalizers; take some off", MaxFinalizers)

// ownAnnotations are those that say something to the manager.
type ownAnnotations map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (a *ownAnnotations) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	return a.read(json.NewDecoder(bytes.NewReader(data)))
}

func (a *ownAnnotations) read(decoder *json.Decoder) error {
	return object(decoder, func(name string) error {
		if !isOwn(name) {
			return skip(decoder)
		}
		var value string
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		if len(value) > maxAnnotation {
			return nil
		}
		if *a == nil {
			*a = ownAnnotations{}
		}
		(*a)[strings.Clone(name)] = value
		return nil
	})
}

// isOwn reports whether an annotation says something to the manager, or to an informer.
func isOwn(name string) bool {
	switch name {
	case v1alpha1.AnnotationIntent, v1alpha1.AnnotationCreator, v1alpha1.AnnotationAbandon, metav1.InitialEventsAnnotationKey:
		return true
	}
	return false
}

// readMetadata reads the metadata of the object that is an answer, of which no more is held than one
// value at a time.
func readMetadata(answer io.Reader) (*metav1.ObjectMeta, error) {
	decoder, read := json.NewDecoder(answer), metadata{}
	err := object(decoder, func(name string) error {
		if name != "metadata" {
			return skip(decoder)
		}
		return object(decoder, func(name string) error { return read.field(decoder, name) })
	})
	if err != nil {
		return nil, fmt.Errorf("decoding the metadata of a PooledJob: %w", err)
	}
	meta := read.objectMeta()
	return &meta, nil
}

func (m *metadata) field(decoder *json.Decoder, name string) error {
	switch name {
	case "name":
		return decoder.Decode(&m.Name)
	case "namespace":
		return decoder.Decode(&m.Namespace)
	case "uid":
		return decoder.Decode(&m.UID)
	case "resourceVersion":
		return decoder.Decode(&m.ResourceVersion)
	case "generation":
		return decoder.Decode(&m.Generation)
	case "creationTimestamp":
		return decoder.Decode(&m.CreationTimestamp)
	case "deletionTimestamp":
		return decoder.Decode(&m.DeletionTimestamp)
	case "deletionGracePeriodSeconds":
		return decoder.Decode(&m.DeletionGracePeriodSeconds)
	case "finalizers":
		return m.Finalizers.read(decoder)
	case "annotations":
		return m.Annotations.read(decoder)
	}
	return skip(decoder)
}

// skip passes over a value, token by token.
func skip(decoder *json.Decoder) error {
	for depth := 0; ; {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
