package kubestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"gatehouse/e2e/rig/kube"
	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
	"gatehouse/internal/store/storetest"
)

const ttl = 3 * time.Second

func TestMain(m *testing.M) {
	code := storetest.Main(m, func(where, replica string) (store.Store, error) {
		c, err := kubeclient.Open(kubeclient.Options{Kubeconfig: where})
		if err != nil {
			return nil, err
		}
		return Open(Options{Client: c, TTL: ttl, Replica: replica})
	})
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(t testing.TB, kubeconfig string, o Options) *Store {
	t.Helper()
	c, err := kubeclient.Open(kubeclient.Options{Kubeconfig: kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	o.Client, o.TTL = c, ttl
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
	return s
}

// through gives a kubeconfig that leads to the API server through a proxy.
func through(t *testing.T, k *kube.Kube, p *storetest.Proxy) string {
	t.Helper()
	text, err := os.ReadFile(k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), k.Server, "https://"+p.Addr())), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConforms(t *testing.T) {
	k := kube.Start(t)
	proxies, configs := map[string]*storetest.Proxy{}, map[string]string{}
	for _, name := range []string{"parted", "parted-member", "compacted"} {
		proxies[name] = storetest.NewProxy(t, strings.TrimPrefix(k.Server, "https://"))
		configs[name] = through(t, k, proxies[name])
	}
	storetest.Run(t, func(t *testing.T, replica string) store.Store {
		config := k.Kubeconfig
		if configs[replica] != "" {
			config = configs[replica]
		}
		return open(t, config, Options{Replica: replica})
	}, storetest.Options{
		TTL: ttl, Where: k.Kubeconfig,
		Cut:     func(_ *testing.T, replica string, cut bool) { proxies[replica].Cut(cut) },
		Compact: func(t *testing.T) { compact(t, k) },
		Restart: func(t *testing.T, whileDown func()) {
			k.KillAPI()
			whileDown()
			if err := k.StartAPI(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	})
}

// compact makes etcd forget what was.
func compact(t *testing.T, k *kube.Kube) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{k.Etcd.Endpoint()}, DialTimeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := c.Get(ctx, "x")
	if err == nil {
		_, err = c.Compact(ctx, r.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What people see of a certificate, and what is never touched.
func TestSecrets(t *testing.T) {
	k := kube.Start(t)
	s := open(t, k.Kubeconfig, Options{
		Replica: "a", Namespace: k.Namespace(t),
		Pair: func(value []byte) (chain, key []byte, ok bool) {
			return []byte("chain of " + string(value)), []byte("key of " + string(value)), len(value) > 0
		},
	})
	ctx, key := t.Context(), "certificates/le/3f2a"
	l, err := s.Acquire(ctx, "orders/le/3f2a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := l.Put(ctx, key, []byte("c"), ""); err != nil {
		t.Fatal(err)
	}
	secret, err := s.secrets.Get(ctx, s.o.Namespace, "gatehouse.certificates.le.3f2a")
	if err != nil {
		t.Fatal(err)
	}
	if secret.Type != "kubernetes.io/tls" || string(secret.Data["tls.crt"]) != "chain of c" || string(secret.Data["tls.key"]) != "key of c" {
		t.Errorf("it is a %s with %q", secret.Type, secret.Data)
	}
	if want := fmt.Sprintf("orders/le/3f2a@%d", l.Epoch()); secret.Annotations[noteHolder] != want || secret.Labels[labelKind] != "certificates" {
		t.Errorf("it says %v, %v, want holder %s", secret.Annotations, secret.Labels, want)
	}

	k.Apply(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: gatehouse.mine, namespace: "+s.o.Namespace+"}\nstringData: {value: theirs}\n")
	if _, err := s.Get(ctx, "mine"); !errors.Is(err, errForeign) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get of somebody else's: %v", err)
	}
	_, err = s.Put(ctx, "mine", []byte("ours"), "")
	if !errors.Is(err, errForeign) || !strings.Contains(err.Error(), "put mine: secret "+s.o.Namespace+"/gatehouse.mine: ") {
		t.Errorf("put over somebody else's: %v", err)
	}
	theirs, err := s.secrets.Get(ctx, s.o.Namespace, "gatehouse.mine")
	if err != nil || string(theirs.Data["value"]) != "theirs" {
		t.Errorf("it was touched: %v, %v", theirs, err)
	}
	_ = s.secrets.Delete(ctx, s.o.Namespace, "gatehouse.mine", "")

	// A Lease that a person deletes is lost, and its epochs go on from where
	// they were.
	if err := s.leases.Delete(ctx, s.o.Namespace, "gatehouse.leases.orders.le.3f2a", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Context().Done():
	case <-time.After(ttl):
		t.Error("a deleted Lease is still held")
	}
	again, err := s.Acquire(ctx, "orders/le/3f2a")
	if err != nil {
		t.Fatal(err)
	}
	if again.Epoch() <= l.Epoch() {
		t.Errorf("epoch %d after %d", again.Epoch(), l.Epoch())
	}
}

// A watch whose history the server has forgotten goes on with the whole state.
func TestHistoryLost(t *testing.T) {
	k := kube.Start(t)
	p := storetest.NewProxy(t, strings.TrimPrefix(k.Server, "https://"))
	s, other := open(t, through(t, k, p), Options{Replica: "a"}), open(t, k.Kubeconfig, Options{Replica: "b"})
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	first, err := other.Put(ctx, "a/1", []byte("1"), "")
	if err != nil {
		t.Fatal(err)
	}
	step := 0
	for entries, err := range s.Watch(ctx, "a") {
		if step == 0 && err == nil && len(entries) == 1 {
			step++
			p.Cut(true)
			if err := other.Delete(ctx, "a/1", first); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Put(ctx, "a/2", []byte("2"), ""); err != nil {
				t.Fatal(err)
			}
			k.KillAPI()
			compact(t, k)
			if err := k.StartAPI(ctx); err != nil {
				t.Fatal(err)
			}
			p.Cut(false)
		} else if err == nil && len(entries) == 1 && entries[0].Key == "a/2" {
			return
		}
	}
	t.Error("the watch has not seen what happened")
}
