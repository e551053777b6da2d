package exec

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/dnstest"
	"gatehouse/internal/acme/dns/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dns.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func build(t *testing.T, given ...string) *Provider {
	t.Helper()
	m := map[string]string{"EXEC_PATH": given[0]}
	if len(given) > 1 {
		m["EXEC_MODE"] = given[1]
	}
	p, err := New(setting.Source{Given: m})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestContract: a script that keeps each value in a file of its own.
func TestContract(t *testing.T) {
	dir := t.TempDir()
	path := script(t, `case $1 in present) : > "`+dir+`/$2=$3";; cleanup) rm -f "`+dir+`/$2=$3";; esac`)
	dnstest.Contract(t, "example.org", func() dns.Provider { return build(t, path) }, func(name string) (values []string) {
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			if at, v, _ := strings.Cut(f.Name(), "="); at == name+"." {
				values = append(values, v)
			}
		}
		return values
	})
}

var rec = dns.Record{Zone: "example.org", Name: "_acme-challenge.a.example.org", Value: "-v", Domain: "a.example.org", KeyAuth: "tok.thumb"}

func TestArguments(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	path := script(t, `echo "$#" "$@" >> `+out)
	for _, p := range []*Provider{build(t, path), build(t, path, "raw")} {
		if err := p.Present(t.Context(), rec); err != nil {
			t.Error(err)
		}
		if err := p.CleanUp(t.Context(), rec); err != nil {
			t.Error(err)
		}
	}
	want := "3 present _acme-challenge.a.example.org. -v\n3 cleanup _acme-challenge.a.example.org. -v\n" +
		"5 present -- a.example.org tok tok.thumb\n5 cleanup -- a.example.org tok tok.thumb\n"
	if got, _ := os.ReadFile(out); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestErrors(t *testing.T) {
	failing := script(t, "seq 1 1000; echo 'no such zone' >&2; exit 3")
	err := build(t, failing).Present(t.Context(), rec)
	if says := "exec: " + failing + " present _acme-challenge.a.example.org.: exit status 3, and it printed: "; err == nil || !strings.HasPrefix(err.Error(), says) ||
		!strings.HasSuffix(err.Error(), " 999 1000 no such zone") || len(err.Error()) > 700 {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = build(t, script(t, "exec sleep 60")).CleanUp(ctx, rec)
	if err == nil || !strings.Contains(err.Error(), "deadline exceeded, and it printed nothing") || time.Since(start) > 5*time.Second {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
	old := rec
	old.KeyAuth = ""
	if err := build(t, failing, "RAW").Present(t.Context(), old); err == nil || !strings.Contains(err.Error(), "older version") {
		t.Error(err)
	}
	for says, given := range map[string]map[string]string{
		"EXEC_PATH is not set: the program":                    {},
		"no such file":                                         {"EXEC_PATH": failing + "x"},
		`EXEC_MODE="COOKED": must be RAW or not set`:           {"EXEC_PATH": failing, "EXEC_MODE": "cooked"},
		`unknown setting "EXEC_PAHT", did you mean EXEC_PATH?`: {"EXEC_PATH": failing, "EXEC_PAHT": "me"},
	} {
		if _, err := New(setting.Source{Given: given}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
