package traefik1

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
)

// post gives a file of the story of the post's configuration.
func post(t *testing.T, name string) string {
	t.Helper()
	a, err := txtar.ParseFile("testdata/post.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	t.Fatalf("no %s in testdata/post.txtar", name)
	return ""
}

func decode(t *testing.T, toml string) *config.Static {
	t.Helper()
	n, problems := config.ParseTOML("traefik.toml", []byte(toml))
	s := config.Defaults()
	problems = append(problems, config.Decode(n, s)...)
	for _, p := range problems {
		t.Error(p)
	}
	return s
}

// tree writes pairs as the golden file has them.
func tree(t *testing.T, pairs []Pair) (text string, folders, keys int) {
	t.Helper()
	var b strings.Builder
	for _, p := range pairs {
		key, ok := strings.CutPrefix(p.Key, "traefik/")
		if !ok {
			t.Errorf("key %s is not below traefik/", p.Key)
		}
		switch {
		case p.Dir:
			folders++
			b.WriteString(key + "/\n")
			continue
		case key == "acme/account/object":
			object, err := base64.StdEncoding.DecodeString(p.Value)
			if err != nil || string(object) != emptyAccount {
				t.Errorf("object is %q, %v", object, err)
			}
			p.Value = "base64(JSON account)"
		}
		keys++
		b.WriteString(strings.TrimSpace(key+" = "+p.Value) + "\n")
	}
	return b.String(), folders, keys
}

func TestStaticTreeIsTheOneThePostCounted(t *testing.T) {
	published := post(t, "traefik.toml")
	got, folders, keys := tree(t, StaticTree(decode(t, published)))
	if diff := cmp.Diff(post(t, "want.tree"), got); diff != "" {
		t.Errorf("as published (-want +got):\n%s", diff)
	}
	if folders != 22 || keys != 78 {
		t.Errorf("as published: %d folders and %d keys, want 22 and 78", folders, keys)
	}
	before, _, ok := strings.Cut(published, "  [web.auth.basic]")
	_, after, ok2 := strings.Cut(published, "MOM/\"]\n")
	if !ok || !ok2 {
		t.Fatal("the post's file has no [web.auth.basic]")
	}
	_, folders, keys = tree(t, StaticTree(decode(t, before+after)))
	if folders != 19 || keys != 75 {
		t.Errorf("without [web.auth.basic]: %d folders and %d keys, want 19 and 75", folders, keys)
	}
}

func TestStaticTreeShowsNewSettingsOnlyWhenSet(t *testing.T) {
	s := decode(t, `
[etcd]
prefix = "/a/b"
[acme]
storage = "/elsewhere/acme/"
keyType = "EC384"
[acme.tlsChallenge]
[store]
ttl = "10s"
[[acme.domains]]
main = "a.com"
[lifeCycle]
`)
	got := map[string]string{}
	for _, p := range StaticTree(s) {
		got[p.Key] = p.Value
		if p.Dir {
			got[p.Key] = "(folder)"
		}
	}
	for key, want := range map[string]string{
		"a/b/acme":                                "(folder)",
		"a/b/acme/keytype":                        "EC384",
		"a/b/acme/tlschallenge":                   "", // on, with nothing in it
		"a/b/store/ttl":                           "10000000000",
		"a/b/lifecycle/gracetimeout":              "10000000000",
		"a/b/lifecycle/requestacceptgracetimeout": "0",
		"elsewhere":                               "(folder)",
		"elsewhere/acme":                          "(folder)",
		"elsewhere/acme/lock":                     "",
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %q (%v), want %q", key, v, ok, want)
		}
	}
	for _, key := range []string{"a", "a/b", "a/b/acme/profile", "a/b/store/kind", "a/b/acme/storagefile", "a/b/keeptrailingslash", "a/b/acme/domains/0/sans"} {
		if v, ok := got[key]; ok {
			t.Errorf("%s = %q is written", key, v)
		}
	}
}

func TestStaticNodeReadsTheTreeBack(t *testing.T) {
	want := decode(t, post(t, "traefik.toml"))
	var entries []store.Entry
	for _, p := range StaticTree(want) {
		if !p.Dir {
			entries = append(entries, store.Entry{Key: strings.TrimPrefix(p.Key, "traefik/"), Value: []byte(p.Value)})
		}
	}
	for _, other := range []string{"alias", "leader", "leader___lock", "acme/account/lock___lock", "frontends/a/backend", "backends/a/servers/s/url", "tls/1/certificate/certfile", "http/routers/a/rule"} {
		entries = append(entries, store.Entry{Key: other, Value: []byte("x")})
	}
	n, problems := StaticNode(entries, TreeSource{Provider: "etcd", Prefix: "/traefik"})
	got := config.Defaults()
	problems = append(problems, config.Decode(n, got)...)
	for _, p := range problems {
		t.Error(p)
	}
	want.ACME.StorageFile = "" // storeconfig has consumed it
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
