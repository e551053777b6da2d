package middleware

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"gatehouse/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testEnv knows two entry points.
func testEnv() Env {
	return Env{
		Name:   "m@file",
		Origin: config.Origin{Provider: "file", Source: "routes.toml", Line: 1},
		EntryPoint: func(name string) (string, bool, bool) {
			switch name {
			case "http":
				return ":80", false, true
			case "https":
				return ":443", true, true
			case "alt":
				return "127.0.0.1:8443", true, true
			case "broken":
				return "nowhere", false, true
			}
			return "", false, false
		},
	}
}

// declare builds a middleware from TOML parameters.
func declare(t testing.TB, kind, params string) (Middleware, []config.Problem) {
	t.Helper()
	n, problems := config.ParseTOML("routes.toml", []byte(params))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	b, ok := Find(Builders(), kind)
	if !ok {
		t.Fatalf("no kind %s", kind)
	}
	return b(n, testEnv())
}

func mustDeclare(t testing.TB, kind, params string) Middleware {
	t.Helper()
	m, problems := declare(t, kind, params)
	if m.Wrap == nil || len(problems) > 0 {
		t.Fatalf("%s: %v", kind, problems)
	}
	return m
}

// serve sends one request through a middleware and gives the answer and the
// request the next handler saw (nil: none).
func serve(m Middleware, r *http.Request, next http.HandlerFunc) (*httptest.ResponseRecorder, *http.Request) {
	var seen *http.Request
	w := httptest.NewRecorder()
	m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		if next != nil {
			next(w, r)
		}
	})).ServeHTTP(w, r)
	return w, seen
}

func TestEveryKindHasAPageAndEveryPageAKind(t *testing.T) {
	folder := filepath.Join("..", "..", "docs", "middlewares")
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, f := range files {
		kind := strings.TrimSuffix(f.Name(), ".md")
		pages = append(pages, kind)
		if Builders()[kind] == nil {
			t.Errorf("docs/middlewares/%s describes no kind", f.Name())
		}
		text, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, section := range []string{"# " + kind, "## Synopsis", "## Description", "## Parameters", "## Examples", "```toml", "```yaml", "## Notes"} {
			i := strings.Index(string(text)[at:], section)
			if i < 0 {
				t.Errorf("docs/middlewares/%s: %q is missing or out of order", f.Name(), section)
				break
			}
			at += i
		}
	}
	for kind := range Builders() {
		if !slices.Contains(pages, kind) {
			t.Errorf("kind %s has no page docs/middlewares/%s.md", kind, kind)
		}
	}
}

// TestExamplesOfThePages builds every example, so that pages do not lie.
func TestExamplesOfThePages(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind := range Builders() {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", "middlewares", kind+".md"))
		if err != nil {
			t.Fatal(err)
		}
		page := strings.ReplaceAll(string(text), "/etc/gatehouse/users", users)
		count := 0
		for _, block := range strings.Split(page, "```")[1:] {
			var n *config.Node
			var problems []config.Problem
			switch {
			case strings.HasPrefix(block, "toml\n"):
				n, problems = config.ParseTOML(kind+".md", []byte(block[5:]))
			case strings.HasPrefix(block, "yaml\n"):
				n, problems = config.ParseYAML(kind+".md", []byte(block[5:]))
			default:
				continue
			}
			var file struct {
				HTTP struct {
					Middlewares map[string]map[string]*config.Node `key:"middlewares"`
				} `key:"http"`
			}
			problems = append(problems, config.Decode(n, &file)...)
			for name, m := range file.HTTP.Middlewares {
				for k, params := range m {
					b, ok := Find(Builders(), k)
					if !ok || !strings.EqualFold(k, kind) {
						t.Errorf("%s: example %s is of kind %s", kind, name, k)
						continue
					}
					count++
					_, more := b(params, testEnv())
					problems = append(problems, more...)
				}
			}
			for _, p := range problems {
				t.Errorf("%s: %v", kind, p)
			}
		}
		if count < 2 {
			t.Errorf("%s: %d examples, want one in TOML and one in YAML", kind, count)
		}
	}
}
