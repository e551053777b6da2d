// Package examples holds the configurations that people start from, as files
// and inside the binary. Every one is run by a test.
package examples

import "embed"

// Quickstart is examples/quickstart.
//
//go:embed quickstart
var Quickstart embed.FS
