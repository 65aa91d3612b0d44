// Package localenv starts PooledJob on this machine as it would be installed: a hub
// with the CRDs and the roles of config/, targets that run Jobs, on each of them an
// identity with the rights of config/target and no more, and the manager as a
// process of its own, with the rights of its ServiceAccount.
//
// `make demo`, `make up` and the end-to-end suite run on it. It needs what
// `make localkube build` makes.
package localenv
