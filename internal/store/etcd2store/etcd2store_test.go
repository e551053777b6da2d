package etcd2store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatehouse/e2e/rig"
	"gatehouse/internal/store"
	"gatehouse/internal/store/storetest"
)

const ttl = 3 * time.Second

func TestMain(m *testing.M) {
	code := storetest.Main(m, func(where, replica string) (store.Store, error) {
		return Open(context.Background(), Options{Endpoints: []string{where}, Prefix: "gatehouse", TTL: ttl, Replica: replica})
	})
	http.DefaultClient.CloseIdleConnections() // the rig's
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	o.TTL = ttl
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConforms(t *testing.T) {
	etcd := rig.StartEtcd(t)
	proxies := map[string]*storetest.Proxy{}
	for _, name := range []string{"parted", "parted-member", "compacted"} {
		proxies[name] = storetest.NewProxy(t, etcd.Endpoint())
	}
	storetest.Run(t, func(t *testing.T, replica string) store.Store {
		endpoint := etcd.Endpoint()
		if p := proxies[replica]; p != nil {
			endpoint = p.Addr()
		}
		return open(t, Options{Endpoints: []string{endpoint}, Prefix: "gatehouse", Replica: replica})
	}, storetest.Options{
		TTL: ttl, Where: etcd.Endpoint(),
		Cut: func(_ *testing.T, replica string, cut bool) { proxies[replica].Cut(cut) },
		Compact: func(t *testing.T) { // etcd keeps the last thousand events
			s := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "elsewhere"})
			for range 1100 {
				if _, err := s.api.do(t.Context(), http.MethodPut, s.path("k"), nil, url.Values{"value": {"x"}}); err != nil {
					t.Fatal(err)
				}
			}
		},
		Restart: func(t *testing.T, whileDown func()) {
			if err := etcd.Stop(5 * time.Second); err != nil {
				t.Fatal(err)
			}
			whileDown()
			if err := etcd.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	})
}

func TestOpenRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"no endpoint":        {},
		`scheme "ftp"`:       {Endpoints: []string{"ftp://a:1"}},
		"no host":            {Endpoints: []string{"http://"}},
		"a user name and":    {Endpoints: []string{"a:1"}, Password: "x"},
		"invalid URL escape": {Endpoints: []string{"a%zz:1"}},
	} {
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Open does not need the server; calls say whom they asked, and dead
// endpoints are passed over.
func TestServerAway(t *testing.T) {
	dead := fmt.Sprintf("127.0.0.1:%d", rig.Port(t))
	s := open(t, Options{Endpoints: []string{dead}, Prefix: "p"})
	_, err := s.Get(t.Context(), "k")
	if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "get /p/k in etcd v2 http://"+dead) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("get: %v", err)
	}
	silent := storetest.NewProxy(t, rig.StartEtcd(t).Endpoint())
	silent.Cut(true)
	live := rig.StartEtcd(t).Endpoint()
	for _, first := range []string{dead, silent.Addr()} {
		s := open(t, Options{Endpoints: []string{first, live}, Prefix: "p"})
		if _, err := s.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get from a live one after a dead one: %v", err)
		}
		start := time.Now()
		if _, err := s.Put(t.Context(), strings.ReplaceAll(first, ":", "-"), nil, ""); err != nil || time.Since(start) > time.Second {
			t.Errorf("put to the live one: %v, after %v", err, time.Since(start))
		}
	}
}

func TestPassword(t *testing.T) {
	etcd := rig.StartEtcd(t)
	plain := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "p"})
	if _, err := plain.Put(t.Context(), "k", []byte("1"), ""); err != nil {
		t.Fatal(err)
	}
	for _, request := range [][2]string{
		{"/v2/auth/users/root", `{"user":"root","password":"secret"}`},
		{"/v2/auth/enable", ""},
		{"/v2/auth/roles/guest", `{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}`},
	} {
		auth(t, etcd.URL()+request[0], request[1])
	}
	_, err := plain.Get(t.Context(), "k")
	if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "401 Unauthorized") {
		t.Errorf("without a password: %v", err)
	}
	wrong := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "p", Username: "root", Password: "guess"})
	if _, err := wrong.Get(t.Context(), "k"); err == nil || errors.Is(err, store.ErrNotFound) || strings.Contains(err.Error(), "guess") {
		t.Errorf("with a wrong password: %v", err)
	}
	right := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "p", Username: "root", Password: "secret"})
	l, err := right.Acquire(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := l.Get(t.Context(), "k"); err != nil || string(e.Value) != "1" {
		t.Errorf("with the password: %q, %v", e.Value, err)
	}
}

func auth(t *testing.T, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("root", "secret")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s: %s", url, resp.Status)
	}
}

