package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/store"
)

// Bounds of looking up in the store what the watch has not shown yet.
const (
	lookUps      = 100 // a second
	lookUpTime   = time.Second
	absentFor    = 5 * time.Second
	mostAbsent   = 10_000
	challengeURL = "/.well-known/acme-challenge/"
)

// Responder answers HTTP-01 and TLS-ALPN-01 challenges on this replica, for
// orders of any replica. Answers come from memory, kept by a watch; what is
// not there is read from the store by its exact key, a bounded number of times
// a second. So a CA that is faster than the watch still gets its answer from a
// replica that an order did not wait for (see Barrier).
type Responder struct {
	store store.Store
	log   *slog.Logger
	certs certMaker

	pending atomic.Pointer[map[string]entry] // by store key
	news    chan struct{}                    // capacity 1: pending has changed

	mu     sync.Mutex
	tokens float64 // of the look-ups' bucket
	filled time.Time
	absent map[string]time.Time // keys the store did not hold, until when
}

// NewResponder makes one; it answers once it is made, better while it runs.
func NewResponder(st store.Store, log *slog.Logger) *Responder {
	r := &Responder{store: st, log: log, tokens: lookUps, absent: map[string]time.Time{}, news: make(chan struct{}, 1)}
	r.pending.Store(&map[string]entry{})
	return r
}

// Run keeps the answers in memory until ctx ends, whose error it returns.
func (r *Responder) Run(ctx context.Context) error {
	told := false
	for entries, err := range r.store.Watch(ctx, challengePrefix) {
		if err != nil {
			if !told {
				r.log.Warn("challenges cannot be watched", "err", err, "next", "the store watches again; answers are looked up one by one")
			}
			told = true
			continue
		}
		told = false
		pending := make(map[string]entry, len(entries))
		for _, e := range entries {
			one, err := decodeEntry(e.Key, e.Value)
			if err != nil {
				r.log.Warn("challenge left out", "key", e.Key, "err", err, "next", "it is not answered")
				continue
			}
			pending[e.Key] = one
		}
		r.pending.Store(&pending)
		select {
		case r.news <- struct{}{}:
		default:
		}
	}
	return ctx.Err()
}

// Handler answers what a CA asks for HTTP-01 (RFC 8555, section 8.3), if it is
// pending; everything else goes to next.
func (r *Responder) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		token, ok := strings.CutPrefix(req.URL.Path, challengeURL)
		if !ok || req.Method != http.MethodGet && req.Method != http.MethodHead || !validToken(token) {
			next.ServeHTTP(w, req)
			return
		}
		e, err := r.find(req.Context(), httpKey(token))
		if err != nil {
			next.ServeHTTP(w, req)
			return
		}
		r.log.Debug("challenge answered", "type", http01, "name", e.Name, "client", req.RemoteAddr)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "no-store")
		if req.Method == http.MethodGet {
			_, _ = io.WriteString(w, e.Value)
		}
	})
}

// ALPN is the protocol of a TLS-ALPN-01 handshake (RFC 8737, section 4). A
// server that means to answer must offer it for such a handshake, and nothing
// else.
const ALPN = "acme-tls/1"

// Asks reports whether a handshake is a CA's, for Certificate to answer.
func Asks(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPN
}

// Certificate answers a handshake for which Asks is true; for others, and if
// nothing is pending for the name, it is an error.
func (r *Responder) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if !Asks(hello) {
		return nil, errors.New("not a handshake of " + ALPN)
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if !validName(name) {
		return nil, fmt.Errorf("%s for %.100q: no name", ALPN, hello.ServerName)
	}
	e, err := r.find(hello.Context(), alpnKey(name))
	if err != nil {
		return nil, fmt.Errorf("%s for %s: %w", ALPN, name, err)
	}
	r.log.Debug("challenge answered", "type", tlsALPN01, "name", e.Name)
	return r.certs.get(e)
}

var errNotPending = errors.New("no challenge is pending")

// find gives the pending challenge at key.
func (r *Responder) find(ctx context.Context, key string) (entry, error) {
	e, ok := (*r.pending.Load())[key]
	if !ok {
		var err error
		if e, err = r.lookUp(ctx, key); err != nil {
			return entry{}, err
		}
	}
	if time.Now().After(e.Expires) {
		return entry{}, errNotPending
	}
	return e, nil
}

func (r *Responder) lookUp(ctx context.Context, key string) (entry, error) {
	if err := r.allow(key, time.Now()); err != nil {
		return entry{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	got, err := r.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		r.remember(key, time.Now())
		return entry{}, errNotPending
	}
	if err != nil {
		return entry{}, err // not known is not absent: it may be asked again
	}
	return decodeEntry(key, got.Value)
}

// allow takes a look-up from the bucket, unless it is known what it gives.
func (r *Responder) allow(key string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if until, ok := r.absent[key]; ok && now.Before(until) {
		return errNotPending
	}
	if !r.filled.IsZero() {
		r.tokens = min(lookUps, r.tokens+now.Sub(r.filled).Seconds()*lookUps)
	}
	r.filled = now
	if r.tokens < 1 {
		return errors.New("too many look-ups of challenges")
	}
	r.tokens--
	return nil
}

func (r *Responder) remember(key string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.absent) >= mostAbsent {
		clear(r.absent)
	}
	r.absent[key] = now.Add(absentFor)
}
