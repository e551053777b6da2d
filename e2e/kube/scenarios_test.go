package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/kube"
)

var update = flag.Bool("update", false, "write docs/providers/ingress-scenarios.md anew")

// scenario is one case of Ingress: what is asked, and the objects it needs.
// Those of a group's folder are in testdata/scenarios.
type scenario struct {
	title   string
	lines   []string // as written: "ask -> outcome", or in changes "kubectl ..." and "apply"
	objects string   // YAML
}

type group struct {
	title     string
	scenarios []scenario
}

// groups are the files of scenarios in the order they are shown. The last one's
// change what the others stand on, and run one after the other.
var groups = []string{"default-backend", "host", "class", "path", "several", "backend", "carry", "tenants", "changes"}

func readGroups(t *testing.T) []group {
	t.Helper()
	var all []group
	for _, name := range groups {
		archive, err := txtar.ParseFile("testdata/scenarios/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		g := group{title: strings.TrimSuffix(strings.TrimSpace(string(archive.Comment)), ".")}
		for _, f := range archive.Files {
			lines, objects, _ := strings.Cut(string(f.Data), "\n\n")
			g.scenarios = append(g.scenarios, scenario{f.Name, strings.Split(strings.TrimSpace(lines), "\n"), objects})
		}
		all = append(all, g)
	}
	return all
}

// ask is one line of a scenario: "via WHO PROTOCOL METHOD URL Name: value; ..."
// of which all but the URL may be left out, and what must come of it.
type ask struct {
	via      string // which Gatehouse
	protocol string // "h2", "ws", "grpc", "spread"; "": HTTP/1.1
	method   string
	url      *url.URL
	header   map[string]string
	object   string   // instead of a URL: "event", "status", "slice" of this object, or "read" by whom
	want     []string // "alpha/one", "path /x", ...
}

func parseAsk(line string) (a ask, err error) {
	left, right, ok := strings.Cut(line, " -> ")
	if !ok {
		return a, fmt.Errorf("%q says no outcome", line)
	}
	a = ask{via: "edge", method: "GET", header: map[string]string{}, want: strings.Split(right, ", ")}
	words := strings.Fields(left)
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case word == "via":
			i++
			a.via = words[i]
		case strings.Contains(word, "://"):
			if a.url, err = url.Parse(word); err != nil {
				return a, err
			}
			_, rest, _ := strings.Cut(left, word)
			for pair := range strings.SplitSeq(strings.TrimSpace(rest), "; ") {
				if name, value, ok := strings.Cut(pair, ": "); ok {
					a.header[name] = value
				}
			}
			return a, nil
		case word == "event" || word == "status" || word == "slice" || word == "read":
			a.protocol, a.object = word, words[i+1]
			return a, nil
		case word == strings.ToUpper(word):
			a.method = word
		default:
			a.protocol = word
		}
	}
	return a, fmt.Errorf("%q asks nothing", line)
}

// TestIngresses shares one control plane between what can share it.
func TestIngresses(t *testing.T) {
	k := kube.Start(t)
	t.Run("manifests", func(t *testing.T) { testManifestsAreTaken(t, k) })
	t.Run("scenarios", func(t *testing.T) { testScenarios(t, k) })
	t.Run("trouble", func(t *testing.T) { testTrouble(t, k) }) // last: it stops the API server
}

