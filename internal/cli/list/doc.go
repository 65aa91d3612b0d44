// Package list has the commands that list: runs with list, connections with clusters.
//
// It promises that a table shows one object on one line, whatever its messages hold, and
// that list --watch prints a line only when what the line says has changed.
package list
