package cert

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/store"
)

const (
	defaultParallel = 8
	// planGap keeps a burst of changes from becoming a burst of plans; a long
	// plan is followed by a longer gap.
	planGap = 20 * time.Millisecond
	// planEvery bounds a sleep: after a suspended machine or a stepped clock
	// the plan is right again within this time.
	planEvery = 5 * time.Minute
)

// Options are what a Keeper is made of. Store, Index and Logger are required.
type Options struct {
	Store   store.Store
	Issuers []Issuer // IDs are distinct and valid key segments
	// Index is kept up to date with every certificate in the store.
	Index *Index
	// Replica names this process in what it stores.
	Replica string
	Logger  *slog.Logger
	// Pack is how many names that are wanted one by one (Want.FromRule) go into
	// one certificate, by issuer; none, or less than two: each has its own.
	Pack map[string]int
	// MaxParallel is how many orders this replica works on at once; 0: 8.
	MaxParallel int
}

// Keeper sees to it that every wanted certificate is there and stays valid.
// Every replica runs one; leases and re-reading make one order of it. All
// methods may be called from any goroutine.
type Keeper struct {
	store       store.Store
	issuers     map[string]Issuer
	index       *Index
	replica     string
	log         *slog.Logger
	maxParallel int
	pack        map[string]int
	changed     chan struct{} // capacity 1: something a plan depends on is new
	arrived     chan struct{} // capacity 1: there may be a certificate to ask the issuer about
	running     sync.WaitGroup
	tried       map[key]readAttempt // only seeAttempts touches it
	shared      map[[32]byte][]byte // intermediates, by SHA-256; only seeCertificates touches it
	read        map[key]readJournal // only seeJournals touches it

	serving  sync.Mutex // while the index is told, so that the last word is the last told
	mu       sync.Mutex
	listed   []Want // what Want was told; only if names are packed
	wants    []want
	rejected []Status // wants nobody can fulfil
	told     bool     // by Want, what is wanted: before, nothing is an orphan
	// What the store says; these maps are replaced, never changed.
	held        map[key]held
	present     map[key]*Certificate
	attempts    map[key]attempt
	journals    map[key]string    // how far the order is
	sweeps      map[key]time.Time // those that leave something behind, and from when on
	unread      map[key]string    // journals that cannot be read, and why
	ordered     map[key][]string  // names of orders under way; only if names are packed
	holders     map[key]string    // who holds the lease of the order
	requests    map[key]time.Time
	revocations map[key]revocation
	// Nothing is ordered before both were read: unknown is not absent.
	knowsCertificates, knowsAttempts, knowsJournals bool
	loaded                                          atomic.Bool // Index has them
	// This replica's own.
	renewals map[key]renewal
	pauses   map[key]time.Time
	turns    map[key]*turn
	orphans  map[key]orphan
	discards map[key]useless
	counts   map[countKey]uint64
}

// New makes a Keeper. It does nothing until Run; Want may be called before.
func New(o Options) *Keeper {
	k := &Keeper{
		store:       o.Store,
		issuers:     make(map[string]Issuer, len(o.Issuers)),
		index:       o.Index,
		replica:     o.Replica,
		log:         o.Logger,
		maxParallel: o.MaxParallel,
		pack:        o.Pack,
		changed:     make(chan struct{}, 1),
		arrived:     make(chan struct{}, 1),
		shared:      map[[32]byte][]byte{},
		renewals:    map[key]renewal{},
		pauses:      map[key]time.Time{},
		turns:       map[key]*turn{},
		counts:      map[countKey]uint64{},
	}
	if k.maxParallel <= 0 {
		k.maxParallel = defaultParallel
	}
	for _, i := range o.Issuers {
		k.issuers[i.ID()] = i
	}
	return k
}

// Want replaces the whole list of wanted certificates. It never blocks. A want
// that no issuer can fulfil is shown by Status and otherwise ignored;
// certificates nobody wants any more are served on but not renewed, and deleted
// from the store thirty days after their end.
func (k *Keeper) Want(list []Want) {
	wants, rejected := cleanWants(list, k.issuers)
	k.mu.Lock()
	if len(k.pack) == 0 {
		k.wants, k.rejected, k.told = wants, rejected, true
	} else {
		k.listed, k.rejected, k.told = cleaned(list), rejected, true
		if !k.ready() {
			k.wants = wants // to be packed once it is known what there is
		}
	}
	k.mu.Unlock()
	k.somethingToAsk()
	k.wake()
}

// cleaned is list with clean names, for pack; what cannot be cleaned stays, to
// be rejected.
func cleaned(list []Want) []Want {
	out := slices.Clone(list)
	for i := range out {
		if names, err := CleanNames(out[i].Names); err == nil {
			out[i].Names = names
		}
	}
	return out
}

// cleanWants merges wants for the same certificate and sorts out those that
// cannot be ordered.
func cleanWants(list []Want, issuers map[string]Issuer) (wants []want, rejected []Status) {
	at := map[key]int{}
	for _, w := range list {
		names, err := CleanNames(w.Names)
		var before []key
		for _, issuer := range append([]string{w.Issuer}, w.Fallback...) {
			if err == nil && issuers[issuer] == nil {
				err = fmt.Errorf("no issuer %q is configured (known: %s)", issuer,
					strings.Join(slices.Sorted(maps.Keys(issuers)), ", "))
			}
			if err != nil {
				rejected = append(rejected, Status{ID: ID(w.Names), Issuer: issuer, Names: slices.Clone(w.Names),
					State: StateFailed, Error: err.Error(), Sources: []string{w.Source}})
				break
			}
			kk := key{issuer, ID(names)}
			if slices.Contains(before, kk) {
				continue // named twice
			}
			if i, ok := at[kk]; ok {
				wants[i].join(w, before)
			} else {
				at[kk] = len(wants)
				wants = append(wants, want{key: kk, names: names, sources: []string{w.Source}, fromRule: w.FromRule, before: slices.Clone(before)})
			}
			before = append(before, kk)
		}
	}
	return wants, rejected
}

