package sanitize

import "github.com/pooledjob/pooledjob/internal/prune"

const (
	// MaxOwnLabels is how many labels an object may have that say something to a run.
	MaxOwnLabels = 16
	// MaxContainers is how many containers of each kind a Pod may have for its end to be recorded.
	MaxContainers = 128
	// MaxOwners is how many owners an object may have.
	MaxOwners = 32
)

// The most that an object may take in memory: what the Pod with the most that is allowed above takes, and
// an object of which some texts are kept.
var (
	PodBounds   = prune.Bounds{Types: 256 << 10, Texts: 48 << 10}
	SmallBounds = prune.Bounds{Types: 16 << 10, Texts: 64 << 10}
)

// TerminatedFields are those of the end of a container.
var TerminatedFields = prune.Message(prune.Fields{
	"exitCode": prune.Number(), "reason": prune.Text(prune.MaxName), "message": prune.Text(prune.MaxWords),
	"startedAt": prune.Time(), "finishedAt": prune.Time(),
})
