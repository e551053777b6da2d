package entrypoint

import (
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gatehouse/e2e/rig"
)

// besideHTTP1 are the cases that fail where HTTP/1.1 is served on the same
// socket, and why.
var besideHTTP1 = map[string]string{
	"http2/3.5: Sends invalid connection preface": "what is no preface is HTTP/1.1, and gets its 400",
}

// TestH2spec runs the h2spec suite (as `make tools` built it) against an entry
// point.
func TestH2spec(t *testing.T) {
	if testing.Short() {
		t.Skip("h2spec is a process of its own, and takes some seconds")
	}
	spec, err := rig.Find("h2spec")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintln(w, "hello, h2spec")
	})
	both(t, Options{Handler: handler}, func(t *testing.T, s *Server) { h2spec(t, spec, s) })
}

func h2spec(t *testing.T, spec string, s *Server) {
	host, port, _ := net.SplitHostPort(s.Addr().String())
	args := []string{"-h", host, "-p", port, "-S", "-o", "1"}
	if s.opts.TLS != nil {
		args = append(args, "-t", "-k")
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	out, err := exec.Command(spec, append(args, "-j", report)...).CombinedOutput()
	t.Logf("h2spec: %v", err)
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var suites struct {
		Suites []struct {
			Cases []struct {
				Package string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failure string    `xml:"failure"`
				Error   string    `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	passed, skipped := 0, 0
	for _, suite := range suites.Suites {
		for _, c := range suite.Cases {
			name := c.Package + ": " + c.Name
			switch {
			case c.Skipped != nil:
				skipped++
				t.Logf("skipped by h2spec: %s", name)
			case c.Failure == "" && c.Error == "":
				passed++
			case s.opts.TLS == nil && besideHTTP1[name] != "":
				t.Logf("fails as it should, %s: %s", besideHTTP1[name], name)
			default:
				t.Errorf("%s\n%s%s", name, c.Failure, c.Error)
			}
		}
	}
	t.Logf("%d passed, %d skipped", passed, skipped)
	if passed < 140 {
		t.Errorf("only %d cases ran\n%s", passed, out)
	}
}
