package acme

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

const (
	// callTime bounds one call with its nonces and refused nonces.
	callTime = 90 * time.Second
	// headTime bounds the wait for the head of one answer.
	headTime = 30 * time.Second
	// directoryAge is when the directory is read again; a little more than
	// the library keeps it, so that the library asks again too.
	directoryAge = 12*time.Hour + time.Minute
)

// Calls that others begin with: that for the directory and that for a nonce.
const (
	directoryOp = "directory"
	nonceOp     = "newNonce"
)

// movedAge is how old the directory must be to be read again because an address
// in it did not work.
const movedAge = time.Minute

// client is the CA over the network, through acmez's step level.
type client struct {
	url       string // the directory's
	userAgent string
	http      *http.Client
	base      *http.Transport
	wire      *transport // around base

	turn    chan struct{} // taken while what follows is read or written
	lib     *acmez.Client
	about   about
	fetched time.Time
}

func newClient(directory, userAgent string, roots *x509.CertPool) *client {
	c := &client{url: directory, userAgent: userAgent, turn: make(chan struct{}, 1)}
	c.base = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: headTime,
		IdleConnTimeout:       60 * time.Second,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     true,
	}
	c.wire = &transport{base: c.base}
	c.http = &http.Client{
		Transport:     c.wire,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// ready gives the library's client, reading the directory if it is due.
func (c *client) ready(ctx context.Context) (*acmez.Client, about, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, about{}, context.Cause(ctx)
	}
	if c.lib != nil && time.Since(c.fetched) < directoryAge {
		return c.lib, c.about, nil
	}
	err := c.fetch(ctx)
	if err != nil && c.lib == nil {
		return nil, about{}, err
	}
	// An old directory is better than none: the CA tells if it is wrong.
	return c.lib, c.about, nil
}

func (c *client) fetch(ctx context.Context) error {
	callCtx, r := newRecord(ctx, headTime)
	defer r.cancel()
	dir, err := c.readDirectory(callCtx)
	if err != nil {
		return r.failure(ctx, directoryOp, err)
	}
	a := about{Renewal: dir.RenewalInfo != "", Revocation: dir.RevokeCert != "", renewalURL: dir.RenewalInfo}
	if dir.Meta != nil {
		a.Profiles, a.EABRequired = dir.Meta.Profiles, dir.Meta.ExternalAccountRequired
	}
	// Without this the library would ask for renewal information after each
	// download, with retries of its own.
	dir.RenewalInfo = ""
	if r.directory, err = json.Marshal(dir); err != nil {
		return err
	}
	// The library keeps directories for half a day by their URLs; one that
	// has changed must not be taken for that of before.
	sum := sha256.Sum256(r.directory)
	lib := &acmez.Client{
		Directory: c.url + "#" + hex.EncodeToString(sum[:8]), HTTPClient: c.http, UserAgent: c.userAgent,
		PollTimeout: -1, // we poll ourselves
	}
	if _, err = lib.GetDirectory(callCtx); err != nil {
		return err
	}
	c.about, c.lib, c.fetched = a, lib, time.Now()
	return nil
}

func (c *client) readDirectory(ctx context.Context) (acmez.Directory, error) {
	var dir acmez.Directory
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return dir, err
	}
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return dir, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return dir, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return dir, err
	}
	if err := json.Unmarshal(body, &dir); err != nil {
		return dir, fmt.Errorf("it is no ACME directory: %w", err)
	}
	if dir.NewNonce == "" || dir.NewAccount == "" || dir.NewOrder == "" {
		return dir, errors.New("it is no ACME directory: newNonce, newAccount or newOrder is missing")
	}
	return dir, nil
}

// do runs one call of the library and translates its end.
func (c *client) do(ctx context.Context, op string, call func(context.Context, *acmez.Client) error) (*record, error) {
	lib, _, err := c.ready(ctx)
	if err != nil {
		return nil, err
	}
	callCtx, r := newRecord(ctx, callTime)
	defer r.cancel()
	if err := call(callCtx, lib); err != nil {
		if r.host == "" {
			r.host = hostOf(c.url)
		}
		err = r.failure(ctx, op, err)
		var failed *callError
		if errors.As(err, &failed) && failed.moved() {
			c.reread(ctx)
		}
		return r, err
	}
	return r, nil
}

