//go:build lego

package lego

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"gatehouse/internal/acme/dns/dnstest"
)

// TestTable: what lego has is there, what we have ourselves is not.
func TestTable(t *testing.T) {
	if n := len(Names()); n < 199 {
		t.Errorf("%d names", n)
	}
	for _, ours := range []string{"route53", "dnsupdate", "rfc2136", "cloudflare", "gcloud", "azuredns", "digitalocean", "exec", "httpreq", "acme-dns", "manual"} {
		if table[ours] != nil {
			t.Errorf("%s is in lego's table", ours)
		}
	}
	if _, known, err := Build("bindman", Options{}); !known || err == nil || !strings.Contains(err.Error(), "BINDMAN_MANAGER_ADDRESS") {
		t.Errorf("without settings: known %v, %v", known, err)
	}
	if p, known, err := Build("route35", Options{}); p != nil || known || err != nil {
		t.Errorf("unknown: %v, %v", known, err)
	}
}

// TestRealProvider has one of lego's providers write the record, by name and
// value as we would.
func TestRealProvider(t *testing.T) {
	r := dnstest.Record(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	t.Setenv("BINDMAN_MANAGER_ADDRESS", r.URL)
	t.Setenv("LEGO_DISABLE_CNAME_SUPPORT", "true")
	p, _, err := Build("bindman", Options{Resolvers: []string{"127.0.0.1:9"}})
	if err != nil {
		t.Fatal(err)
	}
	record := rec("_acme-challenge.a.example.org", "a.example.org", "tok")
	sum := sha256.Sum256([]byte(record.KeyAuth))
	record.Value = base64.RawURLEncoding.EncodeToString(sum[:])
	if err := p.Present(t.Context(), record); err != nil {
		t.Error(err)
	}
	if err := p.CleanUp(t.Context(), record); err != nil {
		t.Error(err)
	}
	lines := r.Take()
	if len(lines) != 2 || !strings.Contains(lines[0], "_acme-challenge.a.example.org") || !strings.Contains(lines[0], record.Value) || !strings.HasPrefix(lines[1], "DELETE ") {
		t.Errorf("asked %q", lines)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
