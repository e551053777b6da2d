package cert

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/store"
)

func TestCertificateValue(t *testing.T) {
	ca := newSmallCA(t, 90*day)
	names := []string{"example.com", "*.example.com", "10.0.0.1"}
	b := ca.bundle(names, noon, noon.Add(90*day))
	c := must(Check(b, names))
	c.Obtained = noon
	k := key{"ca", ID(names)}
	value := must(c.encode(b, 42))
	back, err := decodeCertificate(k, value)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Leaf().Equal(c.Leaf()) || back.Issuer != "ca" || back.ID != k.id || !back.Obtained.Equal(noon) {
		t.Errorf("read back: %+v", back)
	}
	var seen map[string]any
	if err := json.Unmarshal(value, &seen); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"version", "names", "serial", "notAfter", "obtained", "epoch", "chain", "key"} {
		if seen[field] == nil {
			t.Errorf("the value has no %s", field)
		}
	}
	if _, err := decodeCertificate(k, bytes.Replace(value, []byte(`"version"`), []byte(`"later":1,"version"`), 1)); err != nil {
		t.Errorf("with a key of a later version: %v", err)
	}
	for what, bad := range map[string][]byte{
		"version 2":   bytes.Replace(value, []byte(`"version": 1`), []byte(`"version": 2`), 1),
		"after top":   append(bytes.Clone(value), value...),
		"key ends in": bytes.Replace(value, []byte(`"example.com",`), []byte(`"example.org",`), 1),
		"unexpected":  value[:len(value)-2],
		"parse cert":  bytes.Replace(value, []byte(`MII`), []byte(`MIJ`), 1),
	} {
		if _, err := decodeCertificate(k, bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAttemptValue(t *testing.T) {
	a := attempt{Version: 1, Failures: 2, Error: "dns-01 a.example.com: REFUSED", Replica: "r1", Last: noon, Next: noon.Add(time.Hour)}
	back, err := decodeAttempt(must(a.encode()))
	if d := cmp.Diff(a, back); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	// Our own longest value is read back, whatever the CA put into its answer.
	a.Error = strings.Repeat("<\x00\xff", 5000)
	if _, err := decodeAttempt(must(a.encode())); err != nil {
		t.Error(err)
	}
	for what, bad := range map[string]attempt{
		"failures is 0":   {Last: noon, Next: noon},
		"does not follow": {Failures: 1, Last: noon, Next: noon.AddDate(7000, 0, 0)},
		"next attempt":    {Failures: 1, Last: noon, Next: noon.Add(-time.Hour)},
	} {
		if _, err := decodeAttempt(must(bad.encode())); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestImportRefusesWhatCannotBeServed(t *testing.T) {
	ca := newSmallCA(t, 90*day)
	r := store.NewMem(0).Replica("r")
	good := ca.bundle([]string{"a.example.com"}, noon, noon.Add(day))
	for what, b := range map[string]Bundle{
		"no names":  ca.bundle(nil, noon, noon.Add(day)),
		"before it": ca.bundle([]string{"a.example.com"}, noon, noon.Add(-day)),
		"private":   {Chain: good.Chain, Key: ca.bundle([]string{"a"}, noon, noon.Add(day)).Key},
		"bytes":     {Chain: bytes.Repeat(good.Chain, 1000), Key: good.Key},
		"more than": {Chain: bytes.Repeat(good.Chain, maxChain+1), Key: good.Key},
	} {
		if _, err := Import(t.Context(), r, "ca", b); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzDecodeCertificate(f *testing.F) {
	ca := newSmallCA(f, 90*day)
	names := []string{"example.com", "10.0.0.1"}
	k := key{"ca", ID(names)}
	b := ca.bundle(names, noon, noon.Add(90*day))
	c := must(Check(b, names))
	value := must(c.encode(b, 1))
	f.Add(value)
	f.Add(value[:len(value)/2])
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := decodeCertificate(k, value)
		if err != nil {
			return
		}
		if c.ID != k.id || c.Leaf() == nil || c.TLS.PrivateKey == nil || c.Leaf().VerifyHostname("example.com") != nil {
			t.Errorf("accepted: %+v", c)
		}
	})
}

func FuzzDecodeAttempt(f *testing.F) {
	f.Add(must(attempt{Failures: 1, Error: "no", Last: noon, Next: noon}.encode()))
	f.Add([]byte(`{"version":1,"failures":9e9}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		a, err := decodeAttempt(value)
		if err == nil && (a.Failures < 1 || a.Next.Sub(a.Last) > maxDelay) {
			t.Errorf("accepted: %+v", a)
		}
	})
}

func TestPair(t *testing.T) {
	chain, key, ok := Pair([]byte(`{"version":1,"chain":"c","key":"k"}`))
	if !ok || string(chain) != "c" || string(key) != "k" {
		t.Errorf("%q, %q, %v", chain, key, ok)
	}
	for _, value := range []string{"", "{}", "x", `{"chain":"c"}`} {
		if _, _, ok := Pair([]byte(value)); ok {
			t.Errorf("%q is taken for a certificate", value)
		}
	}
}
