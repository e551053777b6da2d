package storeconfig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
	"gatehouse/internal/traefik1"
)

// bench is a store in memory with what storeconfig needs around it.
type bench struct {
	tree, own, storage store.Store
	out                bytes.Buffer
}

func newBench() *bench {
	of := func() store.Store { return store.NewMem(5 * time.Second).Replica("a") }
	return &bench{tree: of(), own: of(), storage: of()}
}

// options for a configuration in TOML.
func (b *bench) options(t *testing.T, toml string) Options {
	t.Helper()
	b.out.Reset()
	return Options{Written: decode(t, toml), Tree: b.tree, Own: b.own, Storage: b.storage, Out: &b.out, Logger: slog.New(slog.DiscardHandler)}
}

// run checks the summary.
func (b *bench) run(t *testing.T, o Options, want string) {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if report.String() != want || !strings.HasSuffix(b.out.String(), want+"\n") {
		t.Errorf("got %s\nwant %s\nprinted:\n%s", report, want, b.out.String())
	}
}

func decode(t testing.TB, toml string) *config.Static {
	t.Helper()
	n, problems := config.ParseTOML("traefik.toml", []byte(toml))
	s := config.Defaults()
	problems = append(problems, config.Decode(n, s)...)
	for _, p := range problems {
		t.Fatal(p)
	}
	return s
}

// post is the file of the post, with and without [web.auth.basic].
func post(t testing.TB) (published, counted string) {
	t.Helper()
	a, err := txtar.ParseFile("../traefik1/testdata/post.txtar")
	if err != nil {
		t.Fatal(err)
	}
	published = string(a.Files[0].Data)
	before, rest, ok := strings.Cut(published, "  [web.auth.basic]")
	_, after, ok2 := strings.Cut(rest, "MOM/\"]\n")
	if !ok || !ok2 {
		t.Fatal("the post's file has no [web.auth.basic]")
	}
	return published, before + after
}

func keys(t *testing.T, s store.Store) map[string]string {
	t.Helper()
	entries, err := store.List(t.Context(), s, "")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		all[e.Key] = string(e.Value)
	}
	return all
}

func TestASecondRunChangesNothing(t *testing.T) {
	published, counted := post(t)
	b := newBench()
	b.run(t, b.options(t, published), "78 entries: 78 added, 0 changed, 0 removed")
	first := keys(t, b.tree)
	if first["loglevel"] != "DEBUG" || first["etcd/prefix"] != "/traefik" {
		t.Errorf("the tree is %v", first)
	}
	b.run(t, b.options(t, published), "78 entries: 0 added, 0 changed, 0 removed")
	if b.out.String() != "78 entries: 0 added, 0 changed, 0 removed\n" {
		t.Errorf("printed:\n%s", b.out.String())
	}
	b.run(t, b.options(t, counted), "75 entries: 0 added, 0 changed, 3 removed")
	want := "- traefik/web/auth/headerfield = \"\"\n- traefik/web/auth/basic/usersfile = \"\"\n- traefik/web/auth/basic/users/0 = (secret)\n"
	if !strings.HasPrefix(b.out.String(), want) {
		t.Errorf("printed:\n%s", b.out.String())
	}
}

func TestOnlyItsOwnKeysGoAndOnlyDifferencesAreWritten(t *testing.T) {
	b := newBench()
	put := func(key, value string) {
		if _, err := b.tree.Put(t.Context(), key, []byte(value), ""); err != nil {
			t.Fatal(err)
		}
	}
	put("frontends/web/backend", "b")
	put("acme/account/object", "precious")
	put("loglevel", "INFO")
	toml := "logLevel = \"DEBUG\"\n[etcd]\n[ping]\n[acme]\nstorage = \"traefik/acme/account\"\n[kubernetes]\ntoken = \"hush\"\n"
	if _, err := Run(t.Context(), b.options(t, toml)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.out.String(), `~ traefik/loglevel = "INFO" -> "DEBUG"`) || strings.Contains(b.out.String(), "hush") {
		t.Errorf("printed:\n%s", b.out.String())
	}
	if _, err := Run(t.Context(), b.options(t, "[etcd]\n")); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.out.String(), "hush") {
		t.Errorf("printed:\n%s", b.out.String())
	}
	left := keys(t, b.tree)
	for key, want := range map[string]string{"frontends/web/backend": "b", "acme/account/object": "precious", "acme/account/lock": "", "loglevel": "INFO"} {
		if got, ok := left[key]; !ok || got != want {
			t.Errorf("%s is %q, %v; want %q", key, got, ok, want)
		}
	}
	for _, key := range []string{"ping/entrypoint", "ping", "acme/email", "kubernetes/token"} {
		if _, ok := left[key]; ok {
			t.Errorf("%s is still there", key)
		}
	}
}

