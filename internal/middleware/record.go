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

// Entry is one request and what became of it, as a log wants to know it.
type Entry struct {
	Record
	EntryPoint           string
	Remote               string // "ip:port"
	Method, URI, Proto   string // as they came in
	Host, Agent, Referer string
	TLS                  bool
	BodySize             int64 // of the request, as declared; negative: not known
	Status               int
	Size                 int64 // of the answer's content
	Took                 time.Duration
}

// RecordKey is the key of a request's record in its context; the value is a
// *Record.
type RecordKey struct{}

// WithRecord puts a record into a request's context.
func WithRecord(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, RecordKey{}, r)
}

// RecordFrom gives the request's record; a throw-away one where no access log
// is kept, so that callers need not ask.
func RecordFrom(ctx context.Context) *Record {
	if r, ok := ctx.Value(RecordKey{}).(*Record); ok {
		return r
	}
	return new(Record)
}
