// Package middleware holds what can stand between a route and its service, one
// file each, over the plain http.Handler seam, so that any Go middleware fits.
// A middleware decodes its own parameters, strictly. Package middleware knows
// neither routes nor stores.
package middleware

import (
	"log/slog"
	"net/http"

	"gatehouse/internal/config"
)

// Middleware wraps a handler. It is built once per route and snapshot and
// called from any goroutine.
type Middleware func(next http.Handler) http.Handler

// Env is what a middleware may ask of its surroundings while it is built.
type Env struct {
	Name   string // qualified name, for messages: "auth@file"
	Origin config.Origin
	Logger *slog.Logger
	// EntryPoint gives an entry point's address ("host:port") and whether it
	// speaks TLS; ok is false for an unknown name.
	EntryPoint func(name string) (address string, tls bool, ok bool)
	// Memory holds counts from one snapshot to the next, for the Route, by
	// which routes that share a middleware share none of its counts. nil: none.
	Memory *Memory
	Route  string
	// Reads is told where a middleware depends on more than its parameters, a
	// file for one: it is built anew for each snapshot. nil: nobody asks.
	Reads func()

	params *config.Node // what the parameters were decoded from, to place problems
}

// Builder decodes parameters (nil: none given) and makes the middleware. With
// a problem that is not a warning the middleware is nil, and every router that
// names it answers 503: it must not serve without.
type Builder func(params *config.Node, env Env) (Middleware, []config.Problem)
