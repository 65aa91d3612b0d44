package scriptedhub

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
)

// WriteStatus answers with an error as API servers do.
func WriteStatus(w http.ResponseWriter, code int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"`+reason+`","code":`+strconv.Itoa(code)+`}`)
}

// Refuse answers the first so many requests with 403.
func Refuse(times int32) Interference {
	var left atomic.Int32
	left.Store(times)
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if left.Add(-1) < 0 {
			return false
		}
		WriteStatus(w, http.StatusForbidden, "Forbidden")
		return true
	}
}
