//go:build !linux

package localcluster

import (
	"errors"
	"fmt"
)

// childWith is not known how to do elsewhere.
func childWith(path, _ string) (int, error) {
	return 0, fmt.Errorf("finding the process of %s: %w", path, errors.ErrUnsupported)
}