func TestASectionThatGetsKeysIsNoKeyAnyMore(t *testing.T) {
	b := newBench()
	b.run(t, b.options(t, "[acme.tlsChallenge]\n"), "23 entries: 23 added, 0 changed, 0 removed")
	if v, ok := keys(t, b.tree)["acme/tlschallenge"]; !ok || v != "" {
		t.Errorf("a section that is on and empty: %q, %v", v, ok)
	}
	// as if an older schema had known no keys of ping
	w := wanted{root: "traefik", pairs: []traefik1.Pair{{Key: "ping", Dir: true}, {Key: "ping/entrypoint", Value: "x"}}}
	p := compare(w, []store.Entry{{Key: "ping"}}, manifest{Keys: []string{"ping"}}, true)
	var got []string
	for _, c := range p.changes {
		got = append(got, c.String())
	}
	if diff := cmp.Diff([]string{`- traefik/ping = ""`, "+ traefik/ping/", `+ traefik/ping/entrypoint = "x"`}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	published, _ := post(t)
	b := newBench()
	o := b.options(t, published)
	o.DryRun = true
	b.run(t, o, "78 entries: 78 added, 0 changed, 0 removed (dry run: nothing was written)")
	text := b.out.String()
	for _, want := range []string{"+ traefik/loglevel = \"DEBUG\"\n", "+ traefik/web/auth/basic/users/0 = (secret)\n", "+ traefik/acme/account/object = (secret)\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	if n := len(keys(t, b.tree)) + len(keys(t, b.own)) + len(keys(t, b.storage)); n != 0 {
		t.Errorf("%d keys were written", n)
	}
}

func TestRoutingOfTheFileIsWrittenAndReadBack(t *testing.T) {
	const toml = `
[backends.Web.servers.s1]
url = "http://10.0.0.1"
[backends.Web.healthCheck]
path = "/up"
interval = "5s"
[frontends.Site]
backend = "Web"
passHostHeader = false
entryPoints = ["http", "https"]
[frontends.Site.headers.customRequestHeaders]
X-Own = "1"
[frontends.Site.routes.one]
rule = "Host:a.com;Path:/{x:[a-z]{1,3}}"
[[tls]]
[tls.certificate]
certFile = "c"
keyFile = "k"
[http.routers.Own]
rule = "Host(` + "`b.com`" + `)"
service = "Web"
`
	routing, problems := config.ParseTOML("routes.toml", []byte(toml))
	want, more := traefik1.Parse(routing, "file")
	for _, p := range append(problems, more...) {
		t.Fatal(p)
	}
	b := newBench()
	o := b.options(t, "[file]\n")
	o.Routing = routing
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	all := keys(t, b.tree)
	for key, value := range map[string]string{"backends/Web/healthcheck/interval": "5s", "frontends/Site/passhostheader": "false",
		"frontends/Site/entrypoints/1": "https", "frontends/Site/headers/customrequestheaders/X-Own": "1", "tls/0/certificate/keyfile": "k", "http/routers/Own/service": "Web"} {
		if all[key] != value {
			t.Errorf("%s is %q, want %q", key, all[key], value)
		}
	}
	entries, err := store.List(t.Context(), b.tree, "")
	if err != nil {
		t.Fatal(err)
	}
	n, _ := traefik1.Tree(traefik1.RoutingEntries(entries, "/traefik"), traefik1.TreeSource{})
	got, problems := traefik1.Parse(n, "etcd")
	for _, p := range problems {
		t.Error(p)
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool {
		name := p.Last().String()
		return name == ".Origin" || name == ".Weak" || name == ".Params"
	}, cmp.Ignore())
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("(-file +store):\n%s", diff)
	}
}

