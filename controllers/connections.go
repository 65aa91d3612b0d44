package controllers

import "github.com/pooledjob/pooledjob/internal/connpool"

// Connections is what the reconcilers need of the pool.
type Connections interface {
	// Connect makes the named connection use config.
	Connect(name string, config connpool.Config)
	// Disconnect closes the named connection.
	Disconnect(name string)
	// Status tells what is known of the named connection.
	Status(name string) (status connpool.Status, ok bool)
	// Lease lends the named connection, or says at once why it cannot.
	Lease(name string) (*connpool.Lease, error)
}
