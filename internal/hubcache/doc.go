// Package hubcache reads PooledJobs from the hub's API server without decoding their templates.
//
// A template is most of a PooledJob, and nobody needs it before its Job is created. Whoever
// may create PooledJobs also says how much memory a template takes once it is decoded: an empty
// element of a list takes three bytes of JSON and some hundred of memory, so that one PooledJob
// can take 50 MiB. So no list, watch or cache holds a decoded template:
//
//	watch, list ──▶ Reader ──▶ PooledJob without template ──▶ cache
//	                     └───▶ Templates: bytes, as many as fit
//	dispatch ──▶ Templates, else the hub ──▶ decoded, as many at once as there is room for
//
// CacheOptions put the Reader under the cache of a manager and cut every object that is cached down to what is
// needed of it; AddIndexes and IndexUIDs are what the cache is asked by, and a Tally counts its PooledJobs.
//
// The bounds do not depend on how many PooledJobs there are. A tenant that fills the hub with
// templates meets the limits of the hub and not the memory of the manager.
package hubcache
