package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// counting counts the reads that reach the store, and fails them on demand.
type counting struct {
	store.Store
	gets atomic.Int32
	fail atomic.Bool
}

func (c *counting) Get(ctx context.Context, key string) (store.Entry, error) {
	c.gets.Add(1)
	if c.fail.Load() {
		return store.Entry{}, errors.New("no answer")
	}
	return c.Store.Get(ctx, key)
}

func put(t *testing.T, st store.Store, key string, e entry) store.Revision {
	t.Helper()
	e.Version = 1
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	rev, err := st.Put(t.Context(), key, raw, "")
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func ask(r *Responder, method, path string) (int, string) {
	w := httptest.NewRecorder()
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	r.Handler(next).ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func TestHandlerAnswersOnlyWhatIsPending(t *testing.T) {
	st := store.NewMem(0).Replica("one")
	put(t, st, httpKey("good"), entry{Name: "a.example.com", Value: "good.thumb", Expires: time.Now().Add(time.Hour)})
	put(t, st, httpKey("old"), entry{Value: "old.thumb", Expires: time.Now().Add(-time.Hour)})
	put(t, st, httpKey("foreign"), entry{Value: "other.thumb", Expires: time.Now().Add(time.Hour)})
	put(t, st, httpKey("evil"), entry{Value: "evil.<script>", Expires: time.Now().Add(time.Hour)})
	if _, err := st.Put(t.Context(), httpKey("damaged"), []byte("{"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), httpKey("huge"), []byte(`{"version":1,"value":"huge.`+strings.Repeat("x", 5000)+`"}`), ""); err != nil {
		t.Fatal(err)
	}
	r := NewResponder(st, slog.New(slog.DiscardHandler))
	const at = "/.well-known/acme-challenge/"
	for name, c := range map[string]struct {
		method, path string
		code         int
		body         string
	}{
		"pending":          {"GET", at + "good", 200, "good.thumb"},
		"head":             {"HEAD", at + "good", 200, ""},
		"post":             {"POST", at + "good", 418, ""},
		"unknown":          {"GET", at + "unknown", 418, ""},
		"expired":          {"GET", at + "old", 418, ""},
		"of another token": {"GET", at + "foreign", 418, ""},
		"not a token":      {"GET", at + "evil", 418, ""},
		"damaged":          {"GET", at + "damaged", 418, ""},
		"too large":        {"GET", at + "huge", 418, ""},
		"no token":         {"GET", at, 418, ""},
		"a path":           {"GET", at + "../../accounts/pebble", 418, ""},
		"encoded path":     {"GET", at + "..%2f..%2faccounts%2fpebble", 418, ""},
		"too long":         {"GET", at + strings.Repeat("a", 129), 418, ""},
		"another place":    {"GET", "/good", 418, ""},
	} {
		if code, body := ask(r, c.method, c.path); code != c.code || body != c.body {
			t.Errorf("%s: %d %q", name, code, body)
		}
	}
}

func TestWatchedAnswersNeedNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &counting{Store: store.NewMem(0).Replica("one")}
		r := NewResponder(st, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		rev := put(t, st, httpKey("good"), entry{Value: "good.thumb", Expires: time.Now().Add(time.Hour)})
		synctest.Wait()
		st.fail.Store(true)
		if code, _ := ask(r, "GET", "/.well-known/acme-challenge/good"); code != 200 || st.gets.Load() != 0 {
			t.Errorf("%d after %d reads", code, st.gets.Load())
		}
		if err := st.Delete(ctx, httpKey("good"), rev); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if code, _ := ask(r, "GET", "/.well-known/acme-challenge/good"); code != 418 {
			t.Errorf("still answered after it was removed: %d", code)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestLookUpsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &counting{Store: store.NewMem(0).Replica("one")}
		r := NewResponder(st, slog.New(slog.DiscardHandler))
		const at = "/.well-known/acme-challenge/"
		for range 10 {
			ask(r, "GET", at+"same")
		}
		if n := st.gets.Load(); n != 1 {
			t.Errorf("an absent token was read %d times", n)
		}
		put(t, st, httpKey("same"), entry{Value: "same.thumb", Expires: time.Now().Add(time.Hour)})
		time.Sleep(absentFor + time.Millisecond)
		if code, _ := ask(r, "GET", at+"same"); code != 200 {
			t.Errorf("after %s it is still absent: %d", absentFor, code)
		}
		time.Sleep(time.Second)
		st.gets.Store(0)
		for second := range 3 {
			for n := range 1000 {
				ask(r, "GET", fmt.Sprintf("%sflood%d-%d", at, second, n))
			}
			time.Sleep(time.Second)
		}
		if n := st.gets.Load(); n != 3*lookUps {
			t.Errorf("%d reads in 3 s, want %d", n, 3*lookUps)
		}
		st.fail.Store(true)
		ask(r, "GET", at+"unread")
		st.fail.Store(false)
		put(t, st, httpKey("unread"), entry{Value: "unread.thumb", Expires: time.Now().Add(time.Hour)})
		if code, _ := ask(r, "GET", at+"unread"); code != 200 {
			t.Errorf("a failed read was taken for absent: %d", code)
		}
	})
}

func TestCertificateOfAHandshake(t *testing.T) {
	st := store.NewMem(0).Replica("one")
	long := strings.Repeat("a.", 110) + "example.com"
	for _, name := range []string{"a.example.com", "192.0.2.7", "2001:db8::1", long} {
		put(t, st, alpnKey(name), entry{Name: name, Value: digest("x"), Expires: time.Now().Add(time.Hour)})
	}
	r := NewResponder(st, slog.New(slog.DiscardHandler))
	for name, c := range map[string]struct {
		sni    string
		protos []string
		want   string
	}{
		"pending":        {"A.example.com.", []string{ALPN}, ""},
		"IPv4":           {"7.2.0.192.in-addr.arpa", []string{ALPN}, ""},
		"IPv6":           {"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", []string{ALPN}, ""},
		"long":           {long, []string{ALPN}, ""},
		"not pending":    {"b.example.com", []string{ALPN}, "no challenge is pending"},
		"a person":       {"a.example.com", []string{"h2", "http/1.1"}, "not a handshake"},
		"one of several": {"a.example.com", []string{"h2", ALPN}, "not a handshake"},
		"no name":        {"", []string{ALPN}, "no name"},
		"a path":         {"../../accounts", []string{ALPN}, "no name"},
	} {
		var got *tls.Certificate
		err := shake(c.sni, c.protos, func(hello *tls.ClientHelloInfo) error {
			var err error
			if got, err = r.Certificate(hello); err == nil {
				again, _ := r.Certificate(hello)
				if again != got {
					t.Errorf("%s: made twice", name)
				}
			}
			return err
		}, c.sni)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// shake gives ask the hello of a real handshake.
func shake(sni string, protos []string, ask func(*tls.ClientHelloInfo) error, name string) error {
	ours, theirs := net.Pipe()
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	go func() {
		_ = tls.Client(theirs, &tls.Config{ServerName: "placeholder", NextProtos: protos, InsecureSkipVerify: true}).Handshake()
	}()
	var got error
	server := tls.Server(ours, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		hello.ServerName = name // crypto/tls sends no trailing dots and no empty names
		got = ask(hello)
		return nil, errors.New("enough")
	}})
	_ = server.Handshake()
	return got
}
