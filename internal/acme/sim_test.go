package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
	"gatehouse/internal/killpoint"
	"gatehouse/internal/store"
)

var (
	simSeeds = flag.Int("sim.seeds", 0, "seeds of the simulation; 0: 60, 30 under the race detector, 20 with -short")
	simSeed  = flag.Uint64("sim.seed", 0, "only this seed")
)

// TestSimulation runs whole replicas (keeper, issuer, responder) over one store
// and one CA under a plan of faults that the seed gives: deaths at any point,
// stops, partitions, lost requests and answers, a CA and a DNS that are down.
// Once the faults end everything must come to rest: every name has its
// certificate, each from one order, no key was lost and nothing is left over.
func TestSimulation(t *testing.T) {
	seeds := *simSeeds
	switch {
	case seeds > 0:
	case testing.Short():
		seeds = 20
	case raceDetector: // it takes four times as long
		seeds = 30
	default:
		seeds = 60
	}
	first := uint64(1)
	if *simSeed > 0 {
		first, seeds = *simSeed, 1
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a fifth of its time
	var all simTotals
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed < first+uint64(seeds); seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { all.add(simulate(t, seed)) })
			})
		}
	})
	t.Logf("%d seeds: %d deaths, %d stops, %d partitions; %d certificates, newOrder/certificate %.4f, orders made/certificate %.4f",
		seeds, all.deaths, all.stops, all.cuts, all.issued, float64(all.newOrders)/float64(max(all.issued, 1)),
		float64(all.made)/float64(max(all.issued, 1)))
	if all.issued >= 1000 && float64(all.newOrders) > 1.02*float64(all.issued)+float64(all.excused) {
		t.Errorf("newOrder mean over 1.02: %d for %d certificates, of them %d excused", all.newOrders, all.issued, all.excused)
	}
}

type simTotals struct {
	mu                                                    sync.Mutex
	deaths, stops, cuts, issued, newOrders, made, excused int
}

func (a *simTotals) add(b *simWorld) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deaths, a.stops, a.cuts = a.deaths+b.deaths, a.stops+b.stops, a.cuts+b.cuts
	a.excused += b.excused
	b.ca.Seen(func(c *smallca.Counts) {
		a.issued += len(c.Issued)
		for _, n := range c.NewOrders {
			a.newOrders += n
		}
		for _, n := range c.Orders {
			a.made += n
		}
	})
}

// simWorld is one seed's.
type simWorld struct {
	t    *testing.T
	seed uint64
	mem  *store.Mem
	ca   *smallca.CA
	dns  *simDNS
	kind string
	life time.Duration

	log     syncBuffer
	wants   []cert.Want
	faulty  bool // the plan is running
	model   limitModel
	gone    [][]string // names that are not wanted any more
	silent  bool       // nobody tells what is wanted
	pack    int        // names in a certificate; 0: as wanted
	forgets bool       // the CA makes an order anew each time it is asked
	second  bool       // each certificate is wanted for a second kind of key too
	delay   func(step string) time.Duration

	mu                           sync.Mutex
	rng                          *rand.Rand
	replicas                     []*simReplica
	stored                       map[string]string // serial: key it was stored under
	epochs                       map[string]uint64 // of the last accepted write, by key
	deaths, stops, cuts, excused int
	refused                      int // validations that failed
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("certificate in service")) {
		return len(p), nil // said by every replica of each
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// simReplica is one life of one process.
type simReplica struct {
	w         *simWorld
	name      string
	mem       *store.Replica
	responder *Responder
	keeper    *cert.Keeper
	cancel    context.CancelFunc
	done      chan struct{}

	mu      sync.Mutex
	fuse    int    // points until it dies; negative: never
	dies    string // the point before which it does
	dead    bool
	cut     bool
	stopped time.Time // until
}

func (w *simWorld) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.Float64() < p
}

func (w *simWorld) upTo(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rng.Int64N(int64(d) + 1))
}

