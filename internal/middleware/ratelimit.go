package middleware

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/wire"
)

// RateLimit bounds how many requests each client may make: Average in each
// Period, and Burst at once.
type RateLimit struct {
	Average         int64            `key:"average"` // 0: no limit
	Period          config.Duration  `key:"period"`
	Burst           int64            `key:"burst"`
	SourceCriterion *SourceCriterion `key:"sourceCriterion"`
}

// SetDefaults: per second, and no bursts.
func (p *RateLimit) SetDefaults() {
	p.Period = config.Duration(time.Second)
	p.Burst = 1
}

// Build makes the middleware.
func (p RateLimit) Build(env Env) (Middleware, []config.Problem) {
	client, problems := p.SourceCriterion.sourceOf(env)
	check := func(ok bool, key, allowed string) {
		if !ok {
			problems = append(problems, env.problem(key, "is out of range", allowed))
		}
	}
	check(p.Average >= 0 && p.Average <= 1e9, "average", "0 (no limit) to 1000000000")
	check(p.Burst >= 0 && p.Burst <= 1e6, "burst", "0 to 1000000")
	check(p.Period > 0 && p.Period.Std() <= 24*time.Hour, "period", "more than 0, at most 24h")
	if hasError(problems) {
		return Middleware{}, problems
	}
	if p.Average > 0 && p.Period.Std()/time.Duration(p.Average) > maxRefill/time.Duration(max(p.Burst, 1)) {
		return Middleware{}, []config.Problem{env.problem("burst", "would take too long to fill again", "period/average*burst at most a year")}
	}
	if p.Average == 0 {
		return Middleware{
			Wrap:  func(next http.Handler) http.Handler { return next },
			Stage: Stage{Pass: func(*wire.Exchange) bool { return true }},
		}, problems
	}
	limiter := remembered(env, p, func() *limiter {
		return newLimiter(max(p.Period.Std()/time.Duration(p.Average), 1), max(p.Burst, 1))
	})
	return Middleware{Stage: limiter.stage(p.SourceCriterion.staged()), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wait := limiter.take(client(r))
			if wait <= 0 {
				next.ServeHTTP(w, r)
				return
			}
			seconds := int64((wait + time.Second - 1) / time.Second)
			w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
			http.Error(w, "429 too many requests", http.StatusTooManyRequests)
		})
	}}, problems
}

// maxRefill keeps times far from overflow.
const maxRefill = 365 * 24 * time.Hour

// The memory of a limiter: at most shards * shardSize clients.
const (
	shards    = 16
	shardSize = 4096
)

// limiter keeps, for each client, the time its bucket will be full again: a
// client that is not kept has a full bucket, so forgetting one whose time has
// passed changes nothing.
type limiter struct {
	interval time.Duration // between requests at the average rate
	depth    time.Duration // of the bucket
	start    time.Time
	seed     maphash.Seed
	shards   [shards]struct {
		sync.Mutex
		full map[source]bucket
	}
}

// bucket is one client's.
type bucket struct {
	of   source        // the key it is under
	full time.Duration // when it is full again, since start
}

func newLimiter(interval time.Duration, burst int64) *limiter {
	l := &limiter{interval: interval, depth: interval * time.Duration(burst), start: time.Now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].full = make(map[source]bucket)
	}
	return l
}

// take counts a request: 0 means it may pass, else how long to wait.
func (l *limiter) take(s source) time.Duration {
	now := time.Since(l.start)
	shard := &l.shards[maphash.Comparable(l.seed, s)%shards]
	shard.Lock()
	defer shard.Unlock()
	b, known := shard.full[s]
	next := max(b.full, now) + l.interval
	if wait := next - now - l.depth; wait > 0 {
		return wait
	}
	if !known {
		if len(shard.full) >= shardSize {
			forget(shard.full, now)
		}
		b.of = s.kept()
	}
	b.full = next
	shard.full[b.of] = b
	return 0
}

// stage takes, and gives back what handlers will take again.
func (l *limiter) stage(client func(*wire.Exchange) source) Stage {
	if client == nil {
		return Stage{}
	}
	return Stage{
		Pass: func(x *wire.Exchange) bool { return l.take(client(x)) <= 0 },
		Leave: func(x *wire.Exchange, served bool) {
			if !served {
				l.give(client(x))
			}
		},
	}
}

// give makes a request uncounted that was taken.
func (l *limiter) give(s source) {
	shard := &l.shards[maphash.Comparable(l.seed, s)%shards]
	shard.Lock()
	defer shard.Unlock()
	if b, known := shard.full[s]; known {
		b.full -= l.interval
		shard.full[b.of] = b
	}
}

// forget makes room: among some clients those with full buckets, or else the
// one nearest to it.
func forget(full map[source]bucket, now time.Duration) {
	var nearest source
	var least time.Duration = -1
	looked, freed := 0, 0
	for s, b := range full {
		if b.full <= now {
			delete(full, s)
			freed++
		} else if least < 0 || b.full < least {
			nearest, least = s, b.full
		}
		if looked++; looked >= 64 {
			break
		}
	}
	if freed == 0 {
		delete(full, nearest)
	}
}
