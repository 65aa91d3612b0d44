package pause

import "time"

// Whoever looks at a run looks at all of its objects. A target whose runs change all the time takes a part of
// a core for each that does not depend on how many objects they have.
const (
	// FewObjects is how many objects are looked at without a pause.
	FewObjects = 25
	// LookPerObject is the pause for each object if there are more, and LongestLook the most.
	LookPerObject = 2 * time.Millisecond
	LongestLook   = 10 * time.Second
)

// Look returns the shortest time between two looks at a run of so many objects.
func Look(objects int) time.Duration {
	if objects <= FewObjects {
		return 0
	}
	return min(time.Duration(objects)*LookPerObject, LongestLook)
}