func (w *simWorld) pick(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

func (r *simReplica) do(point string, act func() error) error {
	if err := r.alive(); err != nil {
		return err
	}
	if r.step(point, false) {
		return errDead
	}
	err := act()
	if dead := r.step(point, true); dead || r.alive() != nil {
		return errDead
	}
	return err
}

// alive waits while the process is stopped.
func (r *simReplica) alive() error {
	r.mu.Lock()
	dead, until := r.dead, r.stopped
	r.mu.Unlock()
	if dead {
		return errDead
	}
	if d := time.Until(until); d > 0 {
		time.Sleep(d)
	}
	return nil
}

// step burns the fuse.
func (r *simReplica) step(point string, after bool) (dies bool) {
	r.mu.Lock()
	if point == r.dies {
		r.fuse = 0
	}
	if r.dead || r.fuse < 0 || strings.HasPrefix(point, "get ") {
		defer r.mu.Unlock()
		return r.dead
	}
	if r.fuse--; r.fuse >= 0 {
		r.mu.Unlock()
		return false
	}
	r.dead = true
	r.mu.Unlock()
	r.w.note(func() {
		r.w.deaths++
		if point == "CA newOrder" && after || point == "put orders" && !after {
			r.w.excused++
		}
	})
	fmt.Fprintf(&r.w.log, "%s DIES %s at %s (after: %v)\n", time.Now().Format(time.TimeOnly), r.name, point, after)
	r.mem.Kill() // first: what it holds is not given back
	r.cancel()
	return true
}

func (w *simWorld) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// recorder sees every write the store accepts.
type recorder struct {
	store.Store
	w *simWorld
}

func (s recorder) Acquire(ctx context.Context, name string) (store.Lease, error) {
	l, err := s.Store.Acquire(ctx, name)
	if err != nil {
		return nil, err
	}
	return recordedLease{l, s.w}, nil
}

type recordedLease struct {
	store.Lease
	w *simWorld
}

func (l recordedLease) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	rev, err := l.Lease.Put(ctx, key, value, have)
	if err == nil {
		l.w.accepted(key, value, l.Epoch())
	}
	return rev, err
}

// accepted checks that no write follows one of a later owner, and remembers
// which certificates were stored.
func (w *simWorld) accepted(key string, value []byte, epoch uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	owned := strings.HasPrefix(key, "orders/") || strings.HasPrefix(key, "certificates/")
	if owned && epoch < w.epochs[key] {
		w.t.Errorf("seed %d: a stale write to %s: epoch %d after %d", w.seed, key, epoch, w.epochs[key])
	}
	w.epochs[key] = epoch
	if !strings.HasPrefix(key, "certificates/") {
		return
	}
	var rec struct{ Chain string }
	if json.Unmarshal(value, &rec) == nil {
		if block, _ := pem.Decode([]byte(rec.Chain)); block != nil {
			if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
				w.stored[leaf.SerialNumber.Text(16)] = key
			}
		}
	}
}

// simDNS is a zone in memory.
type simDNS struct {
	w *simWorld

	mu      sync.Mutex
	records map[string]bool
	down    time.Time
}

func (d *simDNS) Plan(_ context.Context, domain, value string) (dns.Record, error) {
	rec := dns.Record{Zone: "example.com", Name: "_acme-challenge." + domain, Value: value, TTL: time.Second}
	return rec, d.work()
}

func (d *simDNS) work() error {
	time.Sleep(d.w.upTo(300 * time.Millisecond))
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Now().Before(d.down) {
		return errors.New("the DNS provider is down")
	}
	return nil
}

