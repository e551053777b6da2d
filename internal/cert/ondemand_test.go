package cert

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/store"
)

// startOnDemand runs one with an index that tells it.
func startOnDemand(t *testing.T, st store.Store, change func(*OnDemandOptions)) (*OnDemand, *Index) {
	t.Helper()
	o := OnDemandOptions{Store: st, PerMinute: 10, Most: 100, Logger: slog.New(slog.DiscardHandler), Changed: func() {}}
	change(&o)
	d := NewOnDemand(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return d, must(NewIndex(IndexOptions{Unknown: d.Note}))
}

func hear(x *Index, name string) {
	_, _ = x.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
}

// Only what the list permits is let in, at a bounded rate, and all replicas
// know.
func TestOnDemandAllowList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		allow := func(o *OnDemandOptions) { o.Allow = []string{"*.customers.example", "shop.example"} }
		a, x := startOnDemand(t, mem.Replica("a"), allow)
		b, _ := startOnDemand(t, mem.Replica("b"), allow)
		time.Sleep(time.Second)
		for _, name := range []string{"One.customers.example", "shop.example", "other.example", "a.b.customers.example", "customers.example",
			"*.customers.example", "bad_.-name.customers.example", "10.0.0.1", "", "localhost"} {
			hear(x, name)
		}
		time.Sleep(time.Second)
		want := []string{"one.customers.example", "shop.example"}
		for who, d := range map[string]*OnDemand{"a": a, "b": b} {
			if diff := cmp.Diff(want, d.Names()); diff != "" {
				t.Errorf("%s: %s", who, diff)
			}
		}
		for i := range 90 { // ten a minute, two of them used up
			hear(x, fmt.Sprintf("n%d.customers.example", i))
		}
		time.Sleep(time.Second)
		if n := len(b.Names()); n != 10 {
			t.Errorf("%d names after a burst, want 10", n)
		}
		// A name whose permission is taken back is wanted no more.
		c, _ := startOnDemand(t, mem.Replica("c"), func(o *OnDemandOptions) { o.Allow = []string{"shop.example"} })
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"shop.example"}, c.Names()); diff != "" {
			t.Error(diff)
		}
	})
}

// Whoever sends names that cannot be let in fills neither the log nor the time
// of the store, and no log has what is in the ask URL's query.
func TestOnDemandUnderMadeUpNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &syncBuffer{}
		_, x := startOnDemand(t, store.NewMem(0).Replica("a"), func(o *OnDemandOptions) {
			o.Ask, o.Logger = "http://127.0.0.1:1/?token=s3cret", slog.New(slog.NewTextHandler(log, nil))
		})
		time.Sleep(time.Second)
		for i := range 500 {
			hear(x, fmt.Sprintf("n%d.example", i))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		hear(x, "last.example")
		time.Sleep(time.Second)
		if n := strings.Count(log.String(), "name is not let in"); n != 2 {
			t.Errorf("told %d times within 71 s, want twice", n)
		}
		if strings.Contains(log.String(), "s3cret") || !strings.Contains(log.String(), "127.0.0.1:1 does not answer") {
			t.Errorf("log:\n%s", log)
		}
	})
}

// The replicas have one budget between them. One that cannot write it has a
// share, and none of it if the whole is used up.
func TestOnDemandBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		replicas := []*store.Replica{mem.Replica("a"), mem.Replica("b"), mem.Replica("c")}
		var all []*Index
		var last *OnDemand
		for _, r := range replicas {
			go func() { _ = r.Announce(t.Context(), "members/"+fmt.Sprint(r), []byte("x")) }()
			d, x := startOnDemand(t, r, func(o *OnDemandOptions) { o.Allow, o.Most, o.PerMinute = []string{"*.c.example"}, 1000, 12 })
			all, last = append(all, x), d
		}
		time.Sleep(time.Second)
		n := 0
		hammer := func(x *Index) {
			for range 20 {
				n++
				hear(x, fmt.Sprintf("n%d.c.example", n))
			}
			time.Sleep(500 * time.Millisecond)
		}
		for _, x := range all {
			hammer(x)
		}
		if got := len(last.Names()); got != 12 {
			t.Errorf("%d names let in by three replicas, want 12", got)
		}
		time.Sleep(time.Minute)
		for range 4 {
			for _, x := range all {
				hammer(x)
			}
		}
		if got := len(last.Names()); got < 23 || got > 25 { // a full bucket, and what came in meanwhile
			t.Errorf("%d names after a minute, want 24", got)
		}
	})
}

func TestBudgetWithoutAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := store.NewMem(0).Replica("a")
		b := budget{store: r, perMinute: 12, replicas: func() int { return 3 }}
		r.Partition(true)
		count := func() (n int) {
			for range 20 {
				if b.take(t.Context()) == nil {
					n++
				}
			}
			return n
		}
		if n := count(); n < 4 || n > 8 { // each call waits for the store
			t.Errorf("%d names by a replica alone, want its share of 12", n)
		}
		r.Partition(false)
		time.Sleep(time.Hour)
		if n := count(); n != 12 {
			t.Errorf("%d names with the store, want 12", n)
		}
		r.Partition(true)
		if err := b.take(t.Context()); err == nil || !strings.Contains(err.Error(), "share of 12 is used up") {
			t.Errorf("the whole is used up: %v", err)
		}
	})
}

// The URL is asked once a minute for a name, never waited for by a handshake.
func TestOnDemandAsks(t *testing.T) {
	var asked atomic.Int32
	slow := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-slow
		switch name := r.URL.Query().Get("domain"); {
		case strings.HasPrefix(name, "yes"):
		case strings.HasPrefix(name, "else"):
			http.Redirect(w, r, "/?domain=yes", http.StatusFound)
		default:
			http.Error(w, "no", http.StatusForbidden)
		}
		_, _ = io.WriteString(w, r.URL.Query().Get("token"))
	}))
	defer srv.Close()
	d, x := startOnDemand(t, store.NewMem(0).Replica("a"), func(o *OnDemandOptions) { o.Ask = srv.URL + "/?token=x" })
	for d.names.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	for range 100 {
		for _, name := range []string{"yes.example.com", "no.example.com", "else.example.com"} {
			hear(x, name)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("handshakes waited: %v", took)
	}
	close(slow)
	for deadline := time.Now().Add(10 * time.Second); asked.Load() < 3 || len(d.Names()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("asked %d times, names %v", asked.Load(), d.Names())
		}
	}
	if diff := cmp.Diff([]string{"yes.example.com"}, d.Names()); diff != "" || asked.Load() != 3 {
		t.Errorf("asked %d times\n%s", asked.Load(), diff)
	}
}

// A flood of names nobody permits leaves nothing behind, and slows no known one.
func BenchmarkUnknownNames(b *testing.B) {
	d := NewOnDemand(OnDemandOptions{Allow: []string{"*.customers.example"}, PerMinute: 10, Most: 10, Changed: func() {}})
	d.names.Store(&map[string]bool{})
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("n%d.flood.example", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d.Note(names[i%len(names)])
	}
	if len(d.asked) > 0 || len(d.queue) > 0 {
		b.Error("something is left behind")
	}
}