// reread has the next call read the directory.
func (c *client) reread(ctx context.Context) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return
	}
	if time.Since(c.fetched) > movedAge {
		c.fetched = time.Time{}
	}
}

func (c *client) Probe(ctx context.Context) error {
	callCtx, r := newRecord(ctx, headTime)
	defer r.cancel()
	if _, err := c.readDirectory(callCtx); err != nil {
		return r.failure(ctx, directoryOp, err)
	}
	return nil
}

func (c *client) Now() (time.Time, bool) { return c.wire.now() }

func (c *client) About(ctx context.Context) (about, error) {
	_, a, err := c.ready(ctx)
	return a, err
}

func (c *client) Register(ctx context.Context, a acmez.Account, eab *EAB) (acmez.Account, error) {
	a.Location, a.TermsOfServiceAgreed = "", true
	_, err := c.do(ctx, "newAccount", func(ctx context.Context, lib *acmez.Client) error {
		if eab != nil {
			err := a.SetExternalAccountBinding(ctx, lib, acmez.EAB{KeyID: eab.KeyID, MACKey: eab.MACKey})
			if err != nil {
				return err
			}
		}
		var err error
		a, err = lib.NewAccount(ctx, a)
		if err == nil && a.Location == "" {
			err = errors.New("the answer has no Location")
		}
		return err
	})
	return a, err
}

func (c *client) NewOrder(ctx context.Context, a acmez.Account, o acmez.Order) (acmez.Order, error) {
	r, err := c.do(ctx, "newOrder", func(ctx context.Context, lib *acmez.Client) error {
		var err error
		o, err = lib.NewOrder(ctx, a, o)
		if err == nil && o.Location == "" {
			err = errors.New("the answer has no Location")
		}
		return err
	})
	if err != nil && r != nil && r.made != "" {
		return acmez.Order{Location: r.made}, nil // it is there; it must be read
	}
	return o, err
}

func (c *client) Order(ctx context.Context, a acmez.Account, url string) (acmez.Order, time.Duration, error) {
	var o acmez.Order
	r, err := c.do(ctx, "read order", func(ctx context.Context, lib *acmez.Client) error {
		var err error
		o, err = lib.GetOrder(ctx, a, acmez.Order{Location: url})
		return err
	})
	if err != nil {
		return o, 0, err
	}
	return o, r.wait(), nil
}

func (c *client) Authorization(ctx context.Context, a acmez.Account, url string) (acmez.Authorization, time.Duration, error) {
	var z acmez.Authorization
	r, err := c.do(ctx, "read authorization", func(ctx context.Context, lib *acmez.Client) error {
		var err error
		z, err = lib.GetAuthorization(ctx, a, url)
		return err
	})
	if err != nil {
		return z, 0, err
	}
	return z, r.wait(), nil
}

func (c *client) Tell(ctx context.Context, a acmez.Account, url string) error {
	_, err := c.do(ctx, "challenge", func(ctx context.Context, lib *acmez.Client) error {
		_, err := lib.InitiateChallenge(ctx, a, acmez.Challenge{URL: url})
		return err
	})
	return err
}

func (c *client) Finalize(ctx context.Context, a acmez.Account, url string, csr []byte) error {
	r, err := c.do(ctx, "finalize", func(ctx context.Context, lib *acmez.Client) error {
		_, err := lib.FinalizeOrder(ctx, a, acmez.Order{Finalize: url}, csr)
		return err
	})
	if err != nil && ctx.Err() == nil && r != nil && r.answered() {
		return nil // the library wanted to see the end of it; we read the order
	}
	return err
}

func (c *client) Chains(ctx context.Context, a acmez.Account, url string) ([][]byte, error) {
	var chains [][]byte
	_, err := c.do(ctx, "certificate", func(ctx context.Context, lib *acmez.Client) error {
		all, err := lib.GetCertificateChain(ctx, a, url)
		for _, one := range all {
			chains = append(chains, one.ChainPEM)
		}
		return err
	})
	return chains, err
}
