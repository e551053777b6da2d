package file

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/config"
	"gatehouse/internal/provider"
)

var _ provider.Provider = (*Provider)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// heard is what a provider has published.
type heard struct {
	mu       sync.Mutex
	times    int
	routing  config.Routing
	problems []config.Problem
	check    func(config.Routing) // of everything published; nil: none
}

func (h *heard) publish(r config.Routing, p []config.Problem) {
	if h.check != nil {
		h.check(r)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.times++
	h.routing, h.problems = r, p
}

func (h *heard) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.times
}

// want waits a moment, then checks the routers and a problem's text.
func (h *heard) want(t *testing.T, problem string, routers ...string) {
	t.Helper()
	time.Sleep(200 * time.Millisecond) // the promise
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := slices.Sorted(maps.Keys(h.routing.Routers)); !slices.Equal(got, routers) {
		t.Errorf("routers %v, want %v", got, routers)
	}
	var all []string
	for _, p := range h.problems {
		all = append(all, p.String())
	}
	text := strings.Join(all, "\n")
	if (problem == "") != (text == "") || !strings.Contains(text, problem) {
		t.Errorf("problems %q, want %q", text, problem)
	}
}

// start runs a provider that looks at files, for tests without the system's
// time and so without the system's watches.
func start(t *testing.T, o Options) *heard {
	t.Helper()
	o.Watches.Most = -1
	return run(t, o)
}

func run(t *testing.T, o Options) *heard {
	t.Helper()
	h := &heard{}
	listen(t, o, h)
	return h
}

func listen(t *testing.T, o Options, h *heard) {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- New(o).Run(ctx, h.publish) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// do fails the test on an error of the file system.
func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func router(name string) string {
	return "[http.routers." + name + "]\nrule = \"Host(`" + name + ".com`)\"\nservice = \"s\"\n"
}

const oldForm = `
[backends.b.servers.s]
url = "http://10.0.0.1"
[frontends.old]
backend = "b"
[frontends.old.routes.r]
rule = "Host:old.com"
`

const yamlForm = `
http:
  routers:
    yaml:
      rule: Host(` + "`yaml.com`" + `)
      service: b
`

func TestOneFileInBothForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "routes.toml")
		h := start(t, Options{Filename: path, Watch: true})
		h.want(t, "routes.toml: cannot be read: no such file")
		write(t, path, router("one")+oldForm)
		h.want(t, "", "old", "one")
		write(t, path, router("two")+oldForm)
		h.want(t, "", "old", "two")
		times := h.count()
		do(t, os.Chtimes(path, time.Now(), time.Now()))
		h.want(t, "", "old", "two")
		if h.count() != times {
			t.Error("published again although only the time changed")
		}
	})
}

func TestABrokenFileKeepsWhatItSaidLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		one, two := filepath.Join(dir, "one.toml"), filepath.Join(dir, "two.toml")
		write(t, one, router("one"))
		write(t, two, router("two"))
		h := start(t, Options{Directory: dir, Watch: true})
		h.want(t, "", "one", "two")
		write(t, one, router("one")+"[http.rout") // half of it
		write(t, two, router("three"))
		h.want(t, "one.toml:4:", "one", "three")
		write(t, one, router("four"))
		h.want(t, "", "four", "three")
		do(t, os.Remove(one))
		h.want(t, "", "three")
		do(t, os.Rename(dir, dir+"-away"))
		h.want(t, "cannot be read", "three")
		do(t, os.Rename(dir+"-away", dir))
		h.want(t, "", "three")
	})
}

// TestWritersInTheMiddle: what is there for less than a look is not believed.
func TestWritersInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "routes.toml")
		write(t, path, router("one"))
		h := start(t, Options{Filename: path, Watch: true})
		h.want(t, "", "one")
		write(t, path, "") // truncated
		time.Sleep(interval)
		write(t, path, router("one")+router("two"))
		h.want(t, "", "one", "two")
		if times := h.count(); times != 2 {
			t.Errorf("published %d times: the empty file was believed", times)
		}
		do(t, os.WriteFile(path+"~tmp", []byte(router("three")), 0o600)) // as editors do
		do(t, os.Rename(path+"~tmp", path))
		h.want(t, "", "three")
		for i := range 60 { // never quiet: taken all the same
			write(t, path+"~tmp", router("busy")+"#"+strings.Repeat("x", i%7)+"\n")
			do(t, os.Rename(path+"~tmp", path))
			time.Sleep(interval)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.routing.Routers["busy"]; !ok {
			t.Error("a file that keeps changing is never taken")
		}
	})
}

func TestAFolderWithLinksAsConfigMapsHaveThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		do(t, os.MkdirAll(filepath.Join(dir, "..v1"), 0o700))
		do(t, os.MkdirAll(filepath.Join(dir, "..v2"), 0o700))
		do(t, os.MkdirAll(filepath.Join(dir, "below", "deeper"), 0o700))
		write(t, filepath.Join(dir, "..v1", "a.toml"), router("v1"))
		write(t, filepath.Join(dir, "..v2", "a.toml"), router("v2"))
		write(t, filepath.Join(dir, "below", "deeper", "b.yml"), yamlForm)
		write(t, filepath.Join(dir, "notes.txt"), "no routes")
		write(t, filepath.Join(dir, ".a.toml.swp"), "no routes")
		do(t, os.Symlink("..v1", filepath.Join(dir, "..data")))
		do(t, os.Symlink("..data/a.toml", filepath.Join(dir, "a.toml")))
		h := start(t, Options{Directory: dir, Watch: true})
		h.want(t, "", "v1", "yaml")
		do(t, os.Symlink("..v2", filepath.Join(dir, "..tmp")))
		do(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
		do(t, os.RemoveAll(filepath.Join(dir, "..v1")))
		h.want(t, "", "v2", "yaml")
	})
}

func TestANameTwoFilesDeclare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.toml"), router("one"))
		write(t, filepath.Join(dir, "b.toml"), "\n"+router("one"))
		h := start(t, Options{Directory: dir, Watch: false})
		h.want(t, "a.toml", "one")
		if text := h.problems[0].String(); !strings.Contains(text, "b.toml:2:") || !strings.Contains(text, "a.toml:1:") {
			t.Errorf("%s: does not name both places", text)
		}
	})
}

func TestKeysAtTheTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "gatehouse.toml")
		write(t, path, "logLevel = \"DEBUG\"\n"+router("one")+oldForm)
		h := start(t, Options{Filename: path})
		h.want(t, "gatehouse.toml:1:1: key logLevel: is not known in a routing file", "old", "one")
		h = start(t, Options{Filename: path, Static: true})
		h.want(t, "", "old", "one")
	})
}

func TestReadsOnceWithoutWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "routes.yaml")
		write(t, path, yamlForm)
		h := start(t, Options{Filename: path})
		h.want(t, "", "yaml")
		write(t, path, "")
		time.Sleep(time.Minute)
		h.want(t, "", "yaml")
	})
}

func TestRunWantsAFileOrAFolder(t *testing.T) {
	for _, o := range []Options{{}, {Filename: "a", Directory: "b"}} {
		if err := New(o).Run(t.Context(), nil); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
