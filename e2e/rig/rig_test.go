package rig

import (
	"context"
	"encoding/base64"
	"os/exec"
	"testing"
	"time"

	"github.com/miekg/dns"
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
	m := new(dns.Msg)
	m.SetUpdate("example.test.")
	rr, _ := dns.NewRR("_acme-challenge.example.test. 5 IN TXT \"hello\"")
	m.Insert([]dns.RR{rr})
	if _, err := base64.StdEncoding.DecodeString(k.Secret); err != nil {
		t.Fatal(err)
	}
	m.SetTsig(k.KeyName+".", dns.HmacSHA256, 300, time.Now().Unix())
	c := &dns.Client{Net: "tcp", TsigSecret: map[string]string{k.KeyName + ".": k.Secret}}
	in, _, err := c.Exchange(m, k.Addr())
	if err != nil || in.Rcode != dns.RcodeSuccess {
		t.Fatalf("update: %v %v; knot says:\n%s", in, err, tail(k.Log))
	}
	q := new(dns.Msg)
	q.SetQuestion("_acme-challenge.example.test.", dns.TypeTXT)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	in, _, err = new(dns.Client).ExchangeContext(ctx, q, k.Addr())
	if err != nil || len(in.Answer) != 1 {
		t.Fatalf("query: %v %v", in, err)
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
