package route53

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/acme/dns"
)

// writer makes all changes of one zone. Wishes gather for a moment and go out
// as one change batch; while that is on its way the next ones gather.
type writer struct {
	id     string
	api    api
	log    *slog.Logger
	timing Timing

	mu      sync.Mutex
	queue   []*pending
	running bool
	sets    map[string]*belief
	settled chan struct{} // closed when the last change is INSYNC, or nobody waits for it
	asked   time.Time     // when that was asked for
	gather  time.Duration // how long the last wishes gathered
	size    int           // how many there were
	sent    time.Time     // when they had been sent
}

// pending is a wish somebody waits for.
type pending struct {
	wish
	ctx   context.Context
	done  chan error // one value
	stage atomic.Value
}

// submit hands a wish over and waits for its end, which is INSYNC for an
// addition, acceptance for a removal, or a *conflict.
func (w *writer) submit(ctx context.Context, in wish) error {
	p := &pending{wish: in, ctx: ctx, done: make(chan error, 1)}
	p.stage.Store("waiting for earlier changes")
	w.mu.Lock()
	w.queue = append(w.queue, p)
	if !w.running {
		w.running = true
		go w.run()
	}
	w.mu.Unlock()
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("route53 zone %s: %s: %w", w.id, p.stage.Load(), context.Cause(ctx))
	}
}

// mostGather times the first one is how long wishes gather at most.
const mostGather = 32

// aStream is how many wishes at once are taken for the beginning of many.
const aStream = 10

// pause says how long wishes gather: the first ones, and few, go out soon;
// where many keep coming it is longer each time, since a change takes Route 53
// half a minute anyway.
func (w *writer) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size >= aStream && time.Since(w.sent) < w.gather {
		w.gather = min(4*w.gather, mostGather*w.timing.Gather)
	} else {
		w.gather = w.timing.Gather
	}
	return w.gather
}

