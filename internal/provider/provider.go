// Package provider is the contract of a source of routing configuration.
package provider

import (
	"context"

	"gatehouse/internal/config"
)

// Provider publishes routing configuration.
type Provider interface {
	// Name qualifies the names of everything it publishes: web@file.
	Name() string
	// Run publishes the whole desired state: first as soon as it is known,
	// then after each change, with the problems of objects it left out. It
	// retries its own troubles for ever, logging each with the next attempt's
	// time, and returns only when ctx ends (nil) or its settings can never
	// work (an error). publish never blocks and may be called from any one
	// goroutine at a time; what is published must not be changed afterwards.
	Run(ctx context.Context, publish func(config.Routing, []config.Problem)) error
}
