package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/e2e/rig"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// bent is a real CA whose answers are bent.
type bent struct {
	certificationAuthority
	chains func([][]byte, error) ([][]byte, error)
	order  func(acmez.Order) acmez.Order
	now    func() time.Time

	finalize func() error
}

func (b bent) Chains(ctx context.Context, a acmez.Account, url string) ([][]byte, error) {
	chains, err := b.certificationAuthority.Chains(ctx, a, url)
	if b.chains != nil {
		return b.chains(chains, err)
	}
	return chains, err
}

func (b bent) Order(ctx context.Context, a acmez.Account, url string) (acmez.Order, time.Duration, error) {
	o, wait, err := b.certificationAuthority.Order(ctx, a, url)
	if o.Location = url; b.order != nil {
		o = b.order(o)
	}
	return o, wait, err
}

func (b bent) Finalize(ctx context.Context, a acmez.Account, url string, csr []byte) error {
	if b.finalize != nil {
		return b.finalize()
	}
	return b.certificationAuthority.Finalize(ctx, a, url, csr)
}

func (b bent) Now() (time.Time, bool) {
	if b.now != nil {
		return b.now(), true
	}
	return b.certificationAuthority.Now()
}

// TestGarbledCertificate: an order that is paid for is not given up because its
// certificate could not be downloaded whole.
func TestGarbledCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	ways := map[string]func([][]byte, error) ([][]byte, error){
		"half":     func(c [][]byte, err error) ([][]byte, error) { return [][]byte{c[0][:len(c[0])/2]}, err },
		"page":     func([][]byte, error) ([][]byte, error) { return [][]byte{[]byte("<html>")}, nil },
		"not-here": func([][]byte, error) ([][]byte, error) { return nil, &callError{Op: "certificate", Status: 404} },
	}
	for way, garble := range ways {
		st := w.mem.Replica("one")
		i := w.issuer(http01, st)
		name := way + ".example.com"
		req := request(t, st, way, name)
		whole := i.ca
		i.ca = bent{certificationAuthority: whole, chains: garble}
		_, err := i.Obtain(t.Context(), req)
		if err == nil || !strings.Contains(err.Error(), "the order is kept") {
			t.Errorf("%s: %v", way, err)
		}
		if err := i.Recorded(t.Context(), req); err != nil {
			t.Error(err)
		}
		i.ca = whole
		if _, err := i.Obtain(t.Context(), req); err != nil {
			t.Errorf("%s, then whole: %v", way, err)
		}
		if n, certs := w.proxy.Orders(name), w.proxy.Certificates(name); n != 1 || certs != 1 {
			t.Errorf("%s: %d orders, %d certificates", way, n, certs)
		}
	}
}

// TestCertificateThatStaysUnusable: it is not asked for for ever.
func TestCertificateThatStaysUnusable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st)
	req := request(t, st, "x", "never.example.com")
	i.ca = bent{certificationAuthority: i.ca, chains: func([][]byte, error) ([][]byte, error) { return [][]byte{[]byte("x")}, nil }}
	if _, err := i.Obtain(t.Context(), req); err == nil {
		t.Fatal("it was taken")
	}
	b, err := openBook(t.Context(), i.ID(), req, 0)
	if err != nil {
		t.Fatal(err)
	}
	j := b.now.clone()
	j.Began = j.Began.Add(-2 * keepUnusable)
	if err := b.write(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Obtain(t.Context(), req); err == nil || !strings.Contains(err.Error(), "it must not be used: the chain is no PEM") {
		t.Errorf("got %v", err)
	}
	if b, err = openBook(t.Context(), i.ID(), req, 0); err != nil || b.now.Order != "" || b.now.Failure == "" {
		t.Errorf("the order is kept: %v %+v", err, b.now)
	}
}

// TestOrdersThatAreNoMore: what the CA calls open long after its end is ordered
// anew, and an order that is valid before its certificate is there is waited for.
func TestOrdersThatAreNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for name, c := range map[string]struct {
		bend   func(o *acmez.Order, looks int)
		orders int
	}{
		"expired": {func(o *acmez.Order, looks int) {
			if looks < 3 {
				o.Status, o.Expires = acmez.StatusReady, time.Now().Add(-time.Hour)
			}
		}, 2},
		"no-url": {func(o *acmez.Order, looks int) {
			if looks < 5 {
				o.Certificate = ""
			}
		}, 1},
	} {
		st := w.mem.Replica("one")
		i := w.issuer(http01, st)
		host := name + ".example.com"
		looks, first := 0, ""
		i.ca = bent{certificationAuthority: i.ca, order: func(o acmez.Order) acmez.Order {
			if first == "" {
				first = o.Location
			}
			if looks++; o.Location == first {
				c.bend(&o, looks)
			}
			return o
		}}
		if _, err := i.Obtain(t.Context(), request(t, st, name, host)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := w.proxy.Orders(host); n != c.orders {
			t.Errorf("%s: %d orders, want %d", name, n, c.orders)
		}
		if down := i.pace.seen.Load(); i.Paused().After(time.Now()) {
			t.Errorf("%s: the CA is taken for down: %+v", name, down)
		}
	}
}

