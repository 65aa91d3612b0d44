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
// same reason. It looks at the decoded structure and never at a rest.Config,
// because making one of those already reads files.
//
// Contexts, clusters and users that the current context does not name are not
// looked at: they mean nothing to the connection.
//
// Errors name the field to mend and never hold a secret value.
package kubeconfig
