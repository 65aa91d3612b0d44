package clusterconnection

import "github.com/pooledjob/pooledjob/internal/connpool"

// Connections is what the reconciler needs of the pool.
type Connections interface {
	// Connect makes the named connection use config.
	Connect(name string, config connpool.Config)
	// Keep has the named connection go on with the identity in use and forget one
	// that is still to prove itself; of config it takes the settings.
	Keep(name string, config connpool.Config)
	// Wake ends Sleep.
	Wake(name string)
	// Sleep closes the named connection, if it is Ready, until it is leased again.
	Sleep(name string)
	// Disconnect closes the named connection.
	Disconnect(name string)
	// Status returns what is known of the named connection.
	Status(name string) (status connpool.Status, ok bool)
	// Lease lends the named connection to the run of that key, or says at once why
	// it cannot.
	Lease(name, key string) (*connpool.Lease, error)
}
