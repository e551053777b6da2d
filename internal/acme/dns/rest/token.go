package rest

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Token is a bearer token that is fetched when it is needed and again shortly
// before it ends. Safe for concurrent use: one caller fetches, others wait.
type Token struct {
	fetch func(context.Context) (token string, life time.Duration, err error)
	gate  chan struct{}
	value string
	until time.Time
}

// NewToken makes a token.
func NewToken(fetch func(context.Context) (token string, life time.Duration, err error)) *Token {
	return &Token{fetch: fetch, gate: make(chan struct{}, 1)}
}

// Authorize adds the token to a request; it is a Client's Authorize.
func (t *Token) Authorize(ctx context.Context, r *http.Request) error {
	select {
	case t.gate <- struct{}{}:
		defer func() { <-t.gate }()
	case <-ctx.Done():
		return fmt.Errorf("wait for a token: %w", context.Cause(ctx))
	}
	if !time.Now().Before(t.until) {
		value, life, err := t.fetch(ctx)
		if err != nil {
			return fmt.Errorf("get a token: %w", err)
		}
		// A fifth before its end, so that it is not refused on its way.
		t.value, t.until = value, time.Now().Add(life*4/5)
	}
	r.Header.Set("Authorization", "Bearer "+t.value)
	return nil
}

// Forget drops the token, unless a new one is being fetched just now; it is a
// Client's Forget.
func (t *Token) Forget() {
	select {
	case t.gate <- struct{}{}:
		t.until = time.Time{}
		<-t.gate
	default:
	}
}
