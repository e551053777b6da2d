package cert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/store"
)

// smallCA is a certificate authority with orders that outlive those who placed
// them, as an ACME server has: placing one and having it finished are two
// steps, and what is between them is in the client's journal.
type smallCA struct {
	lifetime time.Duration
	step     time.Duration // how long each of the two steps takes

	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu      sync.Mutex
	down    error // what it answers instead of working
	orders  int   // newOrder calls answered
	chains  map[int][]byte
	calls   []call // of Obtain
	dones   int
	revoked map[string]Revocation // by fingerprint
	renewAt func(leaf *x509.Certificate) time.Time
}

type call struct {
	replica, id string
	at          time.Time
	replaces    bool
}

func newSmallCA(tb testing.TB, lifetime time.Duration) *smallCA {
	tb.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "small CA"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(50, 0, 0)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &smallCA{lifetime: lifetime, step: time.Second, root: must(x509.ParseCertificate(der)), key: key, chains: map[int][]byte{}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (ca *smallCA) say(down error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.down = down
}

func (ca *smallCA) counts() (orders, issued, calls int) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.orders, len(ca.chains), len(ca.calls)
}

func (ca *smallCA) allCalls() []call {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return append([]call(nil), ca.calls...)
}

// sign gives a chain for names and the key's public half.
func (ca *smallCA) sign(key *ecdsa.PrivateKey, names []string, notBefore, notAfter time.Time) []byte {
	template := &x509.Certificate{SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))), NotBefore: notBefore, NotAfter: notAfter}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, ca.root, key.Public(), ca.key))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// bundle issues without an order.
func (ca *smallCA) bundle(names []string, notBefore, notAfter time.Time) Bundle {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return Bundle{Chain: ca.sign(key, names, notBefore, notAfter), Key: keyPEM(key)}
}

func keyPEM(key *ecdsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
}

// client is one replica's Issuer at a smallCA.
type client struct {
	*smallCA
	replica string
	id      string
	// hooks for what a test wants to happen at a step
	onObtain func(context.Context, Request) error
	onDone   func() error
	refuse   string // a name it does not issue for
	behind   time.Duration
}

func (c *client) ID() string { return c.id }

// Now is the CA's clock; ours is ahead of it.
func (c *client) Now() (time.Time, bool) { return time.Now().Add(-c.behind), true }

func (c *client) RenewAt(_ context.Context, der []byte) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewAt == nil {
		return time.Time{}
	}
	return c.renewAt(must(x509.ParseCertificate(der)))
}

type smallJournal struct {
	Key   []byte
	Order int
	Names []string `json:",omitempty"`
}

func (c *client) Obtain(ctx context.Context, req Request) (Bundle, error) {
	c.mu.Lock()
	c.calls = append(c.calls, call{c.replica, req.ID, time.Now(), req.Replaces != nil})
	c.mu.Unlock()
	if c.onObtain != nil {
		if err := c.onObtain(ctx, req); err != nil {
			return Bundle{}, err
		}
	}
	name := "orders/" + c.id + "/" + req.ID
	var j smallJournal
	e, err := req.Lease.Get(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		req.Step("newOrder")
		if err := c.work(ctx); err != nil {
			return Bundle{}, fmt.Errorf("newOrder %v: %w", req.Names, err)
		}
		c.mu.Lock()
		c.orders++
		j = smallJournal{keyPEM(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))), c.orders, req.Names}
		c.mu.Unlock()
		if _, err := req.Lease.Put(ctx, name, must(json.Marshal(j)), ""); err != nil {
			return Bundle{}, err
		}
	case err != nil:
		return Bundle{}, err
	default:
		if err := json.Unmarshal(e.Value, &j); err != nil {
			return Bundle{}, err
		}
	}
	if slices.Contains(req.Names, c.refuse) {
		if e, err := req.Lease.Get(ctx, name); err == nil {
			_ = req.Lease.Delete(ctx, name, e.Revision)
		}
		return Bundle{}, &NamesError{fmt.Errorf("refused %s", c.refuse), []string{c.refuse}}
	}
	req.Step("finalize")
	if err := c.work(ctx); err != nil {
		return Bundle{}, fmt.Errorf("finalize %v: %w", req.Names, err)
	}
	return c.finalize(j, req.Names), nil
}

func (c *client) finalize(j smallJournal, names []string) Bundle {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chains[j.Order] == nil {
		block, _ := pem.Decode(j.Key)
		key := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*ecdsa.PrivateKey)
		c.chains[j.Order] = c.sign(key, names, time.Now(), time.Now().Add(c.lifetime))
	}
	return Bundle{Chain: c.chains[j.Order], Key: j.Key}
}

// work takes a step's time and fails if the CA is down.
func (c *client) work(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(c.step):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down
}

func (c *client) Done(ctx context.Context, req Request) error {
	if c.onDone != nil {
		if err := c.onDone(); err != nil {
			return err
		}
	}
	name := "orders/" + c.id + "/" + req.ID
	e, err := req.Lease.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.dones++
	c.mu.Unlock()
	return req.Lease.Delete(ctx, name, e.Revision)
}
