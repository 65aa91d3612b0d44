// Package kubeconfig turns the bytes of a kubeconfig into an Identity: a server,
// the CA that vouches for it, and one credential. It is pure: it opens no file,
// runs no program and contacts nobody, whatever the bytes say.
//
// A kubeconfig is a program as much as a file: it can name commands to run
// (exec), files to read (tokenFile, client-key, ...), people to impersonate and
// proxies to pass by. A Secret's author must not be able to do any of that with
// the manager's rights, so Parse works on an allow-list: after the fields that
// are permitted have been taken out of the current context's cluster and user,
// nothing may be left. A field that a later client-go invents is refused for the
// same reason, and one that this client-go does not know is refused wherever it is. It
// looks at the decoded structure and never at a rest.Config,
// because making one of those already reads files.
//
// What contexts, clusters and users say that the current context does not name is not
// looked at: it means nothing to the connection.
//
// # Canonical form
//
// Two kubeconfigs that mean the same give Identities with equal fields, so that
// whoever compares or hashes them shares one connection and keeps it when a
// Secret is only written anew:
//
//   - Server has a lower-case scheme and host, no port 443, a clean path without
//     a slash at its end, and IP addresses in their short form.
//   - TLSServerName is in lower case, and empty when it is Server's own host.
//   - CAData holds the certificates that crypto/x509 would take, sorted and each
//     once. What it would skip is not there.
//   - CertData holds the chain in the order given, which matters, and KeyData
//     the one key in use.
//   - All PEM has standard line lengths, no headers and nothing around it. Data
//     that are absent are nil.
//
// The reverse is a promise too: whatever distinguishes one server, one trust or one
// credential from another is kept. Where in doubt, Identities differ: the names
// target.example and target.example. (with a dot), or a key as PKCS#1 and as
// PKCS#8, cost a second connection and nothing else.
//
// # Renewal
//
// Account reads whose token a credential is, and ReplaceToken puts another one into a
// document. What a token says of itself is good for asking the target, which knows who
// asks; it decides nothing else.
//
// Errors name the field to mend and never hold a secret value.
package kubeconfig
