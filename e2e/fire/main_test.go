package fire

import (
	"fmt"
	"os"
	"testing"
)

// TestMain lets this program play the client of a flood.
func TestMain(m *testing.M) {
	said := os.Getenv(floodEnv)
	if said == "" {
		os.Exit(m.Run())
	}
	if err := beFlood(said); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
