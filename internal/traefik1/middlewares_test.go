package traefik1

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
)

// TestMiddlewaresExist builds every middleware the stories come to: its kind
// must be known and its parameters be those it takes.
func TestMiddlewaresExist(t *testing.T) {
	builders := middleware.Builders()
	built := map[string]bool{}
	files, _ := filepath.Glob("testdata/routing/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var n *config.Node
		switch f := a.Files[0]; f.Name {
		case "tree":
			n, _ = Tree(entriesOf(t, string(f.Data)), TreeSource{})
		default:
			n, _ = config.ParseTOML(f.Name, f.Data)
		}
		_, theirs := splitForms(n)
		routing, _ := Translate(theirs)
		for name, m := range routing.Middlewares {
			built[m.Kind] = true
			build := builders[m.Kind]
			if build == nil {
				t.Errorf("%s: %s: there is no middleware %s", file, name, m.Kind)
				continue
			}
			_, problems := build(m.Params, middleware.Env{
				Name: name, Origin: m.Origin, Logger: slog.New(slog.DiscardHandler),
				EntryPoint: func(string) (string, bool, bool) { return ":443", true, true },
			})
			for _, p := range problems {
				t.Errorf("%s: %s", file, p)
			}
		}
	}
	for _, kind := range []string{"stripPrefix", "stripPrefixRegex", "addPrefix", "replacePath", "replacePathRegex", "ipAllowList",
		"redirectEntryPoint", "redirectRegex", "headers", "basicAuth", "rateLimit", "inFlightReq"} {
		if !built[kind] {
			t.Errorf("no story uses %s", kind)
		}
	}
}
