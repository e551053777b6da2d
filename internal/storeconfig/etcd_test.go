package storeconfig

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/e2e/rig"
	"gatehouse/internal/store"
	"gatehouse/internal/store/etcd3store"
)

// etcdctl runs the real one against e.
func etcdctl(t *testing.T, e *rig.Etcd, api string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rig.Binary(t, "etcdctl"), append([]string{"--endpoints", e.URL()}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API="+api)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestTheTreeOnARealEtcdV3(t *testing.T) {
	t.Parallel()
	published, counted := post(t)
	e := rig.StartEtcd(t)
	b := newBench()
	open := func(prefix string) store.Store {
		s, err := etcd3store.Open(t.Context(), etcd3store.Options{Endpoints: []string{e.Endpoint()}, Prefix: prefix, Replica: "storeconfig"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	b.tree, b.own, b.storage = open("traefik"), open("/gatehouse"), open("traefik/acme/account")
	b.run(t, b.options(t, published), "78 entries: 78 added, 0 changed, 0 removed")
	names := strings.Fields(etcdctl(t, e, "3", "get", "--prefix", "--keys-only", "traefik/"))
	var got, want []string
	for _, name := range names {
		got = append(got, strings.TrimPrefix(name, "traefik/"))
	}
	a, err := txtar.ParseFile("../traefik1/testdata/post.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(a.Files[1].Data)) {
		if key, _, isKey := strings.Cut(line, " ="); isKey {
			want = append(want, key)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +etcdctl):\n%s", diff)
	}
	if value := etcdctl(t, e, "3", "get", "--print-value-only", "traefik/etcd/endpoint"); value != "192.168.0.151:2379,192.168.0.152:2379,192.168.0.153:2379\n" {
		t.Errorf("etcd/endpoint is %q", value)
	}
	b.run(t, b.options(t, published), "78 entries: 0 added, 0 changed, 0 removed")
	b.run(t, b.options(t, counted), "75 entries: 0 added, 0 changed, 3 removed")
}