// join takes another Want for the same certificate in: whoever wants it first
// hand, or listed, makes it so.
func (w *want) join(other Want, before []key) {
	if !slices.Contains(w.sources, other.Source) {
		w.sources = append(w.sources, other.Source)
	}
	w.fromRule = w.fromRule && other.FromRule
	if len(before) < len(w.before) {
		w.before = slices.Clone(before)
	}
}

// Run keeps the certificates until ctx ends; then it gives its leases back and
// returns nil. It is called once.
func (k *Keeper) Run(ctx context.Context) error {
	for prefix, apply := range map[string]func([]store.Entry){ // they go by revisions, and there may be thousands
		certificatesPrefix: k.seeCertificates,
		attemptsPrefix:     k.seeAttempts,
		ordersPrefix:       k.seeJournals,
	} {
		k.running.Go(func() { k.watch(ctx, prefix, apply, store.ValuesOnce) })
	}
	for prefix, apply := range map[string]func([]store.Entry){
		requestsPrefix:               k.seeRequests,
		revocationsPrefix:            k.seeRevocations,
		store.LeaseKey(ordersPrefix): k.seeLeases,
	} {
		k.running.Go(func() { k.watch(ctx, prefix, apply) })
	}
	k.running.Go(func() { k.askRenewals(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			k.running.Wait()
			return nil
		case <-timer.C:
		case <-k.changed:
		}
		began := time.Now()
		k.index.Refresh()
		timer.Reset(k.reconcile(ctx))
		select {
		case <-ctx.Done():
		case <-time.After(max(planGap, 4*time.Since(began))):
		}
	}
}

// Loaded tells whether the certificates in the store were read once: what the
// index has is then what there is.
func (k *Keeper) Loaded() bool { return k.loaded.Load() }

// wake makes the loop plan again.
func (k *Keeper) wake() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// reconcile compares wanted with present, starts and cancels turns, and says
// how long the result holds if nothing changes.
func (k *Keeper) reconcile(ctx context.Context) (sleep time.Duration) {
	sleep = planEvery
	err := guard(func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !k.ready() || ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		if len(k.pack) > 0 {
			k.wants, k.rejected = cleanWants(pack(now, k.pack, k.listed, k.view()), k.issuers)
		}
		maps.DeleteFunc(k.pauses, func(_ key, until time.Time) bool { return !until.After(now) })
		actions := plan(now, k.view(), k.replica)
		k.keepOrphans(actions)
		k.keepDiscards(actions)
		k.cancelNeedless(actions)
		for _, a := range actions {
			if a.do != rest {
				k.dispatch(ctx, a)
			} else if d := a.at.Sub(now); !a.at.IsZero() && d < sleep {
				sleep = max(d, 0)
			}
		}
		return nil
	})
	if err != nil {
		k.logPanic("certificate plan panicked", err, "next", sleep)
	}
	return sleep
}

// ready: enough is known of what there is for a plan. k.mu is held.
func (k *Keeper) ready() bool {
	return k.knowsCertificates && k.knowsAttempts && (k.knowsJournals || len(k.pack) == 0)
}

// view gives the plan's input. k.mu is held.
func (k *Keeper) view() view {
	paused := map[string]time.Time{}
	for id, i := range k.issuers {
		if p, ok := i.(Pauser); ok {
			paused[id] = p.Paused()
		}
	}
	v := view{
		paused:      paused,
		wants:       k.wants,
		present:     k.present,
		attempts:    k.attempts,
		ordered:     k.ordered,
		journals:    k.journals,
		renewals:    maps.Clone(k.renewals),
		pauses:      maps.Clone(k.pauses),
		requests:    k.requests,
		revocations: k.revocations,
		issuers:     k.issuers,
		orphans:     k.orphans,
		holders:     k.holders,
		told:        k.told,
		rejected:    k.rejected,
		discards:    k.discards,
	}
	if len(k.pack) > 0 {
		v.ordered = maps.Clone(v.ordered)
		for kk, t := range k.turns { // before the watch tells of their journals
			if t.working && t.names != nil {
				v.ordered[kk] = t.names
			}
		}
	}
	if k.told {
		v.sweeps = k.sweeps
	}
	return v
}

// pause keeps this replica off a certificate for some time. It is for what is
// no attempt's failure; those are stored for all.
func (k *Keeper) pause(kk key, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if until.After(k.pauses[kk]) {
		k.pauses[kk] = until
	}
}

// panicError is a recovered panic, kept with its stack.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// guard turns a panic of one turn into an error, so that the loop lives on.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return f()
}

func (k *Keeper) logPanic(msg string, err error, args ...any) {
	args = append(args, "err", err)
	if p, ok := err.(*panicError); ok {
		args = append(args, "stack", string(p.stack))
	}
	k.log.Error(msg, args...)
}
