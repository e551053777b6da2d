// Package internal holds no code; its test is the architecture, executable.
package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed lists, for every package below internal/ and for cmd/gatehouse, the
// packages of ours it may import. Arrows point down; a new arrow is a decision
// and wants its reason in the commit that adds it here. A name ending in "/*"
// stands for all packages below that folder.
var allowed = map[string][]string{
	// row 1: data and contracts
	"config": {},
	"http1":  {},
	"store":  {},
	"wire":   {"http1"},
	// the client of a Kubernetes API server, for the provider and the store
	"kubeclient": {},
	// what a process gets from the one before it, and gives to the next
	"handover": {},
	// when files change, as the operating system tells it
	"filewatch": {},
	// what PEM files say, as they change
	"pemfile": {"filewatch"},
	// where tests end the process; empty in every other build
	"killpoint": {"store"},
	// how near the process is to the memory it may use
	"pressure": {},
	// one list on all cores
	"spread": {},
	// row 2: decisions and their engines; the two halves never see each other
	"route": {"http1"},
	// middlewares have a second form, upon the head as it came
	"middleware":    {"config", "http1", "wire"},
	"upstream":      {"config", "http1", "middleware", "spread", "wire"},
	"entrypoint":    {"config", "entrypoint/*", "http1", "middleware", "pressure", "wire"},
	"entrypoint/h2": {"http1"},
	"provider":      {"config"},
	// parts of entrypoint that know nothing of it
	"entrypoint/h3":         {},
	"entrypoint/proxyproto": {},
	"cert":                  {"spread", "store"},
	"acme":                  {"acme/dns", "cert", "killpoint", "store"},
	"acme/dns":              {},
	// one folder per DNS provider, and the map that lists them
	"acme/dns/providers":    {"acme/dns", "acme/dns/*"},
	"acme/dns/route53":      {"acme/dns"},
	"acme/dns/dnsupdate":    {"acme/dns", "acme/dns/setting"},
	"acme/dns/acmedns":      {"acme/dns", "acme/dns/rest", "acme/dns/setting"},
	"acme/dns/azuredns":     {"acme/dns", "acme/dns/rest", "acme/dns/setting"},
	"acme/dns/cloudflare":   {"acme/dns", "acme/dns/rest", "acme/dns/setting"},
	"acme/dns/digitalocean": {"acme/dns", "acme/dns/rest", "acme/dns/setting"},
	"acme/dns/exec":         {"acme/dns", "acme/dns/setting"},
	"acme/dns/gcloud":       {"acme/dns", "acme/dns/rest", "acme/dns/setting"},
	"acme/dns/httpreq":      {"acme/dns", "acme/dns/rest", "acme/dns/setting"},
	"acme/dns/lego":         {"acme/dns"},
	// what they share: settings, HTTP APIs, the test of their contract
	"acme/dns/setting": {},
	"acme/dns/rest":    {"acme/dns"},
	"acme/dns/dnstest": {"acme/dns"},
	"localca":          {"cert", "store"},
	// row 3: what joins a half to its sources
	"proxy":               {"config", "http1", "middleware", "route", "spread", "upstream", "wire"},
	"traefik1":            {"config", "store"},
	"provider/file":       {"config", "filewatch", "provider", "traefik1"},
	"provider/kubernetes": {"config", "kubeclient", "provider", "store", "traefik1"}, // store: the keys that seal its copy
	"provider/kv":         {"config", "provider", "store", "traefik1"},
	"store/filestore":     {"filewatch", "store"},
	"store/etcd2store":    {"store"},
	"store/etcd3store":    {"store"},
	"store/kubestore":     {"kubeclient", "store"},
	"store/storetest":     {"store"},
	// stores around a store: private keys sealed, a copy on this machine
	"store/sealstore": {"store"},
	"store/copystore": {"store"},
	// row 4: the loop, the windows, the one tool
	"controller":  {"config", "provider", "proxy"},
	"api":         {"cert", "config", "proxy", "store"},
	"storeconfig": {"config", "store", "traefik1"},
	"certimport":  {"traefik1"},
	// row 5: only main knows everybody
	"cmd/gatehouse": {"*"},
}

// The budgets of design section 13.
const (
	maxFunctionLines    = 80
	maxFileLines        = 600
	maxInterfaceMethods = 6
)

// sources parses every non-test Go file of the product, keyed by package path
// below internal/ (or "cmd/gatehouse"). It reads the files itself: the go
// command's test cache would hide a violation.
func sources(t *testing.T) (map[string][]*ast.File, *token.FileSet) {
	t.Helper()
	fset := token.NewFileSet()
	packages := map[string][]*ast.File{}
	for _, root := range []string{".", "../cmd"} {
		err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../")
			packages[name] = append(packages[name], f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(packages) < 3 {
		t.Fatalf("found %d packages: wrong folder?", len(packages))
	}
	return packages, fset
}

func TestImportsPointDown(t *testing.T) {
	packages, fset := sources(t)
	for name, files := range packages {
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the table of allowed imports", name)
			continue
		}
		for _, f := range files {
			for _, spec := range f.Imports {
				target := strings.Trim(spec.Path.Value, `"`)
				if strings.HasPrefix(target, "gatehouse/e2e") {
					t.Errorf("%s imports %s: test servers are no part of the product", fset.Position(spec.Pos()), target)
				}
				target, ours := strings.CutPrefix(target, "gatehouse/internal/")
				if ours && !permits(may, target) {
					t.Errorf("%s: %s must not import %s (it may import %v)", fset.Position(spec.Pos()), name, target, may)
				}
			}
		}
	}
	for name := range allowed {
		if packages[name] == nil {
			t.Errorf("the table names %s, which does not exist", name)
		}
	}
}

func permits(may []string, target string) bool {
	return slices.ContainsFunc(may, func(m string) bool {
		ok, _ := path.Match(m, target)
		return m == "*" || ok
	})
}

func TestSizesStayReadable(t *testing.T) {
	packages, fset := sources(t)
	for _, files := range packages {
		for _, f := range files {
			if n := fset.Position(f.FileEnd).Line; n > maxFileLines {
				t.Errorf("%s has %d lines (at most %d): split it by subject", fset.Position(f.Pos()).Filename, n, maxFileLines)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if complaint := oversized(fset, n); complaint != "" {
					t.Errorf("%s: %s", fset.Position(n.Pos()), complaint)
				}
				return true
			})
		}
	}
}

func oversized(fset *token.FileSet, n ast.Node) string {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if lines := fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1; lines > maxFunctionLines {
			return fmt.Sprintf("func %s has %d lines (at most %d)", n.Name.Name, lines, maxFunctionLines)
		}
	case *ast.InterfaceType:
		if n.Methods.NumFields() > maxInterfaceMethods {
			return fmt.Sprintf("interface with %d methods (at most %d)", n.Methods.NumFields(), maxInterfaceMethods)
		}
	}
	return ""
}

// TestNothingHappensBehindMain: no init(), and only main ends the process.
func TestNothingHappensBehindMain(t *testing.T) {
	packages, fset := sources(t)
	for name, files := range packages {
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Name.Name == "init" && n.Recv == nil {
						t.Errorf("%s: init(): call it from where it is needed", fset.Position(n.Pos()))
					}
				case *ast.SelectorExpr:
					x, ok := n.X.(*ast.Ident)
					exits := ok && (x.Name == "os" && n.Sel.Name == "Exit" || x.Name == "log" && strings.HasPrefix(n.Sel.Name, "Fatal"))
					if exits && name != "cmd/gatehouse" {
						t.Errorf("%s: only main exits", fset.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
}