func (d *simDNS) Present(_ context.Context, rec dns.Record) error {
	if err := d.work(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records[rec.Name+" "+rec.Value] = true
	return nil
}

func (d *simDNS) CleanUp(_ context.Context, rec dns.Record) error {
	if err := d.work(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.records, rec.Name+" "+rec.Value)
	return nil
}

func (d *simDNS) Sweep(ctx context.Context, recs []dns.Record) []dns.Swept {
	return dns.NewSolver(dns.SolverOptions{Provider: d}).Sweep(ctx, recs)
}

func (d *simDNS) Wait(ctx context.Context, recs []dns.Record) error {
	if err := sleep(ctx, d.w.upTo(5*time.Second)); err != nil {
		return err
	}
	if !d.Seen(ctx, recs) {
		return errors.New("not all records can be seen")
	}
	return nil
}

func (d *simDNS) Seen(_ context.Context, recs []dns.Record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, rec := range recs {
		if !d.records[rec.Name+" "+rec.Value] {
			return false
		}
	}
	return true
}

// validate is the CA's look at the world.
func (w *simWorld) validate(kind, name, token, keyAuth string) error {
	err := w.look(kind, name, token, keyAuth)
	if err != nil {
		w.note(func() { w.refused++ })
		fmt.Fprintf(&w.log, "%s the CA refused %s: %v\n", time.Now().Format(time.TimeOnly), name, err)
	}
	return err
}

func (w *simWorld) look(kind, name, token, keyAuth string) error {
	if kind == dns01 {
		w.dns.mu.Lock()
		defer w.dns.mu.Unlock()
		if !w.dns.records["_acme-challenge."+name+" "+keyAuth] {
			return fmt.Errorf("no TXT record at _acme-challenge.%s", name)
		}
		return nil
	}
	r := w.anyHealthy()
	if r == nil {
		return errors.New("connection refused")
	}
	rec := httptest.NewRecorder()
	r.responder.Handler(http.NotFoundHandler()).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, challengeURL+token, nil))
	if rec.Code != http.StatusOK || rec.Body.String() != keyAuth {
		return fmt.Errorf("%s answers %d at %s", r.name, rec.Code, challengeURL+token)
	}
	return nil
}

// anyHealthy is what a load balancer does: replicas that are dead, stopped or
// know themselves to be cut off get nothing.
func (w *simWorld) anyHealthy() *simReplica {
	w.mu.Lock()
	defer w.mu.Unlock()
	var fit []*simReplica
	for _, r := range w.replicas {
		r.mu.Lock()
		if !r.dead && !r.cut && !time.Now().Before(r.stopped) {
			fit = append(fit, r)
		}
		r.mu.Unlock()
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[w.rng.IntN(len(fit))]
}

// boot starts replica n.
func (w *simWorld) boot(n int) *simReplica {
	r := &simReplica{w: w, name: fmt.Sprintf("r%d", n+1), fuse: -1, done: make(chan struct{})}
	r.mem = w.mem.Replica(r.name)
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelInfo})).With("r", r.name)
	st := killpoint.Store(recorder{r.mem, w}, r.do)
	o := Options{ID: "sim", Directory: w.ca.Directory(), Challenge: w.kind, DNS: pointDNS{w.dns, r.do}, Store: st, Logger: log}
	c := newClient(o.Directory, "sim", nil)
	c.wire = &transport{base: smallca.Wire{CA: w.ca, Fault: w.wire}}
	c.http.Transport = c.wire
	if w.second {
		o.Beside = []string{"sim-second"}
	}
	issue := func(o Options) *Issuer {
		i := assemble(o, pointCA{c, r.do}, func() {})
		i.lists, i.pace.model = c, w.model
		return i
	}
	i := issue(o)
	issuers := []cert.Issuer{i}
	if w.second {
		o.ID, o.Account, o.Beside, o.KeyType = "sim-second", "sim", []string{"sim"}, EC384
		issuers = append(issuers, issue(o))
	}
	index, err := cert.NewIndex(cert.IndexOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	packs := map[string]int{"sim": w.pack}
	if w.pack == 0 {
		packs = nil
	}
	r.keeper = cert.New(cert.Options{Store: st, Issuers: issuers, Index: index, Replica: r.name, Logger: log, Pack: packs})
	if !w.silent {
		r.keeper.Want(w.wants)
	}
	r.responder = NewResponder(st, log)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	var running sync.WaitGroup
	running.Go(func() { _ = r.keeper.Run(ctx) })
	running.Go(func() { _ = r.responder.Run(ctx) })
	running.Go(func() { _ = i.FollowLimits(ctx) })
	go func() { running.Wait(); i.Close(); close(r.done) }()
	return r
}

// wire is what happens to requests while the plan runs.
func (w *simWorld) wire(step string) smallca.Fault {
	f := smallca.Fault{Delay: w.upTo(150 * time.Millisecond)}
	if w.delay != nil {
		f.Delay = w.delay(step)
	}
	if !w.isFaulty() {
		return f
	}
	switch {
	case w.chance(0.02):
		f.Undone = true
	case w.chance(0.02):
		f.Lost = true
		if step == "newOrder" {
			w.note(func() { w.excused++ })
		}
	}
	return f
}

func (w *simWorld) isFaulty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faulty
}

