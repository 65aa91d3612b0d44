// Package budget bounds how much memory the objects of targets take.
//
// Each connection has a Budget, and all together have a Pool. What is held is counted when it is taken in,
// and again when it is given back; what a list brings that is still coming is Pending, and may take half as
// much again. Whoever exceeds its own budget is refused. When all exceed the pool's, the connection that
// holds the most beside what its runs account for gives up everything: the others do not notice.
//
// The Pods of those who read logs have budgets of their own, in which a Pod counts until the garbage
// collector finds that nobody has it.
package budget
