// Package store holds the Jobs and Pods of a view: of each object only what a run needs, packed into
// bytes (pack.go, packer.go), by the key of its run (runrecords.go). A Job takes about 60
// bytes so, where its type takes 1,400 before it has any content; most of a manager's memory is what it
// holds of targets.
//
// It also remembers what went: Pods that had ended while their Job lives on, and Jobs for some minutes
// (gone.go), because what deletes finished Jobs may be faster than those who ask how they ended.
//
// What is read of the answers that it is filled from is in schemas.go. A list of the Pods of one run from
// the target itself keeps only those that the view does not show (podlist.go).
//
// Nothing here does I/O. What the objects take counts in a budget.Budget.
package store
