//go:build !linux

package filewatch

import (
	"context"
	"errors"
	"time"
)

// system is nothing here: callers look themselves.
type system struct{}

func (*system) on() bool { return false }

func (*system) watch([]string, int) (bool, error) {
	return false, errors.New("this system is not asked for changes of files")
}

func (*system) wait(context.Context, time.Duration) []Event { return nil }

func (*system) pending() []Event { return nil }

func (*system) close() {}
