package hubcache

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	decoder := json.NewDecoder(bytes.NewReader(data))
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
	decoder := json.NewDecoder(bytes.NewReader(data))
	return object(decoder, func(name string) error {
		var value string
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		if !isOwn(name) || len(value) > maxAnnotation {
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

// decodeMetadata reads the metadata of an object.
func decodeMetadata(data []byte) (*metav1.ObjectMeta, error) {
	read := struct {
		Metadata metadata `json:"metadata"`
	}{}
	if err := json.Unmarshal(data, &read); err != nil {
		return nil, fmt.Errorf("decoding the metadata of a PooledJob: %w", err)
	}
	meta := read.Metadata.objectMeta()
	return &meta, nil
}