func TestTLS(t *testing.T) {
	proxy, trust := storetest.NewTLSProxy(t, rig.StartEtcd(t).Endpoint())
	for name, o := range map[string]Options{
		"by settings": {Endpoints: []string{proxy.Addr()}, TLS: trust},
		"by URL":      {Endpoints: []string{"https://" + proxy.Addr()}, TLS: trust},
	} {
		s := open(t, o)
		if _, err := s.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := open(t, Options{Endpoints: []string{"https://" + proxy.Addr()}})
	if _, err := stranger.Get(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "x509: certificate signed by unknown authority") {
		t.Errorf("a server nobody vouches for: %v", err)
	}
}

// A check that was answered before the lease was lost does not help a write
// that arrives after the next holder has read.
func TestWriteInFlight(t *testing.T) {
	etcd := rig.StartEtcd(t)
	a := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "p", Replica: "a"})
	b := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "p", Replica: "b"})
	ctx := t.Context()
	if _, err := a.Put(ctx, "present", []byte("1"), ""); err != nil {
		t.Fatal(err)
	}
	la, err := a.Acquire(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	older := la.(*lease)
	e, err := older.Get(ctx, "present")
	if err != nil {
		t.Fatal(err)
	}
	present, err := a.base(ctx, "present", e.Revision)
	if err != nil {
		t.Fatal(err)
	}
	absent, err := a.base(ctx, "absent", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := older.check(ctx); err != nil {
		t.Fatal(err)
	}

	if err := older.node.remove(ctx); err != nil { // as the end of its TTL would
		t.Fatal(err)
	}
	newer, err := b.Acquire(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	has, err := newer.Get(ctx, "present")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newer.Get(ctx, "absent"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}

	if _, err := a.swap(ctx, "present", "late", present, 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a late change: %v", err)
	}
	if _, err := a.swap(ctx, "absent", "late", absent, 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a late creation: %v", err)
	}
	if err := newer.Delete(ctx, "present", has.Revision); err != nil {
		t.Fatal(err)
	}
	if _, err := a.swap(ctx, "present", "late", 0, 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a late creation of what was deleted: %v", err)
	}
	if _, err := newer.Put(ctx, "absent", []byte("2"), ""); err != nil {
		t.Errorf("the new holder's own: %v", err)
	}
}

// People and other programs see values as they were written, and the other
// way round.
func TestReadableByOthers(t *testing.T) {
	etcd := rig.StartEtcd(t)
	s := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "/traefik/"})
	ctl := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), rig.Binary(t, "etcdctl"), append([]string{"--endpoints", etcd.URL()}, args...)...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=2")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("etcdctl %q: %v: %s", args, err, out)
		}
		return strings.TrimSuffix(string(out), "\n")
	}
	if _, err := s.Put(t.Context(), "web/address", []byte(":8080"), ""); err != nil {
		t.Fatal(err)
	}
	if got := ctl("get", "/traefik/web/address"); got != ":8080" {
		t.Errorf("etcdctl reads %q", got)
	}
	ctl("set", "/traefik/frontends/a/routes/1/rule", "Host:a.example.com")
	e, err := s.Get(t.Context(), "frontends/a/routes/1/rule")
	if err != nil || string(e.Value) != "Host:a.example.com" {
		t.Errorf("we read %q, %v", e.Value, err)
	}
}

func TestFolders(t *testing.T) {
	s := open(t, Options{Endpoints: []string{rig.StartEtcd(t).Endpoint()}, Prefix: "/traefik"})
	ctx := t.Context()
	for range 2 {
		if err := s.MakeDir(ctx, "acme/domains"); err != nil {
			t.Fatal(err)
		}
	}
	rev, err := s.Put(ctx, "acme/email", []byte("me@example.com"), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.MakeDir(ctx, "acme/email"); err == nil {
		t.Error("a key was made a folder")
	}
	for entries, err := range s.Watch(ctx, "") {
		if err != nil || len(entries) != 1 || entries[0].Key != "acme/email" {
			t.Errorf("entries %v, %v", entries, err)
		}
		break
	}
	for _, key := range []string{"acme", "acme/email"} {
		if err := s.DeleteDir(ctx, key); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Get(ctx, "acme/email"); err != nil {
		t.Errorf("removing folders removed a key: %v", err)
	}
	if err := s.Delete(ctx, "acme/email", rev); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"acme/domains", "acme", "acme"} {
		if err := s.DeleteDir(ctx, key); err != nil {
			t.Error(err)
		}
	}
	if dir, err := s.isDir(ctx, "acme"); !isCode(err, codeKeyNotFound) {
		t.Errorf("the folder is there: %v, %v", dir, err)
	}
}

func FuzzEncode(f *testing.F) {
	for _, seed := range []string{"", "a", "\xff", "gatehouse:", tombstone, encoded, encoded + "!", "gr\xc3"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		raw := encode(value)
		if string(decode(raw)) != string(value) || raw == tombstone || strings.ToValidUTF8(raw, "") != raw {
			t.Errorf("%q is written %q and read %q", value, raw, decode(raw))
		}
	})
}

func FuzzHide(f *testing.F) {
	for _, seed := range []string{"", "_", "_a", "a_", "%5F", "%255F", "%25255Fx", "%25", "%", "%5f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, segment string) {
		if h := hide(segment); unhide(h) != segment || strings.HasPrefix(h, "_") {
			t.Errorf("%q is written %q and read %q", segment, h, unhide(h))
		}
	})
}
