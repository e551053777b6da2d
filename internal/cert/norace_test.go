//go:build !race

package cert

const raceDetector = false
