// Package pressure owns how near this process is to the memory it may use: the
// limit its cgroup sets, what it uses of it, and a level that others read
// before they take on more. It decides nothing for them.
package pressure

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Level says how much room is left.
type Level int32

// The levels, by what is to be done.
const (
	Calm  Level = iota
	Tight       // give back what can be given back: no connection is kept
	Full        // take on nothing new
)

// String is for logs.
func (l Level) String() string { return [...]string{"calm", "tight", "full"}[l] }

// A level is entered at its mark and left some points below it, so that it does
// not flutter.
const (
	tightAt    = 85 // percent of the limit
	fullAt     = 95
	hysteresis = 5
	every      = 250 * time.Millisecond
)

// step is the level that follows from what is used.
func step(now Level, used, limit int64) Level {
	percent := used * 100 / max(limit, 1)
	next := Calm
	switch {
	case percent >= fullAt, now == Full && percent >= fullAt-hysteresis:
		next = Full
	case percent >= tightAt, now >= Tight && percent >= tightAt-hysteresis:
		next = Tight
	}
	return next
}

// Options make a Watch.
type Options struct {
	Limit   int64        // bytes
	Used    func() int64 // bytes; called by Run's goroutine only
	Changed func(Level)  // nil: nobody is told; called by Run's goroutine
	Logger  *slog.Logger
}

// Watch keeps the level. A nil Watch is always Calm.
type Watch struct {
	opts  Options
	level atomic.Int32
}

// New makes a Watch; Run keeps it.
func New(o Options) *Watch { return &Watch{opts: o} }

// Level is the level now; it costs nothing to ask.
func (w *Watch) Level() Level {
	if w == nil {
		return Calm
	}
	return Level(w.level.Load())
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		used := w.opts.Used()
		was := w.Level()
		if now := step(was, used, w.opts.Limit); now != was {
			w.level.Store(int32(now))
			log := w.opts.Logger.Warn
			if now == Calm {
				log = w.opts.Logger.Info
			}
			log("memory pressure changed", "level", now.String(), "was", was.String(), "used", used, "limit", w.opts.Limit)
			if w.opts.Changed != nil {
				w.opts.Changed(now)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
