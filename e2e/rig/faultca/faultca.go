// Package faultca is a proxy in front of the ACME test CA Pebble that makes
// what a real CA and the network to it do on bad days: it refuses with 429 or
// 503, does not deliver a request, or delivers it and loses the answer. It
// counts what reached the CA per set of names: the judge of "one certificate,
// one order". It keeps the Host header, of which Pebble makes its URLs, and
// lets one request at a time through, since Pebble deadlocks under parallel
// load.
package faultca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Step is what a request asks the CA for.
type Step string

// The steps, by Pebble's paths.
const (
	Directory     Step = "directory"
	Nonce         Step = "nonce"
	NewAccount    Step = "newAccount"
	NewOrder      Step = "newOrder"
	Order         Step = "order"
	Authorization Step = "authorization"
	Challenge     Step = "challenge"
	Finalize      Step = "finalize"
	Certificate   Step = "certificate"
	RenewalInfo   Step = "renewalInfo"
	Other         Step = "other"
)

var paths = []struct {
	prefix string
	step   Step
}{
	{"/dir", Directory}, {"/nonce-plz", Nonce}, {"/sign-me-up", NewAccount}, {"/order-plz", NewOrder},
	{"/my-order/", Order}, {"/authZ/", Authorization}, {"/chalZ/", Challenge},
	{"/finalize-order/", Finalize}, {"/certZ/", Certificate}, {"/draft-ietf-acme-ari-03/renewalInfo/", RenewalInfo},
}

func stepOf(path string) Step {
	for _, p := range paths {
		if strings.HasPrefix(path, p.prefix) {
			return p.step
		}
	}
	return Other
}

// Fault is what happens to some requests instead of the right thing.
type Fault struct {
	Step  Step // of which requests; empty: of all
	Skip  int  // so many pass first
	Times int  // how many it happens to; 0: one; negative: all

	Delay      time.Duration // before anything else
	Status     int           // answered in place of the CA, which never sees the request
	RetryAfter string        // header with Status
	Problem    string        // with Status: the type of a problem document, as "rateLimited"; empty: an HTML page
	Undone     bool          // the connection breaks before the CA has the request
	Lost       bool          // the connection breaks after the CA has answered
}

// Proxy stands in front of one CA. Its methods may be called from any
// goroutine.
type Proxy struct {
	// Impatient takes Retry-After away from good answers: tests need not wait
	// the second that is Pebble's least. Set it before the first request.
	Impatient bool

	upstream *url.URL
	client   *http.Client
	listener net.Listener
	server   *http.Server
	roots    *x509.CertPool
	rootsPEM []byte

	gate sync.Mutex // one request at a time

	mu        sync.Mutex
	faults    []*Fault
	forwarded map[Step]int
	names     map[string]string // order's last path segment: its names
	ordered   map[string]int    // names: accepted newOrders
	finalized map[string]int    // names: accepted finalizes
	accepted  map[Step]int
	arrivals  []arrival
	keys      map[string]bool // of accounts
}

// New listens on loopback in front of the CA whose directory is at directory
// and whose own certificate roots verify.
func New(directory string, roots *x509.CertPool) (*Proxy, error) {
	upstream, err := url.Parse(directory)
	if err != nil {
		return nil, err
	}
	certificate, certPEM, err := serverCertificate()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		upstream: upstream, listener: l, roots: x509.NewCertPool(), rootsPEM: certPEM,
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
			Timeout: 30 * time.Second},
		forwarded: map[Step]int{}, accepted: map[Step]int{}, names: map[string]string{},
		ordered: map[string]int{}, finalized: map[string]int{}, keys: map[string]bool{},
	}
	p.roots.AppendCertsFromPEM(certPEM)
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	secure := tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}})
	go func() { _ = p.server.Serve(secure) }()
	return p, nil
}

