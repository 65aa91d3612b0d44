// Package docs runs the examples of README.md and of the pages in docs/ as they stand there:
// each block of shell commands, on a hub and two targets whose containers are real, and each
// manifest by a dry run on the hub. The plan in plan_test.go gives the order, and says what
// a reader is expected to have done before. A block that is in no plan fails the test.
package docs
