package middleware

import (
	"net/http"
	"sync"

	"gatehouse/internal/config"
	"gatehouse/internal/wire"
)

// InFlightReq bounds how many requests of each client are served at a time.
type InFlightReq struct {
	Amount          int64            `key:"amount"`
	SourceCriterion *SourceCriterion `key:"sourceCriterion"` // nil: the request's host
}

// Build makes the middleware.
func (p InFlightReq) Build(env Env) (Middleware, []config.Problem) {
	criterion := p.SourceCriterion
	if criterion == nil {
		criterion = &SourceCriterion{RequestHost: true}
	}
	client, problems := criterion.sourceOf(env)
	if p.Amount <= 0 {
		problems = append(problems, env.problem("amount", "is missing or not positive", "1 or more"))
	}
	if hasError(problems) {
		return Middleware{}, problems
	}
	counts := remembered(env, p, func() *inFlight { return &inFlight{counts: make(map[source]requests)} })
	m := Middleware{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := client(r)
			if !counts.enter(s, p.Amount) {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "429 too many requests at a time", http.StatusTooManyRequests)
				return
			}
			defer counts.leave(s)
			next.ServeHTTP(w, r)
		})
	}}
	if client := criterion.staged(); client != nil {
		m.Stage = Stage{
			Pass:  func(x *wire.Exchange) bool { return counts.enter(client(x), p.Amount) },
			Leave: func(x *wire.Exchange, _ bool) { counts.leave(client(x)) },
		}
	}
	return m, problems
}

// inFlight counts requests under way; its memory is bounded by them.
type inFlight struct {
	mu     sync.Mutex
	counts map[source]requests
}

// requests are those of one client.
type requests struct {
	of source // the key they are under
	n  int64
}

func (f *inFlight) enter(s source, most int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.counts[s]
	if r.n >= most {
		return false
	}
	if r.n == 0 {
		r.of = s.kept()
	}
	r.n++
	f.counts[r.of] = r
	return true
}

func (f *inFlight) leave(s source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.counts[s]
	if r.n--; r.n <= 0 {
		delete(f.counts, s)
		return
	}
	f.counts[r.of] = r
}