// Start is New for a test, closed at its end.
func Start(t testing.TB, directory string, roots *x509.CertPool) *Proxy {
	t.Helper()
	p, err := New(directory, roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Close ends it and breaks its connections.
func (p *Proxy) Close() {
	_ = p.server.Close()
	p.client.CloseIdleConnections()
}

// Directory is the ACME directory's URL as clients must use it.
func (p *Proxy) Directory() string { return "https://" + p.listener.Addr().String() + p.upstream.Path }

// Roots trusts the proxy's own certificate; RootsPEM is the same as PEM, for
// `caCertificates`.
func (p *Proxy) Roots() *x509.CertPool { return p.roots }

// RootsPEM is Roots as PEM.
func (p *Proxy) RootsPEM() []byte { return p.rootsPEM }

// Inject adds faults. The first that fits a request happens to it.
func (p *Proxy) Inject(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		p.faults = append(p.faults, &f)
	}
}

// Heal takes all faults away.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Unmet is how many of the injected faults, counted by Times, have not happened
// yet.
func (p *Proxy) Unmet() int {
	return p.count(func() int {
		n := 0
		for _, f := range p.faults {
			n += max(f.Times, 0)
		}
		return n
	})
}

// Forwarded is how many requests of a step the CA has got.
func (p *Proxy) Forwarded(s Step) int { return p.count(func() int { return p.forwarded[s] }) }

// Accepted is how many of them the CA answered with 2xx, delivered or lost.
func (p *Proxy) Accepted(s Step) int { return p.count(func() int { return p.accepted[s] }) }

// Orders is how many orders the CA has made for exactly these names.
func (p *Proxy) Orders(names ...string) int {
	return p.count(func() int { return p.ordered[nameSet(names)] })
}

// Certificates is how many finalizes for exactly these names the CA took: it
// issues one certificate for each.
func (p *Proxy) Certificates(names ...string) int {
	return p.count(func() int { return p.finalized[nameSet(names)] })
}

type arrival struct {
	at   time.Time
	step Step
}

// Since is when the first request after t came that was for one of the steps,
// whatever became of it.
func (p *Proxy) Since(t time.Time, steps ...Step) (at time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.arrivals {
		if a.at.After(t) && slices.Contains(steps, a.step) {
			return a.at, true
		}
	}
	return time.Time{}, false
}

// AccountKeys is how many different keys accounts were made with.
func (p *Proxy) AccountKeys() int { return p.count(func() int { return len(p.keys) }) }

func (p *Proxy) count(read func() int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return read()
}

// fault takes the fault that happens to the next request of a step.
func (p *Proxy) fault(s Step) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		switch {
		case f.Step != "" && f.Step != s, f.Times == 0:
		case f.Skip > 0:
			f.Skip--
		default:
			if f.Times > 0 {
				f.Times--
			}
			return *f
		}
	}
	return Fault{}
}

// ServeHTTP passes a request on, or what the faults make of it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return
	}
	step := stepOf(req.URL.Path)
	p.count(func() int {
		p.arrivals = append(p.arrivals, arrival{time.Now(), step})
		return 0
	})
	f := p.fault(step)
	time.Sleep(f.Delay)
	if f.Status != 0 {
		refuse(w, f)
		return
	}
	if f.Undone {
		panic(http.ErrAbortHandler)
	}
	resp, answer, err := p.forward(req, step, body)
	if err != nil {
		http.Error(w, "<html>502: "+err.Error(), http.StatusBadGateway)
		return
	}
	if f.Lost {
		panic(http.ErrAbortHandler)
	}
	for key, values := range resp.Header {
		w.Header()[key] = values
	}
	if p.Impatient && resp.StatusCode < 300 {
		w.Header().Del("Retry-After")
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

func refuse(w http.ResponseWriter, f Fault) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	if f.Problem == "" {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(f.Status)
		_, _ = fmt.Fprintf(w, "<html><h1>%d</h1>", f.Status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "urn:ietf:params:acme:error:" + f.Problem, "detail": "made by faultca", "status": f.Status,
	})
}

// forward sends the request to the CA, whatever becomes of who asked: what has
// been sent cannot be called back.
func (p *Proxy) forward(req *http.Request, step Step, body []byte) (*http.Response, []byte, error) {
	p.gate.Lock()
	defer p.gate.Unlock()
	to := *p.upstream
	to.Path, to.RawQuery = req.URL.Path, req.URL.RawQuery
	out, err := http.NewRequestWithContext(context.WithoutCancel(req.Context()), req.Method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	out.Header = req.Header.Clone()
	out.Host = req.Host
	resp, err := p.client.Do(out)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, nil, err
	}
	p.note(req, step, body, resp)
	return resp, answer, nil
}

func (p *Proxy) note(req *http.Request, step Step, body []byte, resp *http.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forwarded[step]++
	if resp.StatusCode >= 300 {
		return
	}
	p.accepted[step]++
	switch step {
	case NewAccount:
		p.keys[signedBy(body)] = true
	case NewOrder:
		names := orderedNames(body)
		p.ordered[names]++
		p.names[path.Base(resp.Header.Get("Location"))] = names
	case Finalize:
		p.finalized[p.names[path.Base(req.URL.Path)]]++
	}
}

// orderedNames reads the names of a newOrder's JWS.
func orderedNames(body []byte) string {
	var order struct {
		Identifiers []struct{ Value string }
	}
	part(body, "payload", &order)
	var names []string
	for _, id := range order.Identifiers {
		names = append(names, id.Value)
	}
	return nameSet(names)
}

// signedBy reads the public key of a newAccount's JWS.
func signedBy(body []byte) string {
	var header struct{ JWK json.RawMessage }
	part(body, "protected", &header)
	return string(header.JWK)
}

// part decodes one part of a JWS; what cannot be read stays empty.
func part(body []byte, name string, into any) {
	var jws map[string]string
	if json.Unmarshal(body, &jws) != nil {
		return
	}
	if raw, err := base64.RawURLEncoding.DecodeString(jws[name]); err == nil {
		_ = json.Unmarshal(raw, into)
	}
}

func nameSet(names []string) string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return strings.ToLower(strings.Join(sorted, " "))
}

func serverCertificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Gatehouse fault proxy"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 244, 0, 1)}, // and where pods of rig/kube reach it
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text, nil
}
