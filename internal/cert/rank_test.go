package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// Who tries a CA out and then names the real one must not have the first one's
// certificate served for as long as that lasts.
func TestFormerIssuerYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		trial, ca := newSmallCA(t, 90*day), newSmallCA(t, 6*day)
		for _, name := range []string{"a.example.com", "only.example.com"} {
			if _, err := Import(t.Context(), mem.Replica("tool"), "trial", trial.bundle([]string{name}, time.Now(), time.Now().Add(90*day))); err != nil {
				t.Fatal(err)
			}
		}
		r := start(t, mem, ca, "r1", wantNames("a.example.com"))
		time.Sleep(time.Hour)
		if got := r.mustServe("a.example.com"); time.Until(got.NotAfter) > 7*day {
			t.Errorf("served until %v, which is of the CA before", got.NotAfter)
		}
		if got := r.mustServe("only.example.com"); time.Until(got.NotAfter) < 80*day {
			t.Errorf("served until %v, but there is one of the CA before", got.NotAfter)
		}
	})
}

func TestCertificateToComeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		now := time.Now()
		x := must(NewIndex(IndexOptions{}))
		x.SetStatic([]tls.Certificate{
			tlsCert(key, "now", now.Add(10*day), "a.example.com", "*.example.net"),
			tlsCert(key, "to come", now.Add(91*day), "a.example.com", "only.example.com", "b.example.net"), // of 90 days
		})
		want := func(name, label string) {
			t.Helper()
			c, err := x.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
			if err != nil || must(x509.ParseCertificate(c.Certificate[0])).Subject.CommonName != label {
				t.Errorf("%s: %v, want %q", name, err, label)
			}
		}
		want("a.example.com", "now")
		want("b.example.net", "now") // the wildcard
		want("only.example.com", "to come")
		time.Sleep(25 * time.Hour)
		x.Refresh()
		want("a.example.com", "to come")
		want("b.example.net", "to come")
	})
}