// run works the queue off.
func (w *writer) run() {
	for {
		time.Sleep(w.pause())
		w.mu.Lock()
		queue := slices.DeleteFunc(w.queue, func(p *pending) bool {
			err := dns.Held(p.ctx) // it may have been asked for long ago
			if err != nil {
				p.done <- err
			}
			return err != nil
		})
		w.queue = nil
		if len(queue) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		works := w.merge(queue)
		w.mu.Unlock()
		ctx, cancel := joint(queue)
		for _, chunk := range chunks(works) {
			w.send(ctx, chunk)
		}
		cancel()
		w.mu.Lock()
		w.sent, w.size = time.Now(), len(queue)
		if len(w.queue) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// merge makes one work of all wishes for a name. Names with nothing to do are
// done at once. The caller holds mu.
func (w *writer) merge(queue []*pending) []*work {
	byName := map[string][]*pending{}
	for _, p := range queue {
		byName[p.name] = append(byName[p.name], p)
	}
	var works []*work
	for name, ps := range byName {
		b := w.sets[name]
		if b == nil {
			b = &belief{}
			w.sets[name] = b
		}
		var wishes []wish
		for _, p := range ps {
			wishes = append(wishes, p.wish)
			if !p.add { // whatever comes of it, it is not to be kept
				b.live = slices.DeleteFunc(b.live, func(v string) bool { return v == p.value })
			}
		}
		wk := &work{name: name, wishes: ps, version: b.version}
		wk.from, wk.to, wk.upsert = plan(*b, wishes)
		if b.proven && !wk.upsert && wk.from.equal(wk.to) || len(wk.changes()) == 0 {
			finish(ps, nil)
			w.tidy(name)
			continue
		}
		works = append(works, wk)
	}
	slices.SortFunc(works, func(a, b *work) int { return strings.Compare(a.name, b.name) })
	return works
}

// send makes one change batch of the works. A refused batch changed nothing:
// who is to blame gets a conflict, the others are sent again without them.
func (w *writer) send(ctx context.Context, works []*work) {
	for len(works) > 0 {
		for _, wk := range works {
			for _, p := range wk.wishes {
				p.stage.Store("sending the change")
			}
		}
		id, err := w.api.change(ctx, w.id, works)
		if err == nil {
			w.accepted(id, works)
			return
		}
		messages, refused := invalidBatch(err)
		if !refused {
			for _, wk := range works {
				w.forget(wk) // a request without an answer may have been carried out
				finish(wk.wishes, err)
			}
			return
		}
		guilty := blame(messages, works)
		if len(guilty) == 0 && len(works) > 1 {
			w.send(ctx, works[:len(works)/2])
			works = works[len(works)/2:]
			continue
		}
		if len(guilty) == 0 {
			finish(works[0].wishes, err)
			return
		}
		works = slices.DeleteFunc(works, func(wk *work) bool {
			gone, is := guilty[wk]
			if is {
				w.refused(wk, gone, err)
			}
			return is
		})
	}
}

// accepted notes what is there now and ends the wishes in their own time.
func (w *writer) accepted(id string, works []*work) {
	var adds []*pending
	w.mu.Lock()
	for _, wk := range works {
		b := w.sets[wk.name]
		b.set, b.held, b.proven = wk.to, true, true
		b.version++
		for _, p := range wk.wishes {
			if p.add {
				if !slices.Contains(b.live, p.value) {
					b.live = append(b.live, p.value)
				}
				adds = append(adds, p)
			} else {
				p.done <- nil
			}
		}
		w.tidy(wk.name)
	}
	w.mu.Unlock()
	if len(adds) > 0 {
		t := w.turn()
		go w.settle(id, adds, t)
	}
}

// turn is a change's place among those that are on their way.
type turn struct {
	before <-chan struct{} // the one before is there; nil: there is none
	gap    time.Duration   // it was asked for so much earlier
	done   chan struct{}
}

func (w *writer) turn() turn {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := turn{before: w.settled, gap: time.Since(w.asked), done: make(chan struct{})}
	w.settled, w.asked = t.done, time.Now()
	return t
}

// refused corrects the belief as far as the refusal tells.
func (w *writer) refused(wk *work, gone bool, err error) {
	w.mu.Lock()
	b := w.sets[wk.name]
	if b == nil {
		b = &belief{}
		w.sets[wk.name] = b
	}
	if b.version == wk.version { // else somebody found out more meanwhile
		b.version++
		b.set, b.held, b.proven = rrset{}, gone, gone
		if gone {
			b.live = nil
		}
	}
	c := &conflict{gone: gone, wanted: wk.to, version: b.version, err: err}
	if len(wk.to.values) > 0 {
		c.wanted = wk.to.with(b.live, wk.to.ttl)
	}
	w.mu.Unlock()
	finish(wk.wishes, c)
}

// believe sets the belief after a conflict, unless somebody found out more
// since.
func (w *writer) believe(name string, c *conflict, set rrset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sets[name]
	if b == nil {
		b = &belief{version: c.version}
		w.sets[name] = b
	}
	if !b.held || b.version == c.version {
		b.version++
		b.set, b.held, b.proven = set, true, false
	}
}

// forget drops the belief: nobody knows whether the request was carried out.
func (w *writer) forget(wk *work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.sets[wk.name]; b != nil {
		b.set, b.held, b.proven = rrset{}, false, false
		b.version++
	}
}

// tidy lets go of names where nothing is left. The caller holds mu.
func (w *writer) tidy(name string) {
	if b := w.sets[name]; b != nil && len(b.live) == 0 && len(b.set.values) == 0 {
		delete(w.sets, name)
	}
}

// mostTurn is how long a change waits for the one before it.
const mostTurn = time.Minute

// settle waits for INSYNC. If GetChange itself does not work, the change is
// accepted all the same: the propagation check comes next. Changes take about
// equally long, so each is asked for only when the one before it is there.
func (w *writer) settle(id string, adds []*pending, t turn) {
	defer close(t.done)
	for _, p := range adds {
		p.stage.Store("change " + id + " is PENDING")
	}
	ctx, cancel := joint(adds)
	defer cancel()
	wait, most := w.timing.Poll, 4*w.timing.Poll
	if len(adds) >= aStream {
		most *= 2 // requests count for more than seconds
	}
	if t.before != nil {
		late := time.NewTimer(mostTurn)
		defer late.Stop()
		select {
		case <-ctx.Done():
			return
		case <-late.C:
		case <-t.before:
			wait = min(wait, t.gap)
		}
	}
	for {
		if sleep(ctx, wait) != nil {
			return // everybody left
		}
		insync, err := w.api.insync(ctx, id)
		if err != nil && ctx.Err() == nil {
			w.log.Warn("could not ask how the change fares; going on", "change", id, "zone", w.id, "error", err)
		}
		if insync || err != nil {
			finish(adds, nil)
			return
		}
		wait = min(max(2*wait, w.timing.Poll), most)
	}
}

func finish(ps []*pending, err error) {
	for _, p := range ps {
		p.done <- err
	}
}

// joint is a context that ends when all who wait have left.
func joint(ps []*pending) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ps[0].ctx))
	left := new(atomic.Int64)
	left.Store(int64(len(ps)))
	stops := make([]func() bool, 0, len(ps))
	for _, p := range ps {
		stops = append(stops, context.AfterFunc(p.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
