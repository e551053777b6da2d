package acme

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/store"
)

// Where replicas say that they answer challenges, and which they have in
// memory.
const (
	answeringPrefix = "answering"
	seenPrefix      = "seen"
)

const (
	// barrierWithin is the longest a CA is kept waiting for a replica: one that
	// has not seen a challenge by then still reads it when it is asked for it.
	barrierWithin = 2 * time.Second
	barrierLook   = 50 * time.Millisecond
	seenPause     = 20 * time.Millisecond // between two writes of what was seen
	seenAgain     = time.Second           // after one that failed
)

// Barrier keeps an order from telling the CA of a challenge that a live replica
// would not know: each replica's Barrier says which challenges its Responder has
// in memory, and Wait waits until all have said so of those given.
type Barrier struct {
	store     store.Store
	replica   string
	responder *Responder
	log       *slog.Logger
}

// NewBarrier makes one; it says what r has seen while it runs.
func NewBarrier(st store.Store, replica string, r *Responder, log *slog.Logger) *Barrier {
	return &Barrier{store: st, replica: replica, responder: r, log: log}
}

// Run says what this replica has seen until ctx ends, whose error it returns.
func (b *Barrier) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		if err := b.store.Announce(ctx, answeringPrefix+"/"+b.replica, []byte(b.replica)); err != nil && ctx.Err() == nil {
			b.log.Error("it cannot be announced that this replica answers challenges", "err", err, "next", "orders of others do not wait for it")
		}
	})
	b.forgetDead(ctx)
	var have store.Revision
	said, told := "", false
	for ctx.Err() == nil {
		pause := seenPause
		if text := sums(*b.responder.pending.Load()); text != said || have == "" {
			rev, err := b.say(ctx, text, have)
			if err == nil {
				have, said, told = rev, text, false
			} else if pause = seenAgain; !told && ctx.Err() == nil {
				told = true
				b.log.Warn("it cannot be told which challenges this replica has seen", "err", err, "next", "orders wait for it "+barrierWithin.String()+" at most")
			}
		}
		store.Sleep(ctx, pause)
		select {
		case <-ctx.Done():
		case <-b.responder.news:
		case <-time.After(time.Hour):
		}
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if have != "" {
		_ = b.store.Delete(ending, seenPrefix+"/"+b.replica, have) // another does it otherwise
	}
	return ctx.Err()
}

// say writes what was seen; a value of another process of our name is put over.
func (b *Barrier) say(ctx context.Context, text string, have store.Revision) (store.Revision, error) {
	key := seenPrefix + "/" + b.replica
	rev, err := b.store.Put(ctx, key, []byte(text), have)
	if !errors.Is(err, store.ErrConflict) {
		return rev, err
	}
	e, err := b.store.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	return b.store.Put(ctx, key, []byte(text), e.Revision)
}

// forgetDead removes what replicas said that are no more: nobody reads it.
func (b *Barrier) forgetDead(ctx context.Context) {
	seen, err := store.List(ctx, b.store, seenPrefix)
	if err != nil {
		return
	}
	live, err := store.List(ctx, b.store, answeringPrefix)
	if err != nil {
		return
	}
	for _, e := range seen {
		name := strings.TrimPrefix(e.Key, seenPrefix+"/")
		if name != b.replica && !slices.ContainsFunc(live, func(l store.Entry) bool { return l.Key == answeringPrefix+"/"+name }) {
			_ = b.store.Delete(ctx, e.Key, e.Revision)
		}
	}
}

// Wait returns once every live replica has the entries in memory, after two
// seconds at most, or with ctx. It never fails: who has not seen an entry reads
// it when asked for it.
func (b *Barrier) Wait(ctx context.Context, keys []string) {
	ctx, cancel := context.WithTimeout(ctx, barrierWithin)
	defer cancel()
	want := make([]string, len(keys))
	for i, k := range keys {
		want[i] = sum(k)
	}
	for {
		missing, err := b.missing(ctx, want)
		if err == nil && len(missing) == 0 {
			return
		}
		if !store.Sleep(ctx, barrierLook) {
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				b.log.Warn("the CA is told of a challenge not every replica has seen", "replicas", missing, "err", err,
					"next", "they look it up when they are asked for it")
			}
			return
		}
	}
}

// missing names the live replicas that have not seen all of want.
func (b *Barrier) missing(ctx context.Context, want []string) ([]string, error) {
	live, err := store.List(ctx, b.store, answeringPrefix)
	if err != nil {
		return nil, err
	}
	seen, err := store.List(ctx, b.store, seenPrefix)
	if err != nil {
		return nil, err
	}
	by := make(map[string]string, len(seen))
	for _, e := range seen {
		by[strings.TrimPrefix(e.Key, seenPrefix+"/")] = string(e.Value)
	}
	var missing []string
	for _, e := range live {
		name := strings.TrimPrefix(e.Key, answeringPrefix+"/")
		if slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(by[name], w) }) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// sums is what a replica says it has seen: a hash of each key, a line each.
func sums(pending map[string]entry) string {
	lines := make([]string, 0, len(pending))
	for key := range pending {
		lines = append(lines, sum(key))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func sum(key string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return strconv.FormatUint(h.Sum64()|1<<63, 16)
}
