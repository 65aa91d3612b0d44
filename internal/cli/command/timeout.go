package command

import (
	"context"
	"time"
)

// WithTimeout returns a context that ends after a --timeout; 0 is without end.
func WithTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
