//go:build !race

package acme

const raceDetector = false