func TestNothingIsWrittenOfWhatIsInvalid(t *testing.T) {
	for name, toml := range map[string]string{
		"no slash":          "[backends.\"a/b\".servers.s]\nurl = \"http://a\"\n",
		"answers 503":       "[frontends.a]\nbackend = \"b\"\n[frontends.a.auth.digest]\n[frontends.a.routes.r]\nrule = \"Host:a\"\n",
		"unknown matcher":   "[frontends.a]\nbackend = \"b\"\n[frontends.a.routes.r]\nrule = \"Hots:a\"\n",
		"is an invalid key": "",
	} {
		b := newBench()
		o := b.options(t, "[file]\n")
		if toml == "" {
			o = b.options(t, "[entryPoints.\"a//b\"]\naddress = \":80\"\n")
		}
		o.Routing, _ = config.ParseTOML("routes.toml", []byte(toml))
		_, err := Run(t.Context(), o)
		var invalid *InvalidError
		if !errors.As(err, &invalid) || len(keys(t, b.tree))+len(keys(t, b.own)) != 0 {
			t.Errorf("%s: %v, %d keys written", name, err, len(keys(t, b.tree)))
		}
	}
}

func TestACMEDataIsTakenOverOnlyWhenAsked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acme.json")
	b := newBench()
	toml := "[acme]\nstorage = \"elsewhere/acme\"\nstorageFile = \"" + file + "\"\n"
	var got []string
	options := func() Options {
		o := b.options(t, toml)
		o.Import = func(_ context.Context, c traefik1.ACMECertificate) (bool, error) {
			got = append(got, c.Names[0])
			if c.Names[0] == "refused.com" {
				return false, errors.New("write certificates: no")
			}
			return true, nil
		}
		return o
	}
	run := func(o Options, want string) {
		t.Helper()
		got = nil
		if _, err := Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("imported %v, want %s; printed:\n%s", got, want, b.out.String())
		}
	}
	asked := func() Options {
		o := options()
		o.ImportACME = true
		return o
	}
	run(asked(), "") // the file does not exist
	if account := keys(t, b.storage); account["object"] == "" {
		t.Errorf("no account was created: %v", account)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run(asked(), "") // the file is empty
	if err := os.WriteFile(file, acmeFile(t, "one.com", "refused.com", "two.com"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(options(), "")
	if !strings.Contains(b.out.String(), "left alone") {
		t.Errorf("printed:\n%s", b.out.String())
	}
	run(asked(), "one.com refused.com two.com")
	if text := b.out.String(); !strings.Contains(text, "! ") || !strings.Contains(text, "certificates: 2 imported, 1 refused") || strings.Contains(text, "PRIVATE") {
		t.Errorf("printed:\n%s", text)
	}
	e, err := b.storage.Get(t.Context(), "object")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.storage.Put(t.Context(), "object", acmeFile(t, "kept.com"), e.Revision); err != nil {
		t.Fatal(err)
	}
	o := asked()
	o.DryRun = true
	run(o, "")
	if !strings.Contains(b.out.String(), "+ certificate [kept.com] from elsewhere/acme/object") {
		t.Errorf("printed:\n%s", b.out.String())
	}
	run(asked(), "one.com refused.com two.com kept.com")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), asked()); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder in place of the file: %v", err)
	}
}

// acmeFile is an acme.json of 1.7 with a real certificate for each name.
func acmeFile(t *testing.T, names ...string) []byte {
	t.Helper()
	var list []map[string]any
	for _, name := range names {
		cert, key := issue(t, name)
		list = append(list, map[string]any{"Domain": map[string]any{"Main": name}, "Certificate": cert, "Key": key})
	}
	data, err := json.Marshal(map[string]any{"Certificates": list})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// failing fails the nth write.
type failing struct {
	store.Store
	left int
}

func (f *failing) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	if f.left--; f.left < 0 {
		return "", errors.New("connection reset")
	}
	return f.Store.Put(ctx, key, value, have)
}

// TestARunThatIsCutOffIsFinishedByTheNext: and leaves no key that nobody owns.
func TestARunThatIsCutOffIsFinishedByTheNext(t *testing.T) {
	published, _ := post(t)
	b := newBench()
	o := b.options(t, published)
	o.Tree = &failing{b.tree, 30}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "write /traefik/") {
		t.Fatalf("error %v", err)
	}
	b.run(t, b.options(t, "[etcd]\nendpoint = \"x\"\n"), "22 entries: 18 added, 1 changed, 24 removed")
}