func simulate(t *testing.T, seed uint64) *simWorld {
	w := &simWorld{t: t, seed: seed, mem: store.NewMem(0), rng: rand.New(rand.NewPCG(seed, 0)),
		stored: map[string]string{}, epochs: map[string]uint64{}, faulty: true}
	w.dns = &simDNS{w: w, records: map[string]bool{}}
	w.kind = []string{dns01, http01}[w.pick(2)]
	w.life = []time.Duration{10 * time.Minute, time.Hour, 6 * 24 * time.Hour}[w.pick(3)]
	anew, lists := w.pick(3) == 0, w.pick(2) == 0
	w.forgets = anew // with a list too: it cannot be read while there are faults
	w.ca = smallca.New(smallca.Options{
		URL: fmt.Sprintf("https://ca-%d.test", seed), Lifetime: w.life, Validate: w.validate,
		Validation: w.upTo(5 * time.Second), Issuance: w.upTo(5 * time.Second),
		AuthzReuse: time.Duration(w.pick(2)) * time.Hour, ForgetOrders: anew, ListOrders: lists, Retry: w.life / 20,
	})
	for n := range 2 + w.pick(5) {
		names := []string{fmt.Sprintf("n%d.example.com", n)}
		if w.chance(0.3) {
			names = append(names, "www."+names[0])
		}
		if w.kind == dns01 && w.chance(0.3) {
			names = append(names, "*."+names[0])
		}
		w.wants = append(w.wants, cert.Want{Names: names, Issuer: "sim", Source: "sim"})
	}
	count := []int{3, 5}[w.pick(2)]
	for n := range count {
		w.replicas = append(w.replicas, w.boot(n))
	}
	w.rage(w.life * 2)
	w.abandon()
	w.settle()
	w.swept()
	w.check()
	for _, r := range w.replicas {
		r.cancel()
		<-r.done
	}
	time.Sleep(time.Minute) // what is on the wire arrives
	if t.Failed() {
		text := w.log.String()
		t.Logf("seed %d: go test ./internal/acme -run TestSimulation -sim.seed %d\n%s", seed, seed, text[max(0, len(text)-20000):])
	}
	return w
}

// rage is the plan of faults: something every now and then, so that each
// generation meets some of them.
func (w *simWorld) rage(whole time.Duration) {
	end := time.Now().Add(whole)
	for time.Now().Before(end) {
		// Half of the faults fall where work is done: soon after the last one.
		pause := w.upTo(10 * time.Second)
		if w.chance(0.3) {
			pause = w.upTo(w.life / 8)
		}
		time.Sleep(pause)
		n := w.pick(len(w.replicas))
		r := w.replicas[n]
		switch w.pick(8) {
		case 0, 1, 2:
			r.mu.Lock()
			if r.fuse < 0 {
				r.fuse = w.pick(25)
			}
			r.mu.Unlock()
		case 3:
			w.stop(r, w.upTo(20*time.Second))
		case 4:
			w.cutOff(r, true)
		case 5:
			w.heal()
		case 6:
			status := []int{503, 500, 502}[w.pick(3)]
			w.ca.Say(func(string) int { return status })
			time.Sleep(w.upTo(2 * time.Minute))
			w.ca.Say(nil)
		case 7:
			w.dns.mu.Lock()
			w.dns.down = time.Now().Add(w.upTo(time.Minute))
			w.dns.mu.Unlock()
		}
		w.reboot()
	}
}

func (w *simWorld) stop(r *simReplica, d time.Duration) {
	w.note(func() { w.stops++ })
	r.mu.Lock()
	r.stopped = time.Now().Add(d)
	r.mu.Unlock()
	if d > 5*time.Second {
		r.mem.Expire()
	}
}

func (w *simWorld) cutOff(r *simReplica, cut bool) {
	r.mu.Lock()
	changed := r.cut != cut
	r.cut = cut
	r.mu.Unlock()
	if changed && cut {
		w.note(func() { w.cuts++ })
	}
	r.mem.Partition(cut)
}

func (w *simWorld) heal() {
	for _, r := range w.replicas {
		w.cutOff(r, false)
	}
}

// reboot starts the dead again, most of the time.
func (w *simWorld) reboot() {
	for n, r := range w.replicas {
		r.mu.Lock()
		dead := r.dead
		r.mu.Unlock()
		if dead && w.chance(0.7) {
			<-r.done
			next := w.boot(n)
			w.note(func() { w.replicas[n] = next })
		}
	}
}

