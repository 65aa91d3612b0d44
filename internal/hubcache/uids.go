package hubcache

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// UIDs finds the PooledJobs of a cache by their UID. A target can make the manager look for as many as
// it likes, so that a look costs no more than one in a map: a list of a client takes ten times as long.
type UIDs struct{ indexer toolscache.Indexer }

// byUID is the name of the index.
const byUID = "uid"

// IndexUIDs adds the index to a cache. It must be called before the cache starts.
func IndexUIDs(ctx context.Context, hub cache.Cache) (*UIDs, error) {
	found, err := hub.GetInformer(ctx, &v1alpha1.PooledJob{})
	if err != nil {
		return nil, fmt.Errorf("the cache of PooledJobs: %w", err)
	}
	informer, ok := found.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("the cache of PooledJobs is a %T, which cannot be asked by UID", found)
	}
	return newUIDs(informer.GetIndexer())
}

func newUIDs(indexer toolscache.Indexer) (*UIDs, error) {
	err := indexer.AddIndexers(toolscache.Indexers{byUID: func(obj any) ([]string, error) {
		if job, ok := obj.(*v1alpha1.PooledJob); ok {
			return []string{string(job.UID)}, nil
		}
		return nil, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("adding index %s: %w", byUID, err)
	}
	return &UIDs{indexer}, nil
}

// Find returns the PooledJob with a UID, nil if there is none. It is the cache's own and must not be
// changed.
func (u *UIDs) Find(uid types.UID) *v1alpha1.PooledJob {
	found, err := u.indexer.ByIndex(byUID, string(uid))
	if err != nil || len(found) == 0 {
		return nil // there is always that index
	}
	job, _ := found[0].(*v1alpha1.PooledJob)
	return job
}