// TestWhatIsNoOutage: answers that cannot be used, and what we cannot send, say
// nothing about whether the CA is there; the orders of others go on.
func TestWhatIsNoOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for name, c := range map[string]struct {
		bend func(acmez.Order) acmez.Order
		eab  *EAB
		want string
	}{
		"no certificate": {func(o acmez.Order) acmez.Order { o.Certificate = ""; return o }, nil, "its order is valid"},
		"plain http": {func(o acmez.Order) acmez.Order {
			o.Finalize = strings.Replace(o.Finalize, "https:", "http:", 1)
			return o
		}, nil, "only https is spoken with a CA"},
		"wrong MAC key": {nil, &EAB{KeyID: "k", MACKey: "not base64!"}, "newAccount: "},
	} {
		w.mem = store.NewMem(0)
		st := w.mem.Replica("one")
		w.responderStore.set(st)
		i := w.issuer(http01, st, func(o *Options) { o.EAB = c.eab })
		i.timing.pollWhole = time.Second
		i.ca = bent{certificationAuthority: i.ca, order: c.bend}
		_, err := i.Obtain(t.Context(), request(t, st, "x", strings.ToLower(strings.ReplaceAll(name, " ", "-"))+".example.com"))
		var retry *cert.RetryError
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &retry) && retry.Unreached {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "no answer") {
			t.Errorf("%s: the error puts it on the CA: %v", name, err)
		}
		if _, err := st.Get(t.Context(), "limits/pebble/holds"); err == nil {
			t.Errorf("%s: the CA is taken for down", name)
		}
	}
}

// TestOrderThatStaysReady: a CA that takes the signing request and forgets it is
// not asked as fast as it answers.
func TestOrderThatStaysReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st)
	taken := 0
	i.ca = bent{certificationAuthority: i.ca, finalize: func() error { taken++; return nil }}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := i.Obtain(ctx, request(t, st, "x", "forgetful.example.com"))
	if err == nil || !strings.Contains(err.Error(), "still calls the order ready; it is kept") {
		t.Errorf("got %v", err)
	}
	if taken > 10 {
		t.Errorf("finalized %d times in one attempt", taken)
	}
}

// TestOurClockIsWrong: what is valid by the CA's clock is neither thrown away nor
// ordered again.
func TestOurClockIsWrong(t *testing.T) {
	key := signer(t, EC256)
	for name, c := range map[string]struct {
		ends   time.Duration // of the certificate
		theirs time.Duration // the CA's clock
		good   bool
	}{
		"right":             {time.Hour, 0, true},
		"ours ahead":        {-time.Hour, -2 * time.Hour, true},
		"ours a year ahead": {-365 * 24 * time.Hour, -366 * 24 * time.Hour, true},
		"over by both":      {-time.Hour, 0, false},
		"theirs ahead":      {time.Hour, 2 * time.Hour, true},
	} {
		until := time.Now().Add(c.ends)
		pem := selfSigned(t, key, until, "a.example.com")
		chain, err := parseChain(pem)
		if err != nil {
			t.Fatal(err)
		}
		i := &Issuer{opts: Options{Directory: "d"}, ca: bent{now: func() time.Time { return time.Now().Add(c.theirs) }}}
		m := &machine{issuer: i, req: cert.Request{Names: []string{"a.example.com"}}, book: &book{}}
		if err := checkChain(chain, key, []string{"a.example.com"}, m.timeFor(chain[0])); (err == nil) != c.good {
			t.Errorf("%s: downloaded: %v", name, err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		m.book.now = journal{Key: der, Directory: "d", Names: m.req.Names, Chain: pem}
		if why, err := m.stale(t.Context()); err != nil || (why == "") != c.good {
			t.Errorf("%s: journaled: %q %v", name, why, err)
		}
	}
}
