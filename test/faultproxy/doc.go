// Package faultproxy stands between a client and a Kubernetes API server, and breaks
// what goes between them as a test wishes.
//
// A [Proxy] has a certificate of its own CA, takes bearer tokens of its own, and
// forwards what it lets pass with the client certificate of one user. It speaks
// HTTP/2 on both sides, and hands on what a watch tells at once.
//
// # Faults
//
// A [Hook] is called twice for every request: before it is forwarded, and after the
// server has answered but before the client hears of it. Its [Action] says what
// happens: the request goes on, gets another answer, waits, loses its connection, is
// left without an answer, or comes later than it seems; and a watch may begin with what
// the server did not send. What the hook does meanwhile, such as killing the client,
// happens at that very point.
//
// Beside that [Proxy.Cut] ends all connections, [Proxy.BlackHole] makes them silent
// without an end, [Proxy.EndWatches] ends all watches, and [Proxy.Accept] says which
// tokens are good.
//
// A server that cannot be reached looks the same through the proxy as a connection that
// is lost, but for one thing: the proxy itself can always be connected to.
package faultproxy
