package faultproxy

import (
	"io"
	"time"
)

// Moment is when a hook is called.
type Moment string

// The moments of a request.
const (
	// Before is when the request has come and was not forwarded.
	Before Moment = "before"
	// After is when the server has answered and the client has not heard of it.
	After Moment = "after"
)

// Hook is told of each request at both moments and says what shall happen. It may take
// its time, and may be called for several requests at once.
type Hook func(Moment, *Call) Action

// Action is what happens to a request. The zero value lets it go on. Of the fields
// that are set the first applies, in their order, after Delay.
type Action struct {
	// Delay passes first, unless the client goes away meanwhile.
	Delay time.Duration
	// Cut ends the TCP connection of the request, and with it all others on it.
	Cut bool
	// Later ends the TCP connection of the request, and forwards the request all the
	// same when so much time has passed: what a client takes for lost was only on its
	// way. It is for the moment Before.
	Later time.Duration
	// Swallow leaves the request without an answer for so long, or until the client
	// goes away; then its connection is cut.
	Swallow time.Duration
	// Page answers with a page of HTML with that code, as a gateway would.
	Page int
	// Answer answers with a Kubernetes Status of that code.
	Answer int
	// RetryAfter is the header of that name of Answer, in whole seconds; 0 means none.
	RetryAfter time.Duration
	// First is sent before what the server answers to a watch. It is for the moment After.
	First io.Reader
}
