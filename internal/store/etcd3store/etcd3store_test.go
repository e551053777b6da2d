package etcd3store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
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
		Compact: func(t *testing.T) {
			s := open(t, Options{Endpoints: []string{etcd.Endpoint()}})
			err := s.call(t.Context(), callTimeout, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.Get(ctx, "x")
				if err == nil {
					_, err = c.Compact(ctx, r.Header.Revision, clientv3.WithCompactPhysical())
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
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
		"a user name and":    {Endpoints: []string{"a:1"}, Username: "root"},
		"invalid URL escape": {Endpoints: []string{"a%zz:1"}},
	} {
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Open does not need the server; calls say whom they asked, and a dead
// endpoint beside a live one costs nothing.
func TestServerAway(t *testing.T) {
	dead := fmt.Sprintf("127.0.0.1:%d", rig.Port(t))
	s := open(t, Options{Endpoints: []string{dead}, Prefix: "p"})
	start := time.Now()
	_, err := s.Get(t.Context(), "k")
	if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "get p/k from etcd "+dead) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("get: %v", err)
	}
	if took := time.Since(start); took > callTimeout+time.Second {
		t.Errorf("get answered after %v", took)
	}

	both := open(t, Options{Endpoints: []string{dead, rig.StartEtcd(t).Endpoint()}, Prefix: "p"})
	for range 5 {
		if _, err := both.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get from a live one beside a dead one: %v", err)
		}
	}
}

// A user name and a password, wrong ones, and a server that asks for them.
func TestPassword(t *testing.T) {
	etcd := rig.StartEtcd(t)
	plain := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: "p"})
	if _, err := plain.Put(t.Context(), "k", []byte("1"), ""); err != nil {
		t.Fatal(err)
	}
	err := plain.call(t.Context(), callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.UserAdd(ctx, "root", "secret")
		if err == nil {
			_, err = c.UserGrantRole(ctx, "root", "root")
		}
		if err == nil {
			_, err = c.AuthEnable(ctx)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Get(t.Context(), "k"); err == nil || errors.Is(err, store.ErrNotFound) {
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
	select {
	case <-l.Context().Done():
		t.Errorf("lease lost: %v", context.Cause(l.Context()))
	case <-time.After(ttl):
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

// Those who wait get the lease in the order they came.
func TestQueue(t *testing.T) {
	etcd := rig.StartEtcd(t)
	var order []string
	var waiting sync.WaitGroup
	got := make(chan string)
	s := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Replica: "first"})
	held, err := s.Acquire(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		name := fmt.Sprint(i)
		s := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Replica: name})
		waiting.Go(func() {
			l, err := s.Acquire(t.Context(), "a/b")
			if err == nil {
				got <- name
				err = l.Release(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
		time.Sleep(150 * time.Millisecond)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		order = append(order, <-got)
	}
	waiting.Wait()
	if strings.Join(order, "") != "0123" {
		t.Errorf("served in the order %q", order)
	}
}

// A session that etcd forgets ends the lease at the next renewal.
func TestSessionRevoked(t *testing.T) {
	s := open(t, Options{Endpoints: []string{rig.StartEtcd(t).Endpoint()}, Prefix: "p", Replica: "a"})
	l, err := s.Acquire(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	id := l.(*lease).claim.session.id
	err = s.call(t.Context(), callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Context().Done():
		if !errors.Is(context.Cause(l.Context()), store.ErrLeaseLost) {
			t.Errorf("cause %v", context.Cause(l.Context()))
		}
	case <-time.After(ttl):
		t.Error("not told")
	}
	if _, err := s.Acquire(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

func TestFolders(t *testing.T) {
	s := open(t, Options{Endpoints: []string{rig.StartEtcd(t).Endpoint()}, Prefix: "/traefik/"})
	ctx := t.Context()
	for range 2 {
		if err := s.MakeDir(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
	}
	value := func() (kvs int) {
		err := s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.Get(ctx, "/traefik/acme/")
			kvs = len(r.Kvs)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return kvs
	}
	if value() != 1 {
		t.Error("no key /traefik/acme/")
	}
	rev, err := s.Put(ctx, "acme/email", []byte("me@example.com"), "")
	if err != nil {
		t.Fatal(err)
	}
	for entries, err := range s.Watch(ctx, "") {
		if err != nil || len(entries) != 1 || entries[0].Key != "acme/email" {
			t.Errorf("entries %v, %v", entries, err)
		}
		break
	}
	if err := s.DeleteDir(ctx, "acme"); err != nil || value() != 1 {
		t.Errorf("a folder with something in it: %v, there: %d", err, value())
	}
	if err := s.Delete(ctx, "acme/email", rev); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.DeleteDir(ctx, "acme"); err != nil || value() != 0 {
			t.Errorf("an empty folder: %v, there: %d", err, value())
		}
	}
}
