package middleware

import (
	"context"
	"time"
)

// Record is what the parts of a request's way learn for the access log. It
// belongs to the request's goroutine.
type Record struct {
	Start    time.Time
	Router   string        // router that matched; "": none
	Service  string        // service asked
	Server   string        // URL of the server that answered
	User     string        // authenticated user
	Retries  int           // attempts after the first
	Upstream time.Duration // time until the server's answer head
}

type recordKey struct{}

// WithRecord puts a record into a request's context.
func WithRecord(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

// RecordFrom gives the request's record; a throw-away one where no access log
// is kept, so that callers need not ask.
func RecordFrom(ctx context.Context) *Record {
	if r, ok := ctx.Value(recordKey{}).(*Record); ok {
		return r
	}
	return new(Record)
}
