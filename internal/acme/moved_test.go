package acme

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

// TestCAWhoseAddressesMove: the directory is read again when an address in it
// does not work any more, not half a day later.
func TestCAWhoseAddressesMove(t *testing.T) {
	t.Parallel()
	var place atomic.Value
	var read atomic.Int64
	place.Store("/old")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := place.Load().(string)
		base := "https://" + r.Host + now
		w.Header().Set("Replay-Nonce", "n")
		switch {
		case r.URL.Path == "/dir":
			read.Add(1)
			_ = json.NewEncoder(w).Encode(map[string]string{"newNonce": base + "/nonce", "newAccount": base + "/account", "newOrder": base + "/order"})
		case !strings.HasPrefix(r.URL.Path, now):
			http.NotFound(w, r)
		case r.URL.Path == now+"/order":
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", base+"/order/1")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"status":"pending"}`)
		}
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := newClient(server.URL+"/dir", "test", roots)
	defer c.base.CloseIdleConnections()
	account := acmez.Account{Location: server.URL + "/account/1", PrivateKey: signer(t, EC256)}
	order := func() error {
		_, err := c.NewOrder(t.Context(), account, acmez.Order{Identifiers: identifiers([]string{"a.example.com"})})
		return err
	}
	if err := order(); err != nil {
		t.Fatal(err)
	}
	place.Store("/new")
	for range 3 {
		if err := order(); err == nil {
			t.Fatal("the old address works")
		}
	}
	if n := read.Load(); n != 1 {
		t.Errorf("the directory was read %d times within a minute", n)
	}
	c.fetched = c.fetched.Add(-2 * movedAge)
	if err := order(); err == nil {
		t.Fatal("the old address works")
	}
	if err := order(); err != nil {
		t.Errorf("after it moved: %v", err)
	}
	// A nonce that cannot be had says nothing of the order.
	c.lib, c.fetched = nil, time.Time{}
	if _, _, err := c.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	place.Store("/other")
	_, _, err := c.Order(t.Context(), account, server.URL+"/other/order/1")
	var call *callError
	if !errors.As(err, &call) || call.Op != nonceOp || isGone(err) {
		t.Errorf("without a nonce: %v", err)
	}
}