// Every scenario of Ingress, against real pods: a real API server holds the
// objects, Gatehouse runs in pods of its own, requests enter by its entry points
// and are answered by echo pods that say what they saw.
func testScenarios(t *testing.T, k *kube.Kube) {
	all := readGroups(t)
	w := newWorld(t, k)
	static, changes := all[:len(all)-1], all[len(all)-1]
	began := time.Now()
	w.build(t, static)
	t.Logf("all pods run %v after the start", time.Since(began).Round(100*time.Millisecond))
	w.settle(t, static)
	for _, g := range static {
		for _, s := range g.scenarios {
			t.Run(s.title, func(t *testing.T) {
				for _, line := range s.lines {
					if err := w.judge(t.Context(), line); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	for _, s := range changes.scenarios {
		t.Run(s.title, func(t *testing.T) { w.change(t, s) })
	}
}

// settle waits until what the table says has been read everywhere: all
// outcomes are right once. What is not, the scenarios tell after that.
func (w *world) settle(t *testing.T, groups []group) {
	began := time.Now()
	for {
		var err error
		for _, g := range groups {
			for _, s := range g.scenarios {
				for _, line := range s.lines {
					if e := w.judge(t.Context(), line); e != nil {
						err = e
					}
				}
			}
		}
		took := time.Since(began).Round(100 * time.Millisecond)
		if err == nil {
			t.Logf("all is as it shall be after %v", took)
			return
		}
		if took > 60*time.Second {
			t.Logf("not all is as it shall be after %v", took)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// change does a scenario's commands and waits for each of its outcomes.
func (w *world) change(t *testing.T, s scenario) {
	applied := false
	apply := func() {
		if s.objects != "" && !applied {
			w.Apply(t, w.manifest(t, s.objects))
		}
		applied = true
	}
	if !strings.Contains(strings.Join(s.lines, "\n"), "apply") {
		apply()
	}
	for _, line := range s.lines {
		if line == "apply" {
			apply()
			continue
		}
		if command, ok := strings.CutPrefix(line, "kubectl "); ok {
			if _, err := w.Kubectl(t.Context(), "", strings.Fields(command)...); err != nil {
				t.Fatal(err)
			}
			continue
		}
		deadline := time.Now().Add(30 * time.Second)
		for err := w.judge(t.Context(), line); err != nil; err = w.judge(t.Context(), line) {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// judge does what a line asks and says what came instead of what was wanted.
func (w *world) judge(ctx context.Context, line string) error {
	a, err := parseAsk(line)
	if err != nil {
		return err
	}
	came, err := w.ask(ctx, a)
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	for i, want := range a.want {
		got := came.outcome
		if i > 0 {
			key, _, _ := strings.Cut(want, "=")
			fact, _, _ := strings.Cut(key, " ")
			if fact == "header" {
				got = key + "=" + strings.Join(came.echo.Header.Values(strings.TrimPrefix(key, "header ")), ", ")
			} else {
				got = fact + " " + came.fact(fact)
			}
		}
		if got != want {
			return fmt.Errorf("%s\n\tgot %s", line, got)
		}
	}
	return nil
}

// The page of the documentation is what the scenarios say.
func TestScenariosAreDocumented(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Scenarios of Ingress\n\n" +
		"What `go test ./e2e/kube -run TestIngresses/scenarios` asserts, in full: this page is made from `e2e/kube/testdata/scenarios` (`-update`), and the\n" +
		"test fails when they differ. The objects are there too. All parts are real: API server, EndpointSlice controller, pods that echo what they saw, Gatehouse\n" +
		"in pods. `via` names another Gatehouse than the one that serves the namespaces `alpha`, `beta` and `gamma`. An outcome is the Service whose\n" +
		"pod answered, or the status; then what that pod saw (`host`, `path`, `header`), or what the client got (`certificate`, `over`). `event` and `status` are the\n" +
		"API server's, `spread` is how many pods answered of many requests, `read` the namespaces of which a ServiceAccount was let have anything, by the\n" +
		"audit log. All pass.\n")
	for _, g := range readGroups(t) {
		fmt.Fprintf(&b, "\n## %s\n\n| scenario | asserted |\n|---|---|\n", g.title)
		for _, s := range g.scenarios {
			for i, line := range s.lines {
				title := ""
				if i == 0 {
					title = s.title
				}
				line = strings.ReplaceAll(line, " -> ", "` → `")
				fmt.Fprintf(&b, "| %s | `%s` |\n", title, strings.ReplaceAll(line, "|", `\|`))
			}
		}
	}
	file := filepath.Join(rig.Root(), "docs/providers/ingress-scenarios.md")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(now, b.Bytes()) {
		t.Errorf("%s is not what the scenarios say; go test ./e2e/kube -run TestScenariosAreDocumented -update", file)
	}
}
