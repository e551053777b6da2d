//go:build race

package entrypoint

// slower is how much more CPU time the race detector makes the same work take.
const slower = 8
