package storeconfig

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/e2e/rig"
	"gatehouse/internal/store/etcd2store"
)

// count is "etcdctl ls traefik --recursive | wc -l".
func count(t *testing.T, e *rig.Etcd) int {
	t.Helper()
	return strings.Count(etcdctl(t, e, "2", "ls", "traefik", "--recursive"), "\n")
}

// listed is what "etcdctl ls traefik --recursive" prints, with its values, in
// the form of the golden file.
func listed(t *testing.T, e *rig.Etcd) string {
	t.Helper()
	names := strings.Fields(etcdctl(t, e, "2", "ls", "traefik", "--recursive"))
	folders := strings.Fields(etcdctl(t, e, "2", "ls", "traefik", "--recursive", "-p"))
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		key := strings.TrimPrefix(name, "/traefik/")
		switch {
		case slices.Contains(folders, name+"/"):
			b.WriteString(key + "/\n")
		case key == "acme/account/object":
			b.WriteString(key + " = base64(JSON account)\n")
		default:
			value := strings.TrimSuffix(etcdctl(t, e, "2", "get", name), "\n")
			b.WriteString(strings.TrimSpace(key+" = "+value) + "\n")
		}
	}
	return b.String()
}

func TestTheTreeOnARealEtcdV2IsTheOneThePostCounted(t *testing.T) {
	t.Parallel()
	published, counted := post(t)
	a, err := txtar.ParseFile("../traefik1/testdata/post.txtar")
	if err != nil {
		t.Fatal(err)
	}
	e := rig.StartEtcd(t)
	b := newBench()
	open := func(prefix string) *etcd2store.Store {
		s, err := etcd2store.Open(t.Context(), etcd2store.Options{Endpoints: []string{e.Endpoint()}, Prefix: prefix, Replica: "storeconfig"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	tree := open("/traefik")
	b.tree, b.own, b.storage = tree, open("/gatehouse"), open("traefik/acme/account")
	options := func(toml string) Options {
		o := b.options(t, toml)
		o.Folders = tree
		return o
	}
	b.run(t, options(counted), "94 entries: 94 added, 0 changed, 0 removed")
	if lines := count(t, e); lines != 94 {
		t.Errorf("etcdctl lists %d, want the post's 94", lines)
	}
	b.run(t, options(published), "100 entries: 6 added, 0 changed, 0 removed")
	if lines := count(t, e); lines != 100 {
		t.Errorf("etcdctl lists %d, want 100", lines)
	}
	if diff := cmp.Diff(string(a.Files[1].Data), listed(t, e)); diff != "" {
		t.Errorf("as published (-want +etcdctl):\n%s", diff)
	}
	index := etcdctl(t, e, "2", "-o", "extended", "get", "/traefik/loglevel")
	b.run(t, options(published), "100 entries: 0 added, 0 changed, 0 removed")
	if again := etcdctl(t, e, "2", "-o", "extended", "get", "/traefik/loglevel"); written(again) != written(index) {
		t.Errorf("written again:\n%s\n%s", index, again)
	}
	b.run(t, options(counted), "94 entries: 0 added, 0 changed, 6 removed")
	if lines := count(t, e); lines != 94 {
		t.Errorf("etcdctl lists %d after the removal, want 94", lines)
	}
	etcdctl(t, e, "2", "rm", "traefik", "--recursive") // as the post says
	b.run(t, options(published), "100 entries: 100 added, 0 changed, 0 removed")
}

// written is the line that says when a key was written.
func written(extended string) string {
	for line := range strings.Lines(extended) {
		if strings.HasPrefix(line, "Modified-Index") {
			return line
		}
	}
	return ""
}
