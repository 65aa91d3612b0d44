// Package command has what every command is made of: the streams, kubectl's flags, the
// client for the hub, arguments, -o and --dry-run.
//
// It promises that these look and act the same in all commands, and that nothing an API
// server says reaches a person's terminal unescaped through it.
package command
