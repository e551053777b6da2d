package rig

import (
	"os/exec"
	"testing"
	"time"
)

// The rig is only worth what its servers really do: each is asked for the one
// thing the other tests rely on.

func TestEtcdServesBothAPIsAndKeepsItsDataOverARestart(t *testing.T) {
	e := StartEtcd(t)
	ctl := Binary(t, "etcdctl")
	for _, api := range []string{"2", "3"} {
		args := map[string][]string{"2": {"set", "/a", "b"}, "3": {"put", "/a", "b"}}[api]
		run(t, "ETCDCTL_API="+api, ctl, append([]string{"--endpoints=" + e.URL()}, args...)...)
	}
	if err := e.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "ETCDCTL_API=2", ctl, "--endpoints="+e.URL(), "get", "/a"); got != "b\n" {
		t.Errorf("after a restart, v2 /a = %q", got)
	}
}

func TestPebbleAnswersOverTLS(t *testing.T) {
	p := StartPebble(t, PebbleOptions{})
	if _, err := p.Issued(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestKnotTakesASignedUpdateAndServesIt(t *testing.T) {
	k := StartKnot(t, "example.test")
	if err := k.Set(t.Context(), "example.test", "_acme-challenge.example.test", "TXT", "hello"); err != nil {
		t.Fatalf("%v; knot says:\n%s", err, tail(k.Log))
	}
	got, err := k.TXT(t.Context(), "_acme-challenge.example.test")
	if err != nil || len(got) != 1 || got[0] != "hello" {
		t.Fatalf("TXT = %q, %v", got, err)
	}
}

func run(t *testing.T, env, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(cmd.Environ(), env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", path, args, err, out)
	}
	return string(out)
}
