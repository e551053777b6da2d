package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

func TestMain(m *testing.M) {
	if raceDetector {
		// Timers that are due at once are run by several processors at a time,
		// with one race context for all of a bubble: golang/go#78156.
		runtime.GOMAXPROCS(1)
	}
	goleak.VerifyTestMain(m)
}

// world is a real CA behind the fault proxy, a real DNS server it asks, a
// store, and one replica that answers challenges where the CA looks.
type world struct {
	t      *testing.T
	pebble *rig.Pebble
	proxy  *faultca.Proxy
	dns    *challtest
	mem    *store.Mem

	responderStore *movable
	deaf           atomic.Bool // the replica answers no HTTP-01
}

func newWorld(t *testing.T, o rig.PebbleOptions) *world {
	t.Helper()
	w := &world{t: t, mem: store.NewMem(0), dns: &challtest{url: ""}}
	server := rig.StartChalltest(t)
	w.dns.url = server.Management
	plain, secure := listen(t), listen(t)
	o.DNSServer, o.HTTPPort, o.TLSPort = server.DNS, port(plain), port(secure)
	w.pebble = rig.StartPebble(t, o)
	w.proxy = faultca.Start(t, w.pebble.Directory(), w.pebble.Roots())
	w.proxy.Impatient = true
	w.respond(plain, secure)
	return w
}

// respond runs a replica's Responder behind both listeners.
func (w *world) respond(plain, secure net.Listener) {
	w.responderStore = &movable{Store: w.mem.Replica("responder")}
	r := NewResponder(w.responderStore, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	answer := r.Handler(http.NotFoundHandler())
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if w.deaf.Load() {
			http.NotFound(rw, req)
			return
		}
		answer.ServeHTTP(rw, req)
	})}
	running.Go(func() { _ = server.Serve(plain) })
	tlsServer := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){ALPN: func(*http.Server, *tls.Conn, http.Handler) {}}}
	tlsServer.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	running.Go(func() {
		_ = tlsServer.Serve(tls.NewListener(secure, &tls.Config{NextProtos: []string{ALPN}, GetCertificate: r.Certificate}))
	})
	w.t.Cleanup(func() {
		cancel()
		_ = server.Close()
		_ = tlsServer.Close()
		running.Wait()
	})
}

// movable lets a responder be handed from store to store; its watch stays with
// the first, so the others are answered by look-ups.
type movable struct {
	store.Store

	mu  sync.Mutex
	now store.Store
}

func (m *movable) set(st store.Store) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = st
}

func (m *movable) Get(ctx context.Context, key string) (store.Entry, error) {
	m.mu.Lock()
	st := m.now
	m.mu.Unlock()
	if st == nil {
		st = m.Store
	}
	return st.Get(ctx, key)
}

// options are those of an issuer of this world on one replica.
func (w *world) options(kind string, st store.Store) Options {
	return Options{
		ID: "pebble", Directory: w.proxy.Directory(), Roots: w.proxy.Roots(), Email: "ops@example.com",
		Challenge: kind, DNS: w.dns, Store: st, UserAgent: "gatehouse-test",
	}
}

func (w *world) issuer(kind string, st store.Store, change ...func(*Options)) *Issuer {
	w.t.Helper()
	o := w.options(kind, st)
	for _, c := range change {
		c(&o)
	}
	i, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(i.Close)
	i.timing = quick
	return i
}

// quick is a timing for servers on loopback.
var quick = timing{
	pollFirst: 20 * time.Millisecond, pollMost: 200 * time.Millisecond, pollWhole: 20 * time.Second,
	retryFirst: 20 * time.Millisecond, retries: 4, retryAfterMost: 3 * time.Second,
	tellAgain: 5 * time.Second, tellInherited: 100 * time.Millisecond,
	dnsWait: 10 * time.Second, cleanUp: 5 * time.Second, readBack: 10 * time.Millisecond, strayFirst: 50 * time.Millisecond,
}

// request takes the lease of an order for the test.
func request(t *testing.T, st store.Store, id string, names ...string) cert.Request {
	t.Helper()
	lease, err := st.Acquire(t.Context(), "orders/pebble/"+id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lease.Release(context.Background()) })
	return cert.Request{ID: id, Names: names, Lease: lease}
}

// trusted fails the test unless the bundle is one the CA issued for the names.
func (w *world) trusted(b cert.Bundle, names ...string) *x509.Certificate {
	w.t.Helper()
	roots, err := w.pebble.Issued(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(b.Chain, b.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			w.t.Fatal(err)
		}
		between.AddCert(c)
	}
	for _, name := range names {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between}); err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
	}
	return pair.Leaf
}

// left is every key of the store but those of what stays.
func (w *world) left() []string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for entries, err := range w.mem.Replica("looker").Watch(ctx, "") {
		if err != nil {
			w.t.Fatal(err)
		}
		var keys []string
		for _, e := range entries {
			switch kind, _, _ := strings.Cut(e.Key, "/"); kind {
			case "accounts", "leases", "limits", "renewals": // what stays
			default:
				keys = append(keys, e.Key)
			}
		}
		return keys
	}
	return nil
}

// challtest is the DNS-01 solver for pebble-challtestsrv.
type challtest struct {
	url string

	mu      sync.Mutex
	present map[string]int // name and value: how often it was presented, less clean-ups to zero
	waits   int
}

func (c *challtest) Plan(_ context.Context, domain, value string) (dns.Record, error) {
	return dns.Record{Zone: "example.com", Name: "_acme-challenge." + domain, Value: value, TTL: time.Second}, nil
}

func (c *challtest) Present(ctx context.Context, rec dns.Record) error {
	if !c.Seen(ctx, []dns.Record{rec}) {
		err := c.post(ctx, "/set-txt", map[string]string{"host": rec.Name + ".", "value": rec.Value})
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present == nil {
		c.present = map[string]int{}
	}
	c.present[rec.Name+" "+rec.Value]++
	return nil
}

func (c *challtest) Seen(_ context.Context, recs []dns.Record) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rec := range recs {
		if c.present[rec.Name+" "+rec.Value] == 0 {
			return false
		}
	}
	return true
}

func (c *challtest) Wait(context.Context, []dns.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits++
	return nil
}

func (c *challtest) CleanUp(_ context.Context, rec dns.Record) error {
	// challtestsrv can only clear a whole name; the count is what is checked.
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.present, rec.Name+" "+rec.Value)
	return nil
}

func (c *challtest) Sweep(ctx context.Context, recs []dns.Record) []dns.Swept {
	return dns.NewSolver(dns.SolverOptions{Provider: c}).Sweep(ctx, recs)
}

func (c *challtest) records() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.present)
}

func (c *challtest) post(ctx context.Context, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Close = true
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("challtestsrv says %s", resp.Status)
	}
	return nil
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
