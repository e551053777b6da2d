package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoadSearchesForAFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	load := func(args ...string) (Loaded, []Problem) {
		return Load(LoadInput{Args: args, Search: []string{filepath.Join(dir, "missing"), a, b}})
	}
	if l, problems := load(); l.File != "" || problems != nil {
		t.Errorf("no file at all: %q %v", l.File, problems)
	}
	write(t, filepath.Join(b, "gatehouse.toml"), `logLevel = "warn"`)
	write(t, filepath.Join(a, "traefik.toml"), `logLevel = "error"`)
	if l, problems := load(); l.File != filepath.Join(a, "traefik.toml") || l.Static.LogLevel != "error" || problems != nil {
		t.Errorf("the first folder: %q %v", l.File, problems)
	}
	write(t, filepath.Join(a, "gatehouse.yaml"), `logLevel: debug`)
	if l, problems := load(); l.File != filepath.Join(a, "gatehouse.yaml") || l.Static.LogLevel != "debug" || problems != nil {
		t.Errorf("our own name first: %q %v", l.File, problems)
	}
	write(t, filepath.Join(dir, "c", "dash-ed.toml"), `logLevel = "panic"`)
	if l, problems := load("-c", "c/dash-ed.toml"); l.File != "c/dash-ed.toml" || l.Static.LogLevel != "panic" || problems != nil {
		t.Errorf("the file named: %q %v", l.File, problems)
	}
	// A mount of something that is not there makes a folder of that name.
	if err := os.RemoveAll(a); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(a, "gatehouse.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, problems := load(); !Failed(problems) || !strings.Contains(problems[0].String(), "is a directory") {
		t.Errorf("a folder instead of a file: %v", problems)
	}
	home, problems := Load(LoadInput{Environ: []string{"HOME=" + dir}})
	if home.File != "" || problems != nil {
		t.Errorf("nothing in the home: %q %v", home.File, problems)
	}
	write(t, filepath.Join(dir, ".gatehouse", "gatehouse.toml"), `debug = true`)
	home, problems = Load(LoadInput{Environ: []string{"HOME=" + dir}})
	if !home.Static.Debug || problems != nil {
		t.Errorf("in the home: %q %v", home.File, problems)
	}
}

// What Kubernetes sets for a service named like us is no mistake; what only
// looks like it is.
func TestEnvironmentOfOthers(t *testing.T) {
	for entry, ours := range map[string]bool{
		"GATEHOUSE_SERVICE_HOST=10.0.0.1":           false,
		"GATEHOUSE_SERVICE_PORT=80":                 false,
		"GATEHOUSE_SERVICE_PORT_HTTP=80":            false,
		"GATEHOUSE_PORT=tcp://10.0.0.1:80":          false,
		"GATEHOUSE_PORT_80_TCP=tcp://10.0.0.1:80":   false,
		"GATEHOUSE_PORT_80_TCP_PROTO=tcp":           false,
		"GATEHOUSE_API_SERVICE_HOST=10.0.0.1":       false,
		"GATEHOUSE_API_PORT_8080_TCP_ADDR=10.0.0.1": false,
		"GATEHOUSE_TEST_X=1":                        false,
		"gatehouse_etcd=1":                          false,
		"PATH=/bin":                                 false,
		"GATEHOUSE_SERVICES=1":                      true,
		"GATEHOUSE_PORT=80":                         true,
		"GATEHOUSE_=":                               true,
		"GATEHOUSE_LOGLEVLE=x":                      true,
	} {
		_, _, problems := ParseEnv([]string{entry})
		if got := len(problems) > 0; got != ours {
			t.Errorf("%s: %v", entry, problems)
		}
	}
}

// Merge must leave what providers published as it is: it is shared.
func TestMergeIsPure(t *testing.T) {
	source := func() map[string]Routing {
		return map[string]Routing{
			"b": {
				Routers:     map[string]Router{"r": {Service: "w", Middlewares: []string{"m", "m@a"}}, "odd@a": {Service: "s@a"}},
				Services:    map[string]Service{"w": {Weighted: &Weighted{Services: []WeightedService{{Name: "s"}, {Name: "s@a"}, {Name: "gone"}}}}, "s": {}},
				Middlewares: map[string]Middleware{"m": {}},
			},
			"a": {Services: map[string]Service{"s": {}}, Middlewares: map[string]Middleware{"m": {}}},
			"c": {},
		}
	}
	given := source()
	merged, problems := Merge(given)
	if problems != nil {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(source(), given); diff != "" {
		t.Errorf("Merge changed its input:\n%s", diff)
	}
	want := Routing{
		Routers: map[string]Router{
			"r@b":     {Service: "w@b", Middlewares: []string{"m@b", "m@a"}},
			"odd@a@b": {Service: "s@a"},
		},
		Services: map[string]Service{
			"s@a": {}, "s@b": {},
			"w@b": {Weighted: &Weighted{Services: []WeightedService{{Name: "s@b"}, {Name: "s@a"}, {Name: "gone@b"}}}},
		},
		Middlewares: map[string]Middleware{"m@a": {}, "m@b": {}},
	}
	if diff := cmp.Diff(want, merged); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Once normal, a configuration stays as it is, and says nothing new.
func TestNormalizeTwice(t *testing.T) {
	stories(t, "testdata/static/v17.txtar", func(t *testing.T, s *story) {
		l, problems := Load(LoadInput{Search: []string{"."}})
		if Failed(problems) {
			t.Fatal(problems)
		}
		before := dumpStatic(l.Static)
		for _, p := range l.Static.Normalize() {
			if p.Message != later && p.Message != closed && !strings.HasPrefix(p.Message, "without effect") {
				t.Errorf("said again: %v", p)
			}
		}
		if diff := cmp.Diff(before, dumpStatic(l.Static)); diff != "" {
			t.Errorf("-once +twice:\n%s", diff)
		}
	})
}
