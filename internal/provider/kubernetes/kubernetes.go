// Package kubernetes takes routing configuration from the Ingresses of a
// Kubernetes cluster, and the Services, EndpointSlices and Secrets they name.
// It owns what these objects mean, how they are followed, and what is written
// back: status and Events. It neither issues certificates nor serves requests.
package kubernetes

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

// name of the provider, which qualifies what it publishes: web@kubernetes.
const name = "kubernetes"

// Changes are taken together until none has come for quiet, but none waits
// longer than patience; and no more than a part of a core is spent on them.
const (
	quiet      = 10 * time.Millisecond
	patience   = 100 * time.Millisecond
	costFactor = 2
	// copyEvery and copyFactor bound how often the local copy is written, and how
	// much of the time that may take.
	copyEvery  = 5 * time.Second
	copyFactor = 100
	// secretsWait is how long a change waits for Secrets that were not followed
	// before it, so that what they protect is not refused meanwhile.
	secretsWait = 2 * time.Second
)

// Options of a Provider.
type Options struct {
	Client        *kubeclient.Client
	Namespaces    []string // empty: all
	LabelSelector string   // of Ingresses
	Settings      Settings
	// Copy is the file in which the objects are kept for a start without the
	// API server; "": there is none.
	Copy   string
	Ring   store.Ring   // seals the copy; empty: its mode protects it
	Found  func(Result) // is told of each result, after it is published; nil: nobody
	Logger *slog.Logger
}

// Provider implements provider.Provider.
type Provider struct {
	o       Options
	changed chan struct{} // holds at most one token
}

// New makes a Provider.
func New(o Options) *Provider {
	return &Provider{o: o, changed: make(chan struct{}, 1)}
}

// Name is "kubernetes".
func (p *Provider) Name() string { return name }

// Run publishes what the cluster's objects say, and again when that has
// changed. While the API server is away, what was published last stays; at a
// start without it, the local copy holds.
func (p *Provider) Run(ctx context.Context, publish func(config.Routing, []config.Problem)) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	l := &loop{Provider: p, publish: publish, whole: true, copying: copying{spawn: wg.Go, written: make(chan outcome, 1)}}
	l.feeds = newFeeds(p.o, p.signal, func(run func(context.Context)) context.CancelFunc {
		own, end := context.WithCancel(ctx)
		wg.Go(func() { run(own) })
		return end
	})
	for {
		l.turn()
		if !p.settle(ctx, l) {
			return nil
		}
	}
}

func (p *Provider) signal() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// settle waits for a change, and then for quiet; false: ctx ended.
func (p *Provider) settle(ctx context.Context, l *loop) bool {
	select {
	case <-ctx.Done():
		return false
	case <-p.changed:
	case w := <-l.written:
		l.noteWritten(w)
		return true
	case <-l.due():
		return true
	}
	// After a turn that was dear there is a rest; a single change waits for quiet alone.
	rest := time.Until(l.ended.Add(costFactor * l.cost))
	last := time.After(max(patience, rest))
	for {
		select {
		case <-ctx.Done():
			return false
		case <-last:
			return true
		case <-time.After(max(quiet, time.Until(l.ended.Add(costFactor*l.cost)))):
			return true
		case <-p.changed:
		}
	}
}

// loop is what Run knows between two turns.
type loop struct {
	*Provider
	feeds      *feeds
	publish    func(config.Routing, []config.Problem)
	translator Translator
	last       Result
	began      bool          // anything was published
	copied     bool          // and that was the copy
	whole      bool          // the next turn translates everything
	cost       time.Duration // of the last turn
	ended      time.Time     // when that was
	waiting    time.Time     // since when a change waits for Secrets
	copying
}

// due comes when the next turn is wanted without a change.
func (l *loop) due() <-chan time.Time {
	switch {
	case !l.waiting.IsZero():
		return time.After(time.Until(l.waiting.Add(secretsWait)))
	case l.unsaved && !l.saving:
		return time.After(time.Until(l.saveAt))
	}
	return nil
}

// turn does what has become due.
func (l *loop) turn() {
	moved, more := l.feeds.news.take()
	l.whole = l.whole || more || !l.waiting.IsZero()
	switch {
	case l.whole:
		objects, complete := l.feeds.objects()
		if complete {
			l.take(objects)
		} else if !l.began {
			l.fromCopy(l.feeds.trouble())
		}
	case len(moved) > 0:
		l.move(moved)
	}
	l.save()
}

// move publishes what a change of endpoints alone comes to.
func (l *loop) move(services map[Name]bool) {
	start := time.Now()
	result, changed, ok := l.translator.Endpoints(l.last, services, l.feeds.news.slicesOf)
	if !ok {
		l.whole = true
		l.signal()
		return
	}
	l.unsaved = true
	if changed {
		l.publish(result.Routing, result.Problems())
		l.last = result
		l.o.Logger.Debug("endpoints moved", "services", len(services), "took", time.Since(start))
	}
	l.cost, l.ended = time.Since(start), time.Now()
}

// take translates objects and publishes what is new.
func (l *loop) take(o Objects) {
	start := time.Now()
	result := l.translator.Translate(o, l.o.Settings)
	l.feeds.follow(result.Secrets)
	if l.feeds.pending() {
		if l.waiting.IsZero() {
			l.waiting = start
		}
		if time.Since(l.waiting) < secretsWait {
			return
		}
	}
	l.waiting, l.whole = time.Time{}, false
	l.cost = time.Since(start)
	if !l.began || l.copied || !same(result, l.last) {
		l.publish(result.Routing, result.Problems())
		l.o.Logger.Info("ingresses read", "ingresses", len(result.Ours), "routers", len(result.Routing.Routers), "problems", len(result.Findings), "took", l.cost)
	}
	l.unsaved = true
	l.last, l.began, l.copied, l.ended = result, true, false, time.Now()
	if l.o.Found != nil {
		l.o.Found(result)
	}
}

func same(a, b Result) bool {
	if len(a.Findings) != len(b.Findings) {
		return false
	}
	for i := range a.Findings {
		if a.Findings[i].Problem != b.Findings[i].Problem {
			return false
		}
	}
	return reflect.DeepEqual(a.Routing, b.Routing)
}
