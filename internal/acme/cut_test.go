package acme

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	acmez "github.com/mholt/acmez/v3/acme"
)

// TestAnswerCutOffBehindItsHead: an order whose address was told is not lost with
// the rest of the answer.
func TestAnswerCutOffBehindItsHead(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func(http.ResponseWriter){
		"cut off": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"status":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"no JSON": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"status":"pending","expires":""}`)
		},
	} {
		var orders atomic.Int64
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			base := "https://" + r.Host
			w.Header().Set("Replay-Nonce", "n")
			switch r.URL.Path {
			case "/dir":
				_ = json.NewEncoder(w).Encode(map[string]string{"newNonce": base + "/nonce", "newAccount": base + "/account", "newOrder": base + "/order"})
			case "/order":
				orders.Add(1)
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Location", base+"/order/1")
				body(w)
			}
		}))
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		c := newClient(server.URL+"/dir", "test", roots)
		account := acmez.Account{Location: server.URL + "/account/1", PrivateKey: signer(t, EC256)}
		o, err := c.NewOrder(t.Context(), account, acmez.Order{Identifiers: identifiers([]string{"a.example.com"})})
		if want := server.URL + "/order/1"; err != nil || o.Location != want || o.Status != "" {
			t.Errorf("%s: %+v, %v; want the address %s", name, o, err, want)
		}
		if orders.Load() != 1 {
			t.Errorf("%s: sent %d times", name, orders.Load())
		}
		c.base.CloseIdleConnections()
		server.Close()
	}
}
