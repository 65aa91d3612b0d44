package list

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/jsonpath"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// sortBy sorts runs by a field: numbers by their value, and everything else as text, which is right
// for times, too. Runs without the field come first.
func sortBy(jobs []v1alpha1.PooledJob, path string) error {
	if path == "" {
		return nil
	}
	field := jsonpath.New("sort-by").AllowMissingKeys(true)
	if err := field.Parse("{." + strings.TrimLeft(strings.Trim(path, "{}"), ".") + "}"); err != nil {
		return fmt.Errorf("--sort-by: %w", err)
	}
	type keyed struct {
		job v1alpha1.PooledJob
		key any
	}
	found := len(jobs) == 0
	all := make([]keyed, 0, len(jobs))
	for i := range jobs {
		key, err := fieldOf(&jobs[i], field)
		if err != nil {
			return fmt.Errorf("--sort-by: %w", err)
		}
		found = found || key != nil
		all = append(all, keyed{jobs[i], key})
	}
	if !found {
		return fmt.Errorf("--sort-by: no run has the field %s", path)
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return compareFields(a.key, b.key) })
	for i := range all {
		jobs[i] = all[i].job
	}
	return nil
}

// fieldOf returns the field of a run; nil if it has none.
func fieldOf(job *v1alpha1.PooledJob, field *jsonpath.JSONPath) (any, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(job)
	if err != nil {
		return nil, err
	}
	found, err := field.FindResults(object)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || len(found[0]) == 0 {
		return nil, nil
	}
	return found[0][0].Interface(), nil
}

func compareFields(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	x, isNumber := a.(int64)
	y, areNumbers := b.(int64)
	if isNumber && areNumbers {
		return cmp.Compare(x, y)
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}
