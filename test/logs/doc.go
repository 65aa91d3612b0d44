// Package logs tests the log API as its clients meet it: through the API server of a hub, as
// users with different rights, with managers as processes and targets that are real but for
// the kubelet, which package fakekubelet plays: so logs break, end and stand still when a
// spec says so.
package logs
