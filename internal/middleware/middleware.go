// Package middleware holds what can stand between a route and its service, one
// file each, over the plain http.Handler seam, so that any Go middleware fits.
// A middleware decodes its own parameters, strictly. Package middleware knows
// neither routes nor stores.
package middleware

import (
	"log/slog"
	"net/http"

	"gatehouse/internal/config"
	"gatehouse/internal/wire"
)

// Middleware is built once per route and snapshot and called from any
// goroutine.
type Middleware struct {
	// Wrap puts it around a handler. This is all of it: any Go middleware fits.
	// The request, its maps and the writer belong to the entry point again once
	// the handler has returned. nil: the middleware could not be built.
	Wrap func(next http.Handler) http.Handler
	// Stage does the same to most requests without the view of net/http. The
	// zero value: there is no such form.
	Stage Stage
}

// Stage is what Wrap does to a request before and after it calls the next
// handler.
type Stage struct {
	// Pass edits x.Req, and has the answer's head edited. It returns false where
	// Wrap would answer by itself, or where it is not sure: all edits are then
	// undone and the handlers of the whole route are asked from the start.
	Pass func(x *wire.Exchange) (passed bool)
	// Leave, if set, is called once for each request that passed, when it is
	// over, or (served false) before the handlers are asked: then nothing of the
	// request may be remembered. x.Req may be edited, or not.
	Leave func(x *wire.Exchange, served bool)
}

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
// names it answers 503: it must not serve without. It is called from several
// goroutines at once.
type Builder func(params *config.Node, env Env) (Middleware, []config.Problem)