// settle ends the faults and gives everything time to come to rest.
func (w *simWorld) settle() {
	w.note(func() { w.faulty = false })
	w.heal()
	for n, r := range w.replicas {
		r.mu.Lock()
		r.fuse = -1
		dead := r.dead
		r.mu.Unlock()
		if dead {
			<-r.done
			next := w.boot(n)
			w.note(func() { w.replicas[n] = next })
		}
	}
}

// check waits until nothing is left to do, and judges.
func (w *simWorld) check() {
	deadline := time.Now().Add(8 * time.Hour)
	var trouble []string
	for {
		if trouble = w.unrest(); len(trouble) == 0 {
			break
		}
		if time.Now().After(deadline) {
			w.t.Errorf("seed %d: 8 h after the last fault: %v", w.seed, trouble)
			return
		}
		time.Sleep(time.Second)
	}
	w.ca.Seen(func(c *smallca.Counts) {
		for _, i := range c.Issued {
			if w.stored[i.Serial] == "" && !expiredUnseen(c, i) && !w.inJournal(i) {
				w.t.Errorf("seed %d: certificate %s for %s of %s was issued and is lost", w.seed, i.Serial, i.Names, i.At.Format(time.DateTime))
			}
		}
		w.generations(c)
		if w.forgets || w.refused > 0 {
			return // an order more is the CA's doing
		}
		for names, orders := range c.Orders {
			if w.isGone(names) {
				continue // begun, and not always ended
			}
			if orders != c.Finalized[names] {
				w.t.Errorf("seed %d: %d orders and %d certificates for %s", w.seed, orders, c.Finalized[names], names)
			}
		}
	})
}

// expiredUnseen: every replica was cut off from the store from its issuance to
// its end, so that the next one is ordered after that.
func expiredUnseen(c *smallca.Counts, lost *smallca.Issued) bool {
	return !slices.ContainsFunc(c.Issued, func(i *smallca.Issued) bool {
		return i.Names == lost.Names && i.At.After(lost.At) && i.At.Before(lost.Leaf.NotAfter)
	})
}

// generations: no certificate was ordered while the one before was not due.
func (w *simWorld) generations(c *smallca.Counts) {
	last := map[string]*smallca.Issued{}
	for _, i := range c.Issued {
		if before := last[i.Names]; before != nil {
			due := before.Leaf.NotBefore.Add(w.life / 4)
			if i.Signed.Before(due) { // an order that was lost may be found, and used, a generation later
				w.t.Errorf("seed %d: %s has two certificates of one generation: %s of %s, %s of %s", w.seed, i.Names,
					before.Serial, before.Signed.Format(time.DateTime), i.Serial, i.Signed.Format(time.DateTime))
			}
		}
		last[i.Names] = i
	}
}

// unrest tells what is not done yet.
func (w *simWorld) unrest() (trouble []string) {
	entries, err := store.List(context.Background(), w.mem.Replica("looker"), "")
	if err != nil {
		return []string{err.Error()}
	}
	valid := map[string]bool{}
	for _, e := range entries {
		switch kind, _, _ := strings.Cut(e.Key, "/"); kind {
		case "orders":
			if !w.isGoneKey(e.Key) { // those are judged by what they presented
				trouble = append(trouble, e.Key)
			}
		case "challenges":
			trouble = append(trouble, e.Key)
		case "certificates":
			if !w.isGoneKey(e.Key) {
				valid[e.Key] = true
			}
		}
	}
	for _, r := range w.replicas {
		for _, s := range r.keeper.Status() {
			if s.State != cert.StateValid {
				trouble = append(trouble, fmt.Sprintf("%s: %v %s %s next %s", r.name, s.Names, s.State, s.Error, s.NextAttempt.Format(time.TimeOnly)))
			}
		}
	}
	if len(valid) < len(w.wants) {
		trouble = append(trouble, fmt.Sprintf("%d of %d certificates", len(valid), len(w.wants)))
	}
	w.dns.mu.Lock()
	for rec := range w.dns.records {
		trouble = append(trouble, rec)
	}
	w.dns.mu.Unlock()
	slices.Sort(trouble)
	return trouble
}
